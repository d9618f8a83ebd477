-- What is going on. Functions whose tables are looked up when they run, and views over them: no member of the extension may
-- name a table that is none, or a dump could not be restored. They read what their caller may read.

CREATE FUNCTION btc_ingest_internal.running_loads()
RETURNS TABLE (pid integer, uri text, phase text, started_at timestamptz, size_bytes bigint, rows_total bigint, rows_done bigint)
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'running_loads_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.running_loads() IS 'Loads of this database that run now; empty without btc_ingest in shared_preload_libraries';

CREATE FUNCTION btc_ingest.workers() RETURNS TABLE (role text, pid integer)
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'workers_wrapper';
COMMENT ON FUNCTION btc_ingest.workers() IS 'Background workers of this database that run now; empty without btc_ingest in shared_preload_libraries';

CREATE FUNCTION btc_ingest_internal.objects_waiting()
RETURNS TABLE (uri text, asset text, bucket_5m timestamptz, status text, attempts integer, next_attempt_at timestamptz,
               registered_at timestamptz, waiting interval, last_sqlstate text, last_error text, backfill bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT o.s3_uri, coalesce(b.asset, o.metadata ->> 'symbol'),
           coalesce(b.bucket_5m, CASE WHEN isfinite(o.span_from) THEN o.span_from END), o.status, o.attempts,
           o.next_attempt_at, o.registered_at, clock_timestamp() - coalesce(b.created_at, o.registered_at), o.last_sqlstate, o.last_error, o.backfill
      FROM ingestion.objects o
      LEFT JOIN LATERAL (SELECT r.asset, r.bucket_5m, r.created_at FROM landing.raw_blobs_5m r
                          WHERE r.s3_uri = o.s3_uri ORDER BY r.bucket_5m, r.asset LIMIT 1) AS b ON true
     WHERE o.status IN ('pending', 'failed')
    UNION ALL
    SELECT r.s3_uri, r.asset, r.bucket_5m, 'registered', 0, NULL, r.created_at, clock_timestamp() - r.created_at, NULL, NULL, NULL
      FROM landing.raw_blobs_5m r
     WHERE r.status = 'pending' AND r.queued_at IS NULL
       AND NOT EXISTS (SELECT FROM ingestion.objects o WHERE o.s3_uri = r.s3_uri AND o.status IN ('pending', 'failed'));
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.objects_waiting() IS 'See the view queue';

CREATE VIEW btc_ingest.queue AS SELECT * FROM btc_ingest_internal.objects_waiting();
COMMENT ON VIEW btc_ingest.queue IS
    'Objects that are to be loaded: pending, failed (will be tried again at next_attempt_at), or registered and not yet seen by any worker or sweep';

CREATE FUNCTION btc_ingest_internal.lag_by_asset()
RETURNS TABLE (asset text, newest_bucket timestamptz, lag interval, waiting bigint, oldest_waiting_bucket timestamptz, oldest_waiting interval)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    -- One probe of the index per asset, however many buckets there are.
    WITH RECURSIVE assets AS (
        (SELECT b.asset FROM landing.raw_blobs_5m b ORDER BY b.asset LIMIT 1)
        UNION ALL
        SELECT (SELECT b.asset FROM landing.raw_blobs_5m b WHERE b.asset > a.asset ORDER BY b.asset LIMIT 1)
          FROM assets a WHERE a.asset IS NOT NULL
    ), waiting AS (
        SELECT q.asset, count(*) AS objects, min(q.bucket_5m) AS bucket, max(q.waiting) AS longest
          FROM btc_ingest_internal.objects_waiting() q GROUP BY q.asset
    ), newest AS (
        SELECT a.asset, (SELECT b.bucket_5m FROM landing.raw_blobs_5m b
                          WHERE b.asset = a.asset AND b.status = 'loaded' ORDER BY b.bucket_5m DESC LIMIT 1) AS bucket
          FROM assets a WHERE a.asset IS NOT NULL
    )
    SELECT coalesce(n.asset, w.asset), n.bucket, clock_timestamp() - (n.bucket + interval '5 minutes'),
           coalesce(w.objects, 0), w.bucket, w.longest
      FROM newest n FULL JOIN waiting w ON w.asset = n.asset;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.lag_by_asset() IS 'See the view lag';

CREATE VIEW btc_ingest.lag AS SELECT * FROM btc_ingest_internal.lag_by_asset();
COMMENT ON VIEW btc_ingest.lag IS 'Per asset: the newest bucket that is loaded and how long ago it ended, what waits, and since when';

CREATE FUNCTION btc_ingest_internal.objects_failed()
RETURNS TABLE (uri text, status text, attempts integer, sqlstate text, message text, last_attempt_at timestamptz,
               next_attempt_at timestamptz, asset text, bucket_5m timestamptz, backfill bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT o.s3_uri, o.status, o.attempts, o.last_sqlstate, o.last_error, o.attempt_started_at, o.next_attempt_at,
           coalesce(b.asset, o.metadata ->> 'symbol'), b.bucket_5m, o.backfill
      FROM ingestion.objects o
      LEFT JOIN LATERAL (SELECT r.asset, r.bucket_5m FROM landing.raw_blobs_5m r
                          WHERE r.s3_uri = o.s3_uri ORDER BY r.bucket_5m, r.asset LIMIT 1) AS b ON true
     WHERE o.status IN ('failed', 'quarantined', 'skipped');
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.objects_failed() IS 'See the view failures';

CREATE VIEW btc_ingest.failures AS SELECT * FROM btc_ingest_internal.objects_failed();
COMMENT ON VIEW btc_ingest.failures IS
    'Objects that could not be loaded and why: failed (will be tried again), quarantined (only retry() or a new version helps), skipped (not to be loaded)';

CREATE VIEW btc_ingest.progress AS
    SELECT l.*, w.role AS worker, clock_timestamp() - l.started_at AS running
      FROM btc_ingest_internal.running_loads() l LEFT JOIN btc_ingest.workers() w ON w.pid = l.pid;
COMMENT ON VIEW btc_ingest.progress IS
    'What every session and worker loads at this moment, before it commits. worker: null for a session of somebody''s. Needs btc_ingest in shared_preload_libraries';

CREATE FUNCTION btc_ingest.stats_since(since interval DEFAULT '24 hours')
RETURNS TABLE (loads bigint, already_loaded bigint, failures bigint, quarantined bigint, retries bigint, rows_read numeric,
               rows_inserted numeric, bytes numeric, fetch_seconds double precision, decode_seconds double precision,
               insert_seconds double precision, median_ms double precision, p95_ms double precision, p99_ms double precision,
               longest_ms double precision, errors jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    WITH history AS (
        SELECT h.*, row_number() OVER (PARTITION BY h.s3_uri ORDER BY h.id) AS place,
               lag(h.outcome) OVER (PARTITION BY h.s3_uri ORDER BY h.id) AS before
          FROM ingestion.load_history h WHERE h.started_at >= now() - since
    ), errors AS (
        SELECT jsonb_object_agg(e.class, e.times) AS classes
          FROM (SELECT left(h.sqlstate, 2) AS class, count(*) AS times FROM history h WHERE h.sqlstate IS NOT NULL GROUP BY 1) AS e
    )
    SELECT count(*) FILTER (WHERE h.outcome = 'loaded'), count(*) FILTER (WHERE h.outcome = 'already loaded'),
           count(*) FILTER (WHERE h.outcome IN ('failed', 'quarantined')), count(*) FILTER (WHERE h.outcome = 'quarantined'),
           count(*) FILTER (WHERE h.before = 'failed'),
           coalesce(sum(h.rows_read), 0), coalesce(sum(h.rows_inserted), 0), coalesce(sum(h.bytes), 0),
           coalesce(sum(h.fetch_ms), 0) / 1000, coalesce(sum(h.decode_ms), 0) / 1000, coalesce(sum(h.insert_ms), 0) / 1000,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY h.elapsed_ms) FILTER (WHERE h.outcome = 'loaded'),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY h.elapsed_ms) FILTER (WHERE h.outcome = 'loaded'),
           percentile_cont(0.99) WITHIN GROUP (ORDER BY h.elapsed_ms) FILTER (WHERE h.outcome = 'loaded'),
           max(h.elapsed_ms) FILTER (WHERE h.outcome = 'loaded'),
           coalesce((SELECT e.classes FROM errors e), '{}')
      FROM history h;
END
$$;
COMMENT ON FUNCTION btc_ingest.stats_since(interval) IS
    'Counts and times of the loads and attempts since then, by ingestion.load_history. retries: attempts after a failed one. errors: attempts by class of SQLSTATE';

CREATE VIEW btc_ingest.stats AS SELECT * FROM btc_ingest.stats_since('24 hours');
COMMENT ON VIEW btc_ingest.stats IS 'Counts and times of the last 24 hours; stats_since() looks back further';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest_internal.running_loads(), btc_ingest.workers(), btc_ingest_internal.objects_waiting(), btc_ingest_internal.lag_by_asset(),
    btc_ingest_internal.objects_failed(), btc_ingest.stats_since(interval)
TO btc_ingest_reader;
GRANT SELECT ON btc_ingest.queue, btc_ingest.lag, btc_ingest.failures, btc_ingest.progress, btc_ingest.stats TO btc_ingest_reader;
