-- Enqueues registry rows: their objects become pending, as new ones. $1: uris, $2: buckets and $3: assets of the
-- registry rows; $4: uris, $5: first buckets, $6: etags, $7: sizes, $8: reasons not to load (null: load) and $9: assets
-- of the objects.
WITH queued AS (
    INSERT INTO ingestion.objects AS o (s3_uri, status, last_sqlstate, last_error, listed_etag, listed_size,
                                        span_from, span_to, asset, queued_at)
    SELECT uri, CASE WHEN reason IS NULL THEN 'pending' ELSE 'skipped' END,
           -- The SQLSTATE of a load that finds no Parquet file. An object that skip() was called for has none.
           CASE WHEN reason IS NOT NULL THEN 'PQ002' END, reason, etag, size,
           bucket, bucket + interval '5 minutes', asset,
           -- It has been waiting since its registration, whenever a worker or sweep comes to it.
           coalesce((SELECT min(b.registered_at) FROM landing.raw_blobs_5m b
                      WHERE b.s3_uri = f.uri AND b.status = 'pending' AND b.queued_at IS NULL), clock_timestamp())
      FROM unnest($4::text[], $5::timestamptz[], $6::text[], $7::bigint[], $8::text[], $9::text[])
           AS f (uri, bucket, etag, size, reason, asset)
    ON CONFLICT (s3_uri) DO UPDATE
       SET status = excluded.status, last_error = excluded.last_error, last_sqlstate = excluded.last_sqlstate,
           listed_etag = excluded.listed_etag, listed_size = excluded.listed_size, rows_staged = 0, backfill = NULL,
           metadata = o.metadata - '{sha256, rows, object_size_bytes}'::text[],
           span_from = excluded.span_from, span_to = excluded.span_to, asset = excluded.asset,
           queued_at = excluded.queued_at,
           -- An attempt that has begun finds another generation, and leaves the object pending.
           attempts = 0, attempt_started_at = NULL, next_attempt_at = NULL, generation = o.generation + 1
)
UPDATE landing.raw_blobs_5m b
   SET queued_at = clock_timestamp(), status = CASE WHEN o.reason IS NULL THEN 'pending' ELSE 'skipped' END
  FROM unnest($1::text[], $2::timestamptz[], $3::text[]) AS r (uri, bucket, asset)
  JOIN unnest($4::text[], $8::text[]) AS o (uri, reason) ON o.uri = r.uri
 WHERE b.bucket_5m = r.bucket AND b.asset = r.asset
