-- Those of the claimed uris in $1 that are still to be loaded: seen with a snapshot taken after the claim. begun: an attempt
-- that has no result.
SELECT coalesce(json_agg(json_build_object('uri', o.s3_uri, 'generation', o.generation, 'live', o.backfill IS NULL,
                                           'begun', o.attempt_started_at IS NOT NULL)), '[]')::text
  FROM ingestion.objects o
 WHERE o.s3_uri = ANY ($1) AND o.status = 'pending'
