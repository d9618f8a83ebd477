-- Adds the counts of one object to a worker of a backfill. $1: backfill, $2: slot, $3 to $8: objects done, objects
-- failed, rows read, rows inserted, bytes, milliseconds.
UPDATE ingestion.backfill_workers
   SET objects_done = objects_done + $3, objects_failed = objects_failed + $4, rows_read = rows_read + $5,
       rows_inserted = rows_inserted + $6, bytes = bytes + $7, working_ms = working_ms + $8,
       updated_at = clock_timestamp()
 WHERE backfill = $1 AND slot = $2
