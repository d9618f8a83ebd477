-- The same from the other end, for a worker that has nothing left of its own: it meets its neighbours last. $1 backfill,
-- ($2, $3) before what, $4 how many.
SELECT coalesce(json_agg(json_build_object('uri', c.s3_uri, 'span', c.span_from::text) ORDER BY c.span_from DESC, c.s3_uri DESC), '[]')::text
  FROM (
    SELECT o.s3_uri, o.span_from
      FROM ingestion.objects o
     WHERE o.backfill = $1 AND o.status = 'pending' AND (o.span_from, o.s3_uri) < ($2::timestamptz, $3)
     ORDER BY o.span_from DESC, o.s3_uri DESC
     LIMIT $4
  ) AS c
