-- Those claimed objects that are still pending, by a snapshot that was taken after the claim; their rows are locked.
-- begun: an earlier attempt has no result. It leaves objects of which another session holds the row, e.g. by a command
-- in an open transaction, or a registry row, e.g. a producer: the load would wait for it. $1: uris.
WITH free AS MATERIALIZED (
    SELECT b.s3_uri FROM landing.raw_blobs_5m b
     WHERE b.s3_uri = ANY ($1) AND b.status IN ('pending', 'failed')
       FOR SHARE SKIP LOCKED
)
SELECT coalesce(json_agg(json_build_object('uri', o.s3_uri, 'generation', o.generation, 'live', o.backfill IS NULL,
                                           'begun', o.attempt_started_at IS NOT NULL)), '[]')::text
  FROM (SELECT * FROM ingestion.objects
         WHERE s3_uri = ANY ($1) AND status = 'pending'
           FOR UPDATE SKIP LOCKED) AS o
 WHERE (SELECT count(*) FROM landing.raw_blobs_5m b
         WHERE b.s3_uri = o.s3_uri AND b.status IN ('pending', 'failed'))
       = (SELECT count(*) FROM free f WHERE f.s3_uri = o.s3_uri)
