-- The jobs that backfill $1 has paused, which are not noted any more afterwards.
WITH was AS (
    SELECT state -> 'paused_jobs' AS jobs FROM ingestion.backfills WHERE id = $1 FOR UPDATE
), forgotten AS (
    UPDATE ingestion.backfills SET state = state - 'paused_jobs' WHERE id = $1 AND state ? 'paused_jobs'
)
SELECT coalesce((SELECT jobs FROM was), '[]')::text
