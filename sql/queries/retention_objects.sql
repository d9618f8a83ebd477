-- The next objects that serve a chunk, at their loaded versions, in the order of their uris. $1 and $2: start and end
-- (exclusive) of the chunk, $3: the last one before them; null for the first ones, $4: objects at most. (Without
-- OFFSET 0, the planner may read the whole index of slices by their buckets, and without the subquery all objects.)
WITH RECURSIVE assets AS (
    (SELECT s.asset FROM ingestion.object_slices s ORDER BY s.asset LIMIT 1)
    UNION ALL
    SELECT (SELECT s.asset FROM ingestion.object_slices s WHERE s.asset > a.asset ORDER BY s.asset LIMIT 1)
      FROM assets a WHERE a.asset IS NOT NULL
)
SELECT coalesce(json_agg(json_build_array(f.s3_uri, f.etag) ORDER BY f.s3_uri), '[]')::text
  FROM (SELECT DISTINCT s.s3_uri, s.etag
          FROM assets a
         CROSS JOIN LATERAL (SELECT i.s3_uri, i.etag, i.ticks FROM ingestion.object_slices i
                              WHERE i.asset = a.asset AND i.bucket_5m >= $1 AND i.bucket_5m < $2 OFFSET 0) AS s
         WHERE s.ticks > 0 AND ($3::text IS NULL OR s.s3_uri > $3)
           AND s.etag = (SELECT o.etag FROM ingestion.objects o WHERE o.s3_uri = s.s3_uri)
         ORDER BY s.s3_uri LIMIT $4) AS f
