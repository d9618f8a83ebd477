-- The last objects of a backfill, in reverse order of (span, uri), for a worker whose own share is done: it helps the
-- other workers from the end of their shares. $1: backfill, $2 and $3: span and uri before which to continue, $4:
-- objects at most.
SELECT coalesce(json_agg(json_build_object('uri', c.s3_uri, 'span', c.span_from::text)
                         ORDER BY c.span_from DESC, c.s3_uri DESC), '[]')::text
  FROM (
    SELECT o.s3_uri, o.span_from
      FROM ingestion.objects o
     WHERE o.backfill = $1 AND o.status = 'pending' AND (o.span_from, o.s3_uri) < ($2::timestamptz, $3)
       AND NOT o.s3_uri ^@ ANY (ARRAY(SELECT t.prefix FROM ingestion.outages t))
     ORDER BY o.span_from DESC, o.s3_uri DESC
     LIMIT $4
  ) AS c
