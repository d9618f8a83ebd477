-- Records a failed attempt. It waits for no other session. An object that was registered anew since the attempt began
-- stays pending, and so do its new registry rows. An object whose registry row another session holds is not
-- quarantined yet: a later attempt records the failure again. It returns no row if the object is no longer pending or
-- if another session holds its row. $1: uri, $2: SQLSTATE, $3: message, $4: whether the error is permanent, $5:
-- attempts at most, $6 and $7: the first and the longest pause in milliseconds, $8: whether the attempt counts, $9:
-- generation of the object when the attempt began (null: accept the present one), $10: versions of the registry rows
-- at that time (null: accept all), $11: whether the object is skipped where it would be quarantined.
WITH free AS MATERIALIZED (
    SELECT b.bucket_5m, b.asset FROM landing.raw_blobs_5m b
     WHERE b.s3_uri = $1
       AND (b.status = 'failed' OR (b.status = 'pending' AND ($10::text[] IS NULL OR b.xmin::text = ANY ($10))))
       FOR NO KEY UPDATE SKIP LOCKED
), registry AS MATERIALIZED (
    SELECT (SELECT count(*) FROM free) < count(*) AS held FROM landing.raw_blobs_5m b
     WHERE b.s3_uri = $1
       AND (b.status = 'failed' OR (b.status = 'pending' AND ($10::text[] IS NULL OR b.xmin::text = ANY ($10))))
), locked AS MATERIALIZED (
    SELECT o.s3_uri, o.attempts, $9 IS NOT NULL AND o.generation <> $9 AS changed,
           $4 OR ($8 AND o.attempts >= $5) AS over
      FROM ingestion.objects o
     WHERE o.s3_uri = $1 AND o.status = 'pending'
       FOR UPDATE SKIP LOCKED
), tried AS (
    SELECT l.s3_uri, l.changed, l.over AND NOT r.held AS over, l.over AND r.held AS put_off,
           CASE WHEN l.changed OR ($8 AND NOT (l.over AND r.held)) THEN l.attempts
                ELSE greatest(l.attempts - 1, 0) END AS attempts
      FROM locked l, registry r
), failed AS (
    UPDATE ingestion.objects o
       SET attempts = t.attempts,
           status = CASE WHEN t.changed THEN 'pending' WHEN t.over AND $11 THEN 'skipped'
                         WHEN t.over THEN 'quarantined' ELSE 'failed' END,
           attempt_started_at = CASE WHEN NOT t.changed THEN o.attempt_started_at END,
           next_attempt_at = CASE WHEN NOT t.changed AND NOT t.over THEN
               clock_timestamp() + least($7, $6 * 2 ^ least(greatest(t.attempts - 1, 0), 30))
                                   * (0.75 + random() / 2) * interval '1 millisecond' END,
           last_sqlstate = CASE WHEN t.changed THEN o.last_sqlstate ELSE $2 END,
           last_error = CASE WHEN t.changed THEN o.last_error ELSE $3 END,
           generation = o.generation + 1
      FROM tried t
     WHERE o.s3_uri = t.s3_uri
    RETURNING o.s3_uri, o.status, o.attempts, o.next_attempt_at, o.listed_etag, o.attempt_started_at, t.changed,
              t.put_off
), registered AS (
    UPDATE landing.raw_blobs_5m b SET status = f.status FROM failed f, free r
     WHERE b.bucket_5m = r.bucket_5m AND b.asset = r.asset AND f.status <> 'pending'
), noted AS (
    INSERT INTO ingestion.load_history (s3_uri, etag, outcome, sqlstate, message, started_at, finished_at)
    SELECT f.s3_uri, f.listed_etag, CASE WHEN f.status IN ('quarantined', 'skipped') THEN f.status ELSE 'failed' END,
           $2, $3, coalesce(f.attempt_started_at, clock_timestamp()), clock_timestamp()
      FROM failed f
)
SELECT json_build_object('status', status, 'changed', changed, 'put_off', put_off, 'attempts', attempts,
                         'pause_ms', round(extract(epoch FROM next_attempt_at - clock_timestamp()) * 1000))::text
  FROM failed
