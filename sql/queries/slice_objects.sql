-- Objects that are known to hold ticks of a slice, in the order of loads, in which they are loaded again. $1: asset,
-- $2: a time in the bucket.
SELECT coalesce(json_agg(f.s3_uri ORDER BY o.load_order NULLS LAST, f.s3_uri), '[]')::text
  FROM (
    SELECT s.s3_uri FROM ingestion.object_slices s
     WHERE s.asset = $1 AND s.bucket_5m = date_bin('5 minutes', $2, 'epoch'::timestamptz)
    UNION
    SELECT b.s3_uri FROM landing.raw_blobs_5m b
     WHERE b.asset = $1 AND b.bucket_5m = date_bin('5 minutes', $2, 'epoch'::timestamptz) AND b.status = 'loaded'
  ) AS f
  LEFT JOIN ingestion.objects o ON o.s3_uri = f.s3_uri
