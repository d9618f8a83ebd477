-- Failed objects of backfill $1, and live ones, whose pause is over are pending again.
UPDATE ingestion.objects SET status = 'pending', generation = generation + 1
 WHERE (backfill = $1 OR backfill IS NULL) AND status = 'failed' AND next_attempt_at <= clock_timestamp()
