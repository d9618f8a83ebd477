-- The last objects of a backfill, in reverse order of (span, uri), without those whose prefix waits for S3; each with
-- the beginning of its span in microseconds since 2000, or infinity. They are for a worker whose own share is done: it
-- helps the other workers from the end of their shares. Objects that are loaded again wait as in backfill_claim.sql.
-- $1: backfill, $2 and $3: span and uri before which to continue, $4: objects at most.
SELECT coalesce(json_agg(json_build_object(
           'uri', c.s3_uri, 'span', trunc((extract(epoch FROM c.span_from) - 946684800) * 1000000))
       ORDER BY c.span_from DESC, c.s3_uri DESC), '[]')::text
  FROM (
    SELECT o.s3_uri, o.span_from
      FROM ingestion.objects o
     WHERE o.backfill = $1 AND o.status = 'pending' AND (o.span_from, o.s3_uri) < ($2, $3)
       AND NOT (o.reload AND EXISTS (
            SELECT FROM ingestion.object_slices s
              JOIN ingestion.object_slices e
                ON e.asset = s.asset
               AND e.bucket_5m BETWEEN s.bucket_5m - interval '5 minutes' AND s.bucket_5m + interval '5 minutes'
              JOIN ingestion.objects p ON p.s3_uri = e.s3_uri AND p.etag = e.etag
             WHERE s.s3_uri = o.s3_uri AND s.etag = o.etag AND p.backfill = $1 AND p.reload
               AND p.status IN ('pending', 'failed') AND p.load_order < o.load_order))
       AND NOT o.s3_uri ^@ ANY (ARRAY(SELECT t.prefix FROM ingestion.outages t WHERE t.ended_at IS NULL))
     ORDER BY o.span_from DESC, o.s3_uri DESC
     LIMIT $4
  ) AS c
