-- An attempt that failed. $1 uri, $2 sqlstate, $3 message, $4 whether it is of no use to try again, $5 the most attempts, $6 and
-- $7 the first and the longest pause in milliseconds.
WITH failed AS (
    UPDATE ingestion.objects o
       SET attempts = least(o.attempts, $5),
           status = CASE WHEN $4 OR o.attempts >= $5 THEN 'quarantined' ELSE 'failed' END,
           next_attempt_at = CASE WHEN $4 OR o.attempts >= $5 THEN NULL
               ELSE clock_timestamp() + least($7, $6 * 2 ^ greatest(o.attempts - 1, 0)) * (0.75 + random() / 2) * interval '1 millisecond' END,
           last_sqlstate = $2, last_error = $3, generation = o.generation + 1
     WHERE o.s3_uri = $1 AND o.status = 'pending'
    RETURNING o.s3_uri, o.status, o.listed_etag, o.attempt_started_at
), registered AS (
    UPDATE landing.raw_blobs_5m b SET status = f.status FROM failed f
     WHERE b.s3_uri = f.s3_uri AND b.status IN ('pending', 'failed')
), noted AS (
    INSERT INTO ingestion.load_history (s3_uri, etag, outcome, sqlstate, message, started_at, finished_at)
    SELECT f.s3_uri, f.listed_etag, f.status, $2, $3, coalesce(f.attempt_started_at, clock_timestamp()), clock_timestamp()
      FROM failed f
)
SELECT
