-- Registers an object as a live one, also if it belonged to a backfill. The keys of an earlier registration that
-- described another version are removed. $1: uri, $2: metadata.
INSERT INTO ingestion.objects AS o (s3_uri, metadata) VALUES ($1, $2)
ON CONFLICT (s3_uri) DO UPDATE
   SET status = 'pending',
       metadata = (o.metadata - '{sha256, rows, object_size_bytes}'::text[]) || excluded.metadata,
       listed_etag = NULL, listed_size = NULL, rows_staged = 0, backfill = NULL,
       attempts = 0, attempt_started_at = NULL, next_attempt_at = NULL, last_sqlstate = NULL, last_error = NULL,
       span_from = '-infinity', span_to = 'infinity',
       -- What is registered now is to hold, and not what a watch says.
       watch = NULL, queued_at = clock_timestamp(), generation = o.generation + 1
