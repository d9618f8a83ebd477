-- Whether nobody else holds a registry row of the object $1 that a failed attempt would change; if so, they are locked.
WITH free AS MATERIALIZED (
    SELECT FROM landing.raw_blobs_5m WHERE s3_uri = $1 AND status IN ('pending', 'failed') FOR NO KEY UPDATE SKIP LOCKED
)
SELECT to_json((SELECT count(*) FROM landing.raw_blobs_5m WHERE s3_uri = $1 AND status IN ('pending', 'failed'))
               = (SELECT count(*) FROM free))::text
