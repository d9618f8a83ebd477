-- Objects of a backfill whose footers must be read for their times. If both ends are -infinity, the footer was read
-- and has no times. $1: backfill, $2: objects at most.
SELECT coalesce(json_agg(o.s3_uri), '[]')::text
  FROM (SELECT s3_uri FROM ingestion.objects
         WHERE backfill = $1 AND status = 'pending' AND span_from = '-infinity' AND span_to = 'infinity'
         ORDER BY span_from, s3_uri LIMIT $2) AS o
