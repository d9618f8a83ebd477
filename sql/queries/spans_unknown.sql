-- Objects of backfill $1 whose times nobody knows yet; both ends at -infinity: the footer was read and does not say. $2: how many.
SELECT coalesce(json_agg(o.s3_uri), '[]')::text
  FROM (SELECT s3_uri FROM ingestion.objects
         WHERE backfill = $1 AND status = 'pending' AND span_from = '-infinity' AND span_to = 'infinity'
         ORDER BY span_from, s3_uri LIMIT $2) AS o
