-- Registry rows ($1 uris, $2 buckets as text, which also holds infinity, $3 assets) into the queue: their objects ($4 uris, $5 first buckets, $6 etags, $7 sizes,
-- $8 why an object is not to be loaded) are pending, as new ones.
WITH queued AS (
    INSERT INTO ingestion.objects AS o (s3_uri, status, last_sqlstate, last_error, listed_etag, listed_size, span_from, span_to)
    SELECT uri, CASE WHEN reason IS NULL THEN 'pending' ELSE 'skipped' END,
           -- As of a load that finds it out: what was skipped by hand has no code.
           CASE WHEN reason IS NOT NULL THEN 'PQ002' END, reason, etag, size,
           bucket::timestamptz, bucket::timestamptz + interval '5 minutes'
      FROM unnest($4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[]) AS f (uri, bucket, etag, size, reason)
    ON CONFLICT (s3_uri) DO UPDATE
       SET status = excluded.status, last_error = excluded.last_error, last_sqlstate = excluded.last_sqlstate,
           listed_etag = excluded.listed_etag, listed_size = excluded.listed_size, rows_staged = 0, backfill = NULL,
           metadata = o.metadata - '{sha256, rows, object_size_bytes}'::text[],
           span_from = excluded.span_from, span_to = excluded.span_to,
           -- Whoever has begun it already finds the generation changed, and leaves it pending.
           attempts = 0, attempt_started_at = NULL, next_attempt_at = NULL, generation = o.generation + 1
)
UPDATE landing.raw_blobs_5m b
   SET queued_at = clock_timestamp(), status = CASE WHEN o.reason IS NULL THEN 'pending' ELSE 'skipped' END
  FROM unnest($1::text[], $2::text[], $3::text[]) AS r (uri, bucket, asset)
  JOIN unnest($4::text[], $8::text[]) AS o (uri, reason) ON o.uri = r.uri
 WHERE b.bucket_5m = r.bucket::timestamptz AND b.asset = r.asset
