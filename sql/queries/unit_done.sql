-- Records the result of a chunk. $1: backfill, $2: start of the chunk, $3: status, $4: rows, $5: note, $6: whether
-- continuous aggregates are to be refreshed.
UPDATE ingestion.backfill_chunks
   SET status = $3, attempts = CASE WHEN $6 THEN 0 ELSE attempts END, rows = $4, note = $5, refresh_due = $6,
       finished_at = clock_timestamp()
 WHERE backfill = $1 AND chunk_from = $2 AND status = 'pending'
