-- Failed objects of backfill $1, and live ones, whose pause is over are pending again; and how long until the next one is.
WITH due AS (
    UPDATE ingestion.objects SET status = 'pending', generation = generation + 1
     WHERE (backfill = $1 OR backfill IS NULL) AND status = 'failed' AND next_attempt_at <= clock_timestamp()
    RETURNING 1
)
SELECT json_build_object(
    'due', (SELECT count(*) FROM due),
    'left', (SELECT count(*) FROM (SELECT FROM ingestion.objects WHERE backfill = $1 AND status = 'failed' LIMIT 1) AS f),
    'pending', (SELECT count(*) FROM (SELECT FROM ingestion.objects WHERE backfill = $1 AND status = 'pending' LIMIT 1) AS p)
)::text
