-- The last bucket that objects of a window hold of the asset, also behind the window. $1: asset, $2 and $3: first
-- bucket and end (exclusive) of the window.
WITH objects AS (
    SELECT DISTINCT s.s3_uri, s.etag
      FROM ingestion.object_slices s
     WHERE s.asset = $1 AND s.bucket_5m >= $2 AND s.bucket_5m < $3
)
SELECT to_json((extract(epoch FROM max(s.bucket_5m)) * 1000000)::bigint)::text
  FROM objects o JOIN ingestion.object_slices s ON s.s3_uri = o.s3_uri AND s.etag = o.etag
 WHERE s.asset = $1
