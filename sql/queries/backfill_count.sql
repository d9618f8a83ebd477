-- What one object added to worker $2 of backfill $1.
UPDATE ingestion.backfill_workers
   SET objects_done = objects_done + $3, objects_failed = objects_failed + $4, rows_read = rows_read + $5,
       rows_inserted = rows_inserted + $6, bytes = bytes + $7, working_ms = working_ms + $8, updated_at = clock_timestamp()
 WHERE backfill = $1 AND slot = $2
