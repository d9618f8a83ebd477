-- Registers a registry row as a producer does: the row becomes pending again if it names this object. A row that
-- names another object is kept, because any number of objects may serve one bucket. $1: uri, $2: asset, $3: a time in
-- the bucket, $4: metadata.
WITH registered AS (
    INSERT INTO landing.raw_blobs_5m AS b (bucket_5m, asset, s3_uri, metadata)
    VALUES (date_bin('5 minutes', $3, 'epoch'::timestamptz), $2, $1, $4)
    ON CONFLICT (bucket_5m, asset) DO UPDATE
       SET s3_uri = excluded.s3_uri,
           metadata = CASE WHEN jsonb_typeof(b.metadata) = 'object'
                           THEN b.metadata - '{sha256, rows, object_size_bytes}'::text[] ELSE '{}' END
                      || coalesce(excluded.metadata, '{}')
     WHERE b.s3_uri = excluded.s3_uri
    RETURNING 1
)
SELECT json_build_object(
    'other_uri', (SELECT s3_uri FROM landing.raw_blobs_5m
                   WHERE bucket_5m = date_bin('5 minutes', $3, 'epoch'::timestamptz) AND asset = $2 AND s3_uri <> $1)
)::text
FROM (SELECT count(*) FROM registered) AS done
