-- The next objects of backfill $1 behind (span, uri) = ($2, $3). $4 of $5: only those whose chunk is this worker's, so that
-- two workers fill different chunks; $5 = 1 takes all. $6: the chunk interval in microseconds, $7: how many.
SELECT coalesce(json_agg(json_build_object('uri', c.s3_uri, 'span', c.span_from::text) ORDER BY c.span_from, c.s3_uri), '[]')::text
  FROM (
    SELECT o.s3_uri, o.span_from
      FROM ingestion.objects o
     WHERE o.backfill = $1 AND o.status = 'pending' AND (o.span_from, o.s3_uri) > ($2::timestamptz, $3)
       AND ($5 = 1 OR CASE WHEN isfinite(o.span_from)
                           THEN mod(floor(extract(epoch FROM o.span_from) * 1000000 / $6)::bigint, $5)
                           ELSE mod(abs(hashtext(o.s3_uri)::bigint), $5) END = $4)
     ORDER BY o.span_from, o.s3_uri
     LIMIT $7
  ) AS c
