-- Objects that are known to hold ticks of a slice, in the order in which they were loaded. $1: asset, $2: a time in
-- the bucket.
SELECT coalesce(json_agg(u.s3_uri ORDER BY u.loaded_at NULLS LAST, u.s3_uri), '[]')::text
  FROM (
    SELECT f.s3_uri, max(f.loaded_at) AS loaded_at
      FROM (
        SELECT s.s3_uri, s.loaded_at FROM ingestion.object_slices s
         WHERE s.asset = $1 AND s.bucket_5m = date_bin('5 minutes', $2, 'epoch'::timestamptz)
        UNION ALL
        SELECT b.s3_uri, b.loaded_at FROM landing.raw_blobs_5m b
         WHERE b.asset = $1 AND b.bucket_5m = date_bin('5 minutes', $2, 'epoch'::timestamptz) AND b.status = 'loaded'
      ) AS f
     GROUP BY f.s3_uri
  ) AS u
