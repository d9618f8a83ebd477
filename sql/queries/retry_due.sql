-- Makes failed objects whose pause is over pending again: live objects, and those of a backfill. It leaves a row that
-- another session holds for the next time. $1: backfill (null: only live objects).
UPDATE ingestion.objects SET status = 'pending', attempt_started_at = NULL, generation = generation + 1
 WHERE s3_uri IN (
    SELECT o.s3_uri FROM ingestion.objects o
     WHERE (o.backfill = $1 OR o.backfill IS NULL) AND o.status = 'failed' AND o.next_attempt_at <= clock_timestamp()
       FOR UPDATE SKIP LOCKED)
