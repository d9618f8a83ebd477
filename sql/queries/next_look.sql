-- Milliseconds until a loader without work must look for work again; null: not before it is woken. $1: milliseconds
-- while another session holds waiting work. That session may release the work without waking a worker, by a rollback
-- or its end.
SELECT to_json(least(
    (SELECT CASE WHEN f.due > 0 THEN f.due WHEN f.due <= 0 THEN $1::float8 END
       FROM (SELECT extract(epoch FROM min(o.next_attempt_at) - clock_timestamp())::float8 * 1000 AS due
               FROM ingestion.objects o WHERE o.backfill IS NULL AND o.status = 'failed') AS f),
    CASE WHEN EXISTS (SELECT FROM ingestion.objects o
                       WHERE o.backfill IS NULL AND o.status = 'pending'
                         AND NOT o.s3_uri ^@ ANY (ARRAY(SELECT t.prefix FROM ingestion.outages t
                                                        WHERE t.ended_at IS NULL)))
           OR EXISTS (SELECT FROM landing.raw_blobs_5m b WHERE b.status = 'pending' AND b.queued_at IS NULL)
         THEN $1::float8 END,
    -- A prefix that waits for S3. If its time has come, another worker is looking at it.
    (SELECT CASE WHEN p.due > 0 THEN p.due WHEN p.due <= 0 THEN $1::float8 END
       FROM (SELECT extract(epoch FROM min(t.next_probe_at) - clock_timestamp())::float8 * 1000 AS due
               FROM ingestion.outages t WHERE t.ended_at IS NULL) AS p)))::text
