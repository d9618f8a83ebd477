-- What waits to be loaded and since when, and when the last attempt ended. $1: rows to look at, for each kind of
-- waiting row.
WITH waiting AS (
    (SELECT o.s3_uri, greatest(o.queued_at, o.next_attempt_at) AS since
       FROM ingestion.objects o
      WHERE o.backfill IS NULL AND o.status = 'pending'
        -- The check of outages reports what waits for S3.
        AND NOT o.s3_uri ^@ ANY (ARRAY(SELECT t.prefix FROM ingestion.outages t WHERE t.ended_at IS NULL)) LIMIT $1)
    UNION ALL
    (SELECT o.s3_uri, o.next_attempt_at
       FROM ingestion.objects o
      WHERE o.backfill IS NULL AND o.status = 'failed' AND o.next_attempt_at <= clock_timestamp() LIMIT $1)
    UNION ALL
    (SELECT b.s3_uri, coalesce(b.registered_at, b.created_at)
       FROM landing.raw_blobs_5m b WHERE b.status = 'pending' AND b.queued_at IS NULL LIMIT $1)
)
SELECT json_build_object(
    'paused', (SELECT c.paused FROM ingestion.control c),
    'paused_by', (SELECT c.changed_by FROM ingestion.control c),
    'paused_at', (SELECT c.changed_at::text FROM ingestion.control c),
    'waiting', (SELECT count(*) FROM waiting),
    'oldest_s', (SELECT extract(epoch FROM clock_timestamp() - min(w.since)) FROM waiting w),
    'uris', (SELECT coalesce(json_agg(w.s3_uri), '[]') FROM waiting w),
    'tried_s', (SELECT extract(epoch FROM clock_timestamp() - max(h.finished_at))
                  FROM (SELECT finished_at FROM ingestion.load_history ORDER BY started_at DESC LIMIT 100) AS h)
)::text
