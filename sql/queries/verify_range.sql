-- The loaded versions of all objects that hold ticks of an asset's slices, each with these slices, in the order of
-- their times. $1: asset, $2 and $3: first bucket and end (exclusive).
SELECT coalesce(json_agg(json_build_object('uri', s3_uri, 'etag', etag, 'slices', slices) ORDER BY first, s3_uri),
                '[]')::text
  FROM (
    SELECT o.s3_uri, o.etag, min(s.bucket_5m) AS first,
           json_agg(json_build_object('bucket', (extract(epoch FROM s.bucket_5m) * 1000000)::bigint, 'asset', s.asset,
                                      'shared', false)) AS slices
      FROM ingestion.object_slices s
      JOIN ingestion.objects o ON o.s3_uri = s.s3_uri AND o.etag = s.etag
     WHERE s.asset = $1 AND s.bucket_5m >= $2 AND s.bucket_5m < $3
     GROUP BY o.s3_uri, o.etag
  ) AS objects
