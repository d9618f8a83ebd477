-- Registers an object as a live one, also if it belonged to a backfill. The keys of an earlier registration that
-- described another version are removed. $1: uri, $2: metadata, $3: asset, $4: a time in its
-- first bucket.
INSERT INTO ingestion.objects AS o (s3_uri, metadata, asset, span_from, span_to)
VALUES ($1, $2, $3, date_bin('5 minutes', $4, 'epoch'::timestamptz),
        date_bin('5 minutes', $4, 'epoch'::timestamptz) + interval '5 minutes')
ON CONFLICT (s3_uri) DO UPDATE
   SET status = 'pending',
       metadata = (o.metadata - '{sha256, rows, object_size_bytes}'::text[]) || excluded.metadata,
       listed_etag = NULL, listed_size = NULL, rows_staged = 0, backfill = NULL,
       attempts = 0, attempt_started_at = NULL, next_attempt_at = NULL, last_sqlstate = NULL, last_error = NULL,
       span_from = excluded.span_from, span_to = excluded.span_to, asset = excluded.asset,
       -- What is registered now is to hold, and not what a watch says.
       watch = NULL, queued_at = clock_timestamp(), generation = o.generation + 1
