-- The next objects that serve a chunk, at their loaded versions, in the order of their uris. $1 and $2: start and end
-- (exclusive) of the chunk, $3: the last one before them; null for the first ones, $4: objects at most.
WITH RECURSIVE assets AS (
    (SELECT s.asset FROM ingestion.object_slices s ORDER BY s.asset LIMIT 1)
    UNION ALL
    SELECT (SELECT s.asset FROM ingestion.object_slices s WHERE s.asset > a.asset ORDER BY s.asset LIMIT 1)
      FROM assets a WHERE a.asset IS NOT NULL
)
SELECT coalesce(json_agg(json_build_array(f.s3_uri, f.etag) ORDER BY f.s3_uri), '[]')::text
  FROM (SELECT DISTINCT o.s3_uri, o.etag
          FROM assets a
          JOIN ingestion.object_slices s ON s.asset = a.asset AND s.bucket_5m >= $1 AND s.bucket_5m < $2
          JOIN ingestion.objects o ON o.s3_uri = s.s3_uri AND o.etag = s.etag
         WHERE s.ticks > 0 AND ($3::text IS NULL OR s.s3_uri > $3)
         ORDER BY o.s3_uri LIMIT $4) AS f
