-- Takes back an attempt to build a chunk that has failed because S3 answers nothing. $1: backfill, $2: start of the
-- chunk in microseconds since 1970.
UPDATE ingestion.backfill_chunks
   SET attempts = greatest(attempts - 1, 0)
 WHERE backfill = $1 AND chunk_from = to_timestamp($2 / 1000000.0) AND status = 'pending'
