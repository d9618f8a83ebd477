-- Objects of a backfill under a prefix that waits for S3. $1: backfill, $2: prefix, $3: objects at most.
SELECT coalesce(json_agg(c.s3_uri), '[]')::text
  FROM (SELECT o.s3_uri FROM ingestion.objects o
         WHERE o.backfill = $1 AND o.status = 'pending' AND o.s3_uri ^@ $2
         ORDER BY o.span_from, o.s3_uri LIMIT $3) AS c
