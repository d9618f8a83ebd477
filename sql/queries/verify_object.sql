-- The loaded version of an object and its slices, and whether other objects hold ticks of a slice as well. $1: uri.
SELECT coalesce(json_agg(json_build_object(
           'uri', o.s3_uri, 'etag', o.etag, 'slices', (
               SELECT coalesce(json_agg(json_build_object(
                          'bucket', (extract(epoch FROM s.bucket_5m) * 1000000)::bigint, 'asset', s.asset,
                          'shared', EXISTS (SELECT FROM ingestion.object_slices other
                                             WHERE other.asset = s.asset AND other.bucket_5m = s.bucket_5m
                                               AND other.s3_uri <> s.s3_uri))), '[]')
                 FROM ingestion.object_slices s WHERE s.s3_uri = o.s3_uri AND s.etag = o.etag))), '[]')::text
  FROM ingestion.objects o
 WHERE o.s3_uri = $1 AND o.loaded_at IS NOT NULL AND o.etag IS NOT NULL
