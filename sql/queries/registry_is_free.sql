-- Whether no other session holds a registry row that a failed attempt of the object would change. The rows are locked
-- then. $1: uri.
WITH free AS MATERIALIZED (
    SELECT FROM landing.raw_blobs_5m WHERE s3_uri = $1 AND status IN ('pending', 'failed') FOR NO KEY UPDATE SKIP LOCKED
)
SELECT to_json((SELECT count(*) FROM landing.raw_blobs_5m WHERE s3_uri = $1 AND status IN ('pending', 'failed'))
               = (SELECT count(*) FROM free))::text
