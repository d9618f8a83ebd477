UPDATE ingestion.backfills SET status = 'stopped', sqlstate = $2, message = $3
 WHERE id = $1 AND status IN ('pending', 'listing', 'loading')
