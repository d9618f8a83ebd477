-- Those of the claimed uris in $1 that are still to be loaded: seen with a snapshot taken after the claim. begun: an attempt
-- that has no result. A row that somebody holds, by a verb in an open transaction, is left: nobody is to wait for him.
SELECT coalesce(json_agg(json_build_object('uri', o.s3_uri, 'generation', o.generation, 'live', o.backfill IS NULL,
                                           'begun', o.attempt_started_at IS NOT NULL)), '[]')::text
  FROM (SELECT * FROM ingestion.objects
         WHERE s3_uri = ANY ($1) AND status = 'pending'
           FOR UPDATE SKIP LOCKED) AS o
