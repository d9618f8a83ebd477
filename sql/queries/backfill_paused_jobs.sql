-- Returns the jobs that a backfill has suspended, and removes the record of them. $1: backfill.
WITH recorded AS (
    SELECT state -> 'paused_jobs' AS jobs FROM ingestion.backfills WHERE id = $1 FOR UPDATE
), removed AS (
    UPDATE ingestion.backfills SET state = state - 'paused_jobs' WHERE id = $1 AND state ? 'paused_jobs'
)
SELECT coalesce((SELECT jobs FROM recorded), '[]')::text
