-- Changes the status of objects, and of their registry rows. It never waits for a producer: a registry row that
-- another session holds is a new registration, which is enqueued after the commit. $1: uri, $2: asset, $3: bucket,
-- $4: age (all may be null), $5: statuses that are changed, $6: the new status, $7: reason.
WITH chosen AS (
    SELECT o.s3_uri, o.status
      FROM ingestion.objects o
     WHERE o.status = ANY ($5)
       AND ($1::text IS NULL OR o.s3_uri = $1)
       AND ($4::interval IS NULL OR coalesce(o.attempt_started_at, o.registered_at) < now() - $4)
       AND (($2::text IS NULL AND $3::timestamptz IS NULL)
            OR EXISTS (SELECT FROM landing.raw_blobs_5m b
                        WHERE b.s3_uri = o.s3_uri AND b.asset = $2
                          AND ($3 IS NULL OR b.bucket_5m = date_bin('5 minutes', $3, 'epoch'::timestamptz)))
            OR EXISTS (SELECT FROM ingestion.object_slices s
                        WHERE s.s3_uri = o.s3_uri AND s.asset = $2
                          AND ($3 IS NULL OR s.bucket_5m = date_bin('5 minutes', $3, 'epoch'::timestamptz))))
       FOR UPDATE
), changed AS (
    UPDATE ingestion.objects o
       SET status = $6, attempts = CASE WHEN $6 = 'pending' THEN 0 ELSE o.attempts END, attempt_started_at = NULL,
           next_attempt_at = NULL, queued_at = CASE WHEN $6 = 'pending' THEN clock_timestamp() ELSE o.queued_at END,
           last_sqlstate = CASE WHEN $7 IS NULL THEN o.last_sqlstate END,
           last_error = coalesce($7, o.last_error), generation = o.generation + 1
      FROM chosen c
     WHERE o.s3_uri = c.s3_uri
), registered AS (
    UPDATE landing.raw_blobs_5m b
       SET status = $6, queued_at = clock_timestamp()
      FROM (SELECT r.bucket_5m, r.asset FROM landing.raw_blobs_5m r JOIN chosen c ON c.s3_uri = r.s3_uri
             WHERE r.status NOT IN ('loaded', 'empty') FOR UPDATE OF r SKIP LOCKED) AS r
     WHERE b.bucket_5m = r.bucket_5m AND b.asset = r.asset
)
SELECT coalesce(json_agg(json_build_object('uri', s3_uri, 'was', status, 'became', $6) ORDER BY s3_uri), '[]')::text
  FROM chosen
