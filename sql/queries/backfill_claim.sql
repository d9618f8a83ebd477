-- The next objects of a backfill in order of (span, uri), without those whose prefix waits for S3; each with the
-- beginning of its span in microseconds since 2000, or infinity. With several workers, each takes objects of other
-- chunks, so that two workers fill different chunks. An object that is loaded again waits for those that came before it
-- in the order of loads and share a slice, or neighbouring ones, with it. $1: backfill, $2 and $3: span and uri after
-- which to continue, $4: number of this worker, $5: number of workers (1: take all objects), $6: chunk interval in
-- microseconds, $7: objects at most.
SELECT coalesce(json_agg(json_build_object(
           'uri', c.s3_uri, 'span', trunc((extract(epoch FROM c.span_from) - 946684800) * 1000000))
       ORDER BY c.span_from, c.s3_uri), '[]')::text
  FROM (
    SELECT o.s3_uri, o.span_from
      FROM ingestion.objects o
     WHERE o.backfill = $1 AND o.status = 'pending' AND (o.span_from, o.s3_uri) > ($2, $3)
       AND NOT o.s3_uri ^@ ANY (ARRAY(SELECT t.prefix FROM ingestion.outages t WHERE t.ended_at IS NULL))
       AND ($5 = 1 OR CASE WHEN isfinite(o.span_from)
                           THEN mod(abs(floor(extract(epoch FROM o.span_from) * 1000000 / $6)::bigint), $5)
                           ELSE mod(abs(hashtext(o.s3_uri)::bigint), $5) END = $4)
       AND NOT (o.reload AND EXISTS (
            SELECT FROM ingestion.object_slices s
              JOIN ingestion.object_slices e
                ON e.asset = s.asset
               AND e.bucket_5m BETWEEN s.bucket_5m - interval '5 minutes' AND s.bucket_5m + interval '5 minutes'
              JOIN ingestion.objects p ON p.s3_uri = e.s3_uri AND p.etag = e.etag
             WHERE s.s3_uri = o.s3_uri AND s.etag = o.etag AND p.backfill = $1 AND p.reload
               AND p.status IN ('pending', 'failed') AND p.load_order < o.load_order))
     ORDER BY o.span_from, o.s3_uri
     LIMIT $7
  ) AS c
