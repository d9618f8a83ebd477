-- Registry rows that are not enqueued yet, in the order of their key; they are locked. It leaves a row that its
-- producer holds for the next time. The etag and the size that a producer registers save a request to S3. What a row
-- holds beyond the limits for producers is not returned, but why it is refused: registry_pending() in migrate.sql
-- refuses the same when a producer writes it. Buckets are microseconds since 2000, or infinity. $1: rows at most, $2
-- and $3: bucket and asset behind which to begin (null: at the first row), $4: uris whose rows are left out.
SELECT coalesce(json_agg(json_build_object(
           'uri', CASE WHEN octet_length(f.s3_uri) <= 1100 THEN f.s3_uri ELSE left(f.s3_uri, 200) END,
           'bucket', trunc((extract(epoch FROM f.bucket_5m) - 946684800) * 1000000), 'asset', f.asset,
           'size', f.object_size_bytes, 'fault', f.fault,
           'etag', CASE WHEN f.fault IS NULL THEN f.metadata ->> 'etag' END,
           'metadata', CASE WHEN f.fault IS NULL THEN f.metadata END)), '[]')::text
  FROM (SELECT p.bucket_5m, p.asset, p.s3_uri, p.object_size_bytes, p.metadata,
               CASE WHEN octet_length(p.s3_uri) > 1100 THEN 's3_uri is longer than 1,100 bytes'
                    WHEN p.s3_uri ~ '[[:cntrl:]]' THEN 's3_uri holds a control character'
                    WHEN octet_length(p.asset) > 255 THEN 'asset is longer than 255 bytes'
                    WHEN p.asset ~ '[[:cntrl:]]' THEN 'asset holds a control character'
                    WHEN p.bucket_5m < timestamptz '1970-01-01 00:00:00+00'
                         OR p.bucket_5m >= timestamptz '2200-01-01 00:00:00+00'
                         THEN 'bucket_5m is before 1970 or after 2199'
                    WHEN p.bucket_5m <> date_bin('5 minutes', p.bucket_5m, timestamptz '1970-01-01 00:00:00+00')
                         THEN 'bucket_5m is not the start of a 5-minute bucket'
                    WHEN p.object_size_bytes < 0 THEN 'object_size_bytes is negative'
                    WHEN p.metadata IS NULL THEN NULL
                    -- The stored size is known without reading the value.
                    WHEN pg_column_size(p.metadata) > 65536 OR octet_length(p.metadata::text) > 65536
                         THEN 'metadata is longer than 65,536 bytes'
                    WHEN jsonb_typeof(p.metadata) NOT IN ('object', 'null') THEN 'metadata is not a JSON object'
                    WHEN jsonb_path_exists(p.metadata, '$.**{33}') THEN 'metadata is nested more than 32 deep'
                    WHEN jsonb_path_exists(p.metadata, '$.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))')
                         THEN 'metadata holds a number beyond 1e300'
                    WHEN octet_length(p.metadata ->> 'etag') > 256 THEN 'the etag is longer than 256 bytes'
                    WHEN p.metadata ->> 'etag' ~ '[[:cntrl:]]' THEN 'the etag holds a control character'
               END AS fault
          FROM landing.raw_blobs_5m p
         WHERE p.status = 'pending' AND p.queued_at IS NULL
           AND (p.bucket_5m, p.asset) > (coalesce($2, '-infinity'), coalesce($3, ''))
           AND p.s3_uri <> ALL ($4)
         ORDER BY p.bucket_5m, p.asset
         LIMIT $1
           FOR UPDATE SKIP LOCKED) AS f
