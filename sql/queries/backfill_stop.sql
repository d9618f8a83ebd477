-- Stops an unfinished backfill, with the reason. $1: backfill, $2: SQLSTATE, $3: message.
UPDATE ingestion.backfills SET status = 'stopped', sqlstate = $2, message = $3
 WHERE id = $1 AND status IN ('pending', 'listing', 'loading')
