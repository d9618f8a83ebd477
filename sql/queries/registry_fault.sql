-- Why a row is beyond the limits for producers; null: it is not. enqueue_find.sql and registry_pending() in migrate.sql
-- have the same text, and a test compares the three: the trigger's function and this statement run with the privileges
-- of roles that may call no function of the extension. $1: uri, $2: asset, $3: a time in the bucket, or null,
-- $4: metadata.
SELECT to_json(
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
               END)::text
  FROM (SELECT $1 AS s3_uri, $2 AS asset, date_bin('5 minutes', $3, 'epoch'::timestamptz) AS bucket_5m,
               NULL::bigint AS object_size_bytes, $4 AS metadata) AS p
