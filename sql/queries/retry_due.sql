-- Failed objects whose pause is over are pending again: live ones, and those of backfill $1 (null: only live ones). A row that
-- somebody else holds is left for the next time.
UPDATE ingestion.objects SET status = 'pending', attempt_started_at = NULL, generation = generation + 1
 WHERE s3_uri IN (
    SELECT o.s3_uri FROM ingestion.objects o
     WHERE (o.backfill = $1 OR o.backfill IS NULL) AND o.status = 'failed' AND o.next_attempt_at <= clock_timestamp()
       FOR UPDATE SKIP LOCKED)
