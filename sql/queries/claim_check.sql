-- Those claimed objects that are still pending, by a snapshot that was taken after the claim; their rows are locked.
-- begun: an earlier attempt has no result. It leaves rows that another session holds, e.g. by a command in an open
-- transaction, because it must not wait. $1: uris.
SELECT coalesce(json_agg(json_build_object('uri', o.s3_uri, 'generation', o.generation, 'live', o.backfill IS NULL,
                                           'begun', o.attempt_started_at IS NOT NULL)), '[]')::text
  FROM (SELECT * FROM ingestion.objects
         WHERE s3_uri = ANY ($1) AND status = 'pending'
           FOR UPDATE SKIP LOCKED) AS o
