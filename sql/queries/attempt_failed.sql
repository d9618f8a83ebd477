-- Records a failed attempt. An object that was registered anew since the attempt began stays pending, and so do its
-- new registry rows. $1: uri, $2: SQLSTATE, $3: message, $4: whether the error is permanent, $5: attempts at most, $6
-- and $7: the first and the longest pause in milliseconds, $8: whether the attempt counts, $9: generation of the
-- object when the attempt began (null: accept the present one), $10: versions of the registry rows at that time
-- (null: accept all).
WITH tried AS (
    SELECT o.s3_uri, $9 IS NOT NULL AND o.generation <> $9 AS changed, $4 OR ($8 AND o.attempts >= $5) AS over,
           CASE WHEN $8 THEN o.attempts ELSE greatest(o.attempts - 1, 0) END AS attempts
      FROM ingestion.objects o
     WHERE o.s3_uri = $1 AND o.status = 'pending'
       FOR UPDATE
), failed AS (
    UPDATE ingestion.objects o
       SET attempts = t.attempts,
           status = CASE WHEN t.changed THEN 'pending' WHEN t.over THEN 'quarantined' ELSE 'failed' END,
           attempt_started_at = CASE WHEN NOT t.changed THEN o.attempt_started_at END,
           next_attempt_at = CASE WHEN NOT t.changed AND NOT t.over THEN
               clock_timestamp() + least($7, $6 * 2 ^ least(greatest(t.attempts - 1, 0), 30))
                                   * (0.75 + random() / 2) * interval '1 millisecond' END,
           last_sqlstate = $2, last_error = $3, generation = o.generation + 1
      FROM tried t
     WHERE o.s3_uri = t.s3_uri
    RETURNING o.s3_uri, o.status, o.attempts, o.next_attempt_at, o.listed_etag, o.attempt_started_at, t.over
), registered AS (
    UPDATE landing.raw_blobs_5m b SET status = f.status FROM failed f
     WHERE b.s3_uri = f.s3_uri AND f.status <> 'pending'
       AND (b.status = 'failed' OR (b.status = 'pending' AND ($10::text[] IS NULL OR b.xmin::text = ANY ($10))))
), noted AS (
    INSERT INTO ingestion.load_history (s3_uri, etag, outcome, sqlstate, message, started_at, finished_at)
    SELECT f.s3_uri, f.listed_etag, CASE WHEN f.over THEN 'quarantined' ELSE 'failed' END, $2, $3,
           coalesce(f.attempt_started_at, clock_timestamp()), clock_timestamp()
      FROM failed f
)
SELECT json_build_object('status', status, 'attempts', attempts,
                         'pause_ms', round(extract(epoch FROM next_attempt_at - clock_timestamp()) * 1000))::text
  FROM failed
