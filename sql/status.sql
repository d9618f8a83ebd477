-- What the extension is doing: functions, and views over them. A view of the extension must not name a table that does
-- not belong to the extension, because a dump with such a view cannot be restored. So each view reads a function, which
-- looks up its tables when it runs. The functions run with the privileges of their caller.

CREATE FUNCTION btc_ingest_internal.running_loads()
RETURNS TABLE (pid integer, uri text, phase text, started_at timestamptz, size_bytes bigint, rows_total bigint,
               rows_done bigint)
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'running_loads_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.running_loads() IS
    'Loads that run in this database. Returns no row without btc_ingest in shared_preload_libraries';

CREATE FUNCTION btc_ingest.workers() RETURNS TABLE (role text, pid integer)
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'workers_wrapper';
COMMENT ON FUNCTION btc_ingest.workers() IS
'Background workers of btc_ingest that serve this database.
Returns no row without btc_ingest in shared_preload_libraries.

role: "launcher", "scheduler", "loader" with its number, or "backfill".
pid: process id, as in pg_stat_activity.';

-- objects_waiting() and objects_failed() are written so that PostgreSQL puts them into the calling statement: in SQL,
-- stable, without SET, and not SECURITY DEFINER. A condition, a count or a LIMIT on their views then reads only the
-- rows that it needs. Without a search path of their own, they qualify all names.
CREATE FUNCTION btc_ingest_internal.objects_waiting()
RETURNS TABLE (uri text, asset text, bucket_5m timestamptz, status text, attempts integer, next_attempt_at timestamptz,
               registered_at timestamptz, waiting interval, last_sqlstate text, last_error text, backfill bigint)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT o.s3_uri, o.asset, CASE WHEN pg_catalog.isfinite(o.span_from) THEN o.span_from END, o.status, o.attempts,
           o.next_attempt_at, o.registered_at,
           pg_catalog.statement_timestamp() OPERATOR(pg_catalog.-) o.queued_at, o.last_sqlstate, o.last_error,
           o.backfill
      FROM ingestion.objects o
     WHERE o.status OPERATOR(pg_catalog.=) ANY ('{pending,failed}'::pg_catalog.text[])
       -- Nothing loads what a cancelled backfill has left.
       AND (o.backfill OPERATOR(pg_catalog.=) ANY (ARRAY(
              SELECT c.id FROM ingestion.backfills c
               WHERE c.status OPERATOR(pg_catalog.=) 'cancelled'::pg_catalog.text))) IS NOT TRUE
    UNION ALL
    SELECT r.s3_uri, r.asset, r.bucket_5m, 'registered'::pg_catalog.text, 0, NULL::pg_catalog.timestamptz,
           coalesce(r.registered_at, r.created_at),
           pg_catalog.statement_timestamp() OPERATOR(pg_catalog.-) coalesce(r.registered_at, r.created_at),
           NULL::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.int8
      FROM landing.raw_blobs_5m r
     WHERE r.status OPERATOR(pg_catalog.=) 'pending'::pg_catalog.text AND r.queued_at IS NULL
       AND NOT EXISTS (SELECT FROM ingestion.objects o
                        WHERE o.s3_uri OPERATOR(pg_catalog.=) r.s3_uri
                          AND o.status OPERATOR(pg_catalog.=) ANY ('{pending,failed}'::pg_catalog.text[]))
$$;
COMMENT ON FUNCTION btc_ingest_internal.objects_waiting() IS 'Rows of the view queue';

CREATE VIEW btc_ingest.queue AS SELECT * FROM btc_ingest_internal.objects_waiting();
COMMENT ON VIEW btc_ingest.queue IS
    'Objects that wait to be loaded: pending, failed, or registered and not enqueued yet. Without what a cancelled '
    'backfill has left';
COMMENT ON COLUMN btc_ingest.queue.uri IS 's3://bucket/key of the object';
COMMENT ON COLUMN btc_ingest.queue.asset IS 'Symbol by the object''s registration or key; null if unknown';
COMMENT ON COLUMN btc_ingest.queue.bucket_5m IS
    'First bucket of the object by its registration, key or footer; null if unknown';
COMMENT ON COLUMN btc_ingest.queue.status IS
    'pending: is loaded next; failed: is tried again at next_attempt_at; registered: no worker or sweep has '
    'enqueued the registry row yet';
COMMENT ON COLUMN btc_ingest.queue.attempts IS 'Attempts since the object became pending';
COMMENT ON COLUMN btc_ingest.queue.next_attempt_at IS 'When a failed object is tried again';
COMMENT ON COLUMN btc_ingest.queue.registered_at IS 'When the object, or the registry row, was registered';
COMMENT ON COLUMN btc_ingest.queue.waiting IS
    'Time since the object was queued: registered, registered again, found new or changed by a listing, or retried by '
    'a command';
COMMENT ON COLUMN btc_ingest.queue.last_sqlstate IS 'SQLSTATE of the last failure; null if none';
COMMENT ON COLUMN btc_ingest.queue.last_error IS 'Message of the last failure; null if none';
COMMENT ON COLUMN btc_ingest.queue.backfill IS 'Id of the backfill that registered the object; null for a live object';

CREATE FUNCTION btc_ingest_internal.prefixes_waiting()
RETURNS TABLE (prefix text, since timestamptz, sqlstate text, message text, uri text, probes bigint,
               last_probe_at timestamptz, next_probe_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT t.prefix, t.since, t.sqlstate, t.message, t.s3_uri, t.probes, t.probed_at, t.next_probe_at
      FROM ingestion.outages t WHERE t.ended_at IS NULL ORDER BY t.since;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.prefixes_waiting() IS 'Rows of the view outages';

CREATE VIEW btc_ingest.outages AS SELECT * FROM btc_ingest_internal.prefixes_waiting();
COMMENT ON VIEW btc_ingest.outages IS
    'Prefixes under which nothing can be read now. Their objects wait without attempts, and go on by themselves when '
    'S3 answers. Empty as a rule';
COMMENT ON COLUMN btc_ingest.outages.prefix IS 'Prefix of btc_ingest.allowed_prefixes whose objects wait';
COMMENT ON COLUMN btc_ingest.outages.since IS 'When they began to wait';
COMMENT ON COLUMN btc_ingest.outages.sqlstate IS 'SQLSTATE of the last failure';
COMMENT ON COLUMN btc_ingest.outages.message IS 'Message of the last failure';
COMMENT ON COLUMN btc_ingest.outages.uri IS 'Object whose load has failed last';
COMMENT ON COLUMN btc_ingest.outages.probes IS 'How often a worker or sweep has looked since then whether S3 answers';
COMMENT ON COLUMN btc_ingest.outages.last_probe_at IS 'When it looked last; null before the first look';
COMMENT ON COLUMN btc_ingest.outages.next_probe_at IS 'When a worker or sweep looks again';

CREATE FUNCTION btc_ingest_internal.lag_by_asset()
RETURNS TABLE (asset text, newest_bucket timestamptz, lag interval, waiting bigint, oldest_waiting_bucket timestamptz,
               oldest_waiting interval, open_gaps bigint, missing_ids bigint, gaps_counted_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    -- One probe of the index per asset, however many buckets there are.
    WITH RECURSIVE assets AS (
        (SELECT s.asset FROM ingestion.object_slices s ORDER BY s.asset LIMIT 1)
        UNION ALL
        SELECT (SELECT s.asset FROM ingestion.object_slices s WHERE s.asset > a.asset ORDER BY s.asset LIMIT 1)
          FROM assets a WHERE a.asset IS NOT NULL
    ), waiting AS (
        -- The same rows as in objects_waiting(). Little is computed for each of them, as there may be millions.
        SELECT q.asset, sum(q.objects)::bigint AS objects, min(q.bucket) AS bucket,
               statement_timestamp() - min(q.since) AS longest
          FROM (SELECT o.asset, count(*) AS objects, min(o.span_from) FILTER (WHERE isfinite(o.span_from)) AS bucket,
                       min(o.queued_at) AS since
                  FROM ingestion.objects o
                 WHERE o.status IN ('pending', 'failed')
                   AND (o.backfill = ANY (ARRAY(SELECT c.id FROM ingestion.backfills c WHERE c.status = 'cancelled')))
                       IS NOT TRUE
                 GROUP BY o.asset
                UNION ALL
                SELECT r.asset, count(*), min(r.bucket_5m), min(coalesce(r.registered_at, r.created_at))
                  FROM landing.raw_blobs_5m r
                 WHERE r.status = 'pending' AND r.queued_at IS NULL
                   AND NOT EXISTS (SELECT FROM ingestion.objects o
                                    WHERE o.s3_uri = r.s3_uri AND o.status IN ('pending', 'failed'))
                 GROUP BY r.asset) AS q
         GROUP BY q.asset
    ), newest AS (
        -- What objects hold, and not what is registered, as far as it is stored still.
        SELECT a.asset, (SELECT s.bucket_5m FROM ingestion.object_slices s
                          WHERE s.asset = a.asset
                            AND EXISTS (SELECT FROM market_data.btc_ticks t
                                         WHERE t.bucket_5m = s.bucket_5m AND t.symbol = s.asset)
                          ORDER BY s.bucket_5m DESC LIMIT 1) AS bucket
          FROM assets a WHERE a.asset IS NOT NULL
    )
    SELECT coalesce(n.asset, w.asset), n.bucket, clock_timestamp() - (n.bucket + interval '5 minutes'),
           coalesce(w.objects, 0), w.bucket, w.longest, g.open_gaps, g.missing_ids, g.gaps_counted_at
      FROM newest n FULL JOIN waiting w ON w.asset = n.asset
      -- Counted by the scheduler: the view must not read the ids of all slices.
      LEFT JOIN ingestion.assets g ON g.asset = n.asset;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.lag_by_asset() IS 'Rows of the view lag';

CREATE VIEW btc_ingest.lag AS SELECT * FROM btc_ingest_internal.lag_by_asset();
COMMENT ON VIEW btc_ingest.lag IS 'Per asset: the newest bucket with stored ticks, and what waits to be loaded';
COMMENT ON COLUMN btc_ingest.lag.asset IS 'Symbol; null for waiting objects whose asset is unknown';
COMMENT ON COLUMN btc_ingest.lag.newest_bucket IS
    'Start of the newest bucket of which ticks are stored; null if none is';
COMMENT ON COLUMN btc_ingest.lag.lag IS 'Time since the end of that bucket';
COMMENT ON COLUMN btc_ingest.lag.waiting IS 'Number of objects that wait';
COMMENT ON COLUMN btc_ingest.lag.oldest_waiting_bucket IS
    'Start of the oldest bucket that waits; null if none waits or its bucket is unknown';
COMMENT ON COLUMN btc_ingest.lag.oldest_waiting IS 'Longest time that an object has been waiting; null if none waits';
COMMENT ON COLUMN btc_ingest.lag.open_gaps IS
    'Gaps without a reason at gaps_counted_at; null if they were not counted since the asset was declared';
COMMENT ON COLUMN btc_ingest.lag.missing_ids IS 'Trade ids in these gaps';
COMMENT ON COLUMN btc_ingest.lag.gaps_counted_at IS
    'When gaps were last counted: by report_gaps(), or by the scheduler when nothing waits';

CREATE FUNCTION btc_ingest_internal.objects_failed()
RETURNS TABLE (uri text, status text, attempts integer, sqlstate text, message text, last_attempt_at timestamptz,
               next_attempt_at timestamptz, asset text, bucket_5m timestamptz, backfill bigint)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT o.s3_uri, o.status, o.attempts, o.last_sqlstate, o.last_error, o.attempt_started_at, o.next_attempt_at,
           o.asset, CASE WHEN pg_catalog.isfinite(o.span_from) THEN o.span_from END, o.backfill
      FROM ingestion.objects o
     WHERE o.status OPERATOR(pg_catalog.=) ANY ('{failed,quarantined,skipped}'::pg_catalog.text[])
       -- Nothing tries again what a cancelled backfill has left.
       AND (o.status OPERATOR(pg_catalog.=) 'failed'::pg_catalog.text
            AND o.backfill OPERATOR(pg_catalog.=) ANY (ARRAY(
                SELECT c.id FROM ingestion.backfills c
                 WHERE c.status OPERATOR(pg_catalog.=) 'cancelled'::pg_catalog.text))) IS NOT TRUE
$$;
COMMENT ON FUNCTION btc_ingest_internal.objects_failed() IS 'Rows of the view failures';

CREATE VIEW btc_ingest.failures AS SELECT * FROM btc_ingest_internal.objects_failed();
COMMENT ON VIEW btc_ingest.failures IS 'Objects that could not be loaded or are skipped, and why';
COMMENT ON COLUMN btc_ingest.failures.uri IS 's3://bucket/key of the object';
COMMENT ON COLUMN btc_ingest.failures.status IS
    'failed: is tried again at next_attempt_at; quarantined: only retry(), a new registration or a new version '
    'helps; skipped: is not loaded';
COMMENT ON COLUMN btc_ingest.failures.attempts IS 'Attempts since the object became pending';
COMMENT ON COLUMN btc_ingest.failures.sqlstate IS
    'SQLSTATE of the last failure; null for an object that skip() was called for';
COMMENT ON COLUMN btc_ingest.failures.message IS
    'Message of the last failure, or the reason for which the object is skipped';
COMMENT ON COLUMN btc_ingest.failures.last_attempt_at IS 'When the last attempt started; null if there was none';
COMMENT ON COLUMN btc_ingest.failures.next_attempt_at IS 'When a failed object is tried again';
COMMENT ON COLUMN btc_ingest.failures.asset IS 'Symbol by the object''s registration or key; null if unknown';
COMMENT ON COLUMN btc_ingest.failures.bucket_5m IS
    'First bucket of the object by its registration, key or footer; null if unknown';
COMMENT ON COLUMN btc_ingest.failures.backfill IS
    'Id of the backfill that registered the object; null for a live object';

CREATE FUNCTION btc_ingest_internal.objects_in_conflict()
RETURNS TABLE (uri text, loaded_at timestamptz, rows_read bigint, rows_conflicting bigint, rows_rejected bigint,
               rows_kept bigint, example text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT o.s3_uri, o.loaded_at, o.rows_read, o.rows_conflicting, o.rows_rejected, r.kept, r.example
      FROM ingestion.objects o
     CROSS JOIN LATERAL (SELECT count(*) AS kept, min(j.reason) AS example FROM landing.rejected_ticks j
                          WHERE j.s3_uri = o.s3_uri AND j.etag = o.etag) AS r
     WHERE o.rows_conflicting > 0 OR o.rows_rejected > 0;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.objects_in_conflict() IS 'Rows of the view conflicts';

CREATE VIEW btc_ingest.conflicts AS SELECT * FROM btc_ingest_internal.objects_in_conflict();
COMMENT ON VIEW btc_ingest.conflicts IS
    'Objects that were loaded although not all of their rows were stored: some conflict with stored ticks, or are none';
COMMENT ON COLUMN btc_ingest.conflicts.uri IS 's3://bucket/key of the object';
COMMENT ON COLUMN btc_ingest.conflicts.loaded_at IS 'When the object was last loaded';
COMMENT ON COLUMN btc_ingest.conflicts.rows_read IS 'Rows of the object';
COMMENT ON COLUMN btc_ingest.conflicts.rows_conflicting IS
    'Ticks that are stored with other values than the object''s, which were not stored';
COMMENT ON COLUMN btc_ingest.conflicts.rows_rejected IS 'Rows that could not be stored as ticks';
COMMENT ON COLUMN btc_ingest.conflicts.rows_kept IS 'How many of these rows landing.rejected_ticks holds';
COMMENT ON COLUMN btc_ingest.conflicts.example IS 'Why one of them was not stored; null if none is kept';

CREATE FUNCTION btc_ingest_internal.slices_gone()
RETURNS TABLE (asset text, from_bucket timestamptz, to_bucket timestamptz, slices bigint, ticks numeric, objects bigint,
               chunks text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE assets AS (
        (SELECT s.asset FROM ingestion.object_slices s ORDER BY s.asset LIMIT 1)
        UNION ALL
        SELECT (SELECT s.asset FROM ingestion.object_slices s WHERE s.asset > a.asset ORDER BY s.asset LIMIT 1)
          FROM assets a WHERE a.asset IS NOT NULL
    ), chunks AS (
        SELECT c.range_start, c.range_end FROM timescaledb_information.chunks c
         WHERE c.hypertable_schema = 'market_data' AND c.hypertable_name = 'btc_ticks'
    ), gaps AS (
        SELECT coalesce(lag(c.range_end) OVER (ORDER BY c.range_start), '-infinity') AS gap_from,
               c.range_start AS gap_to
          FROM chunks c
        UNION ALL
        SELECT coalesce(max(c.range_end), '-infinity'), 'infinity' FROM chunks c
    )
    SELECT a.asset, min(s.bucket_5m), max(s.bucket_5m), count(DISTINCT s.bucket_5m), sum(s.ticks),
           count(DISTINCT s.s3_uri),
           CASE WHEN g.gap_from > '-infinity' AND g.gap_to < 'infinity' THEN 'before and after'
                WHEN g.gap_from > '-infinity' THEN 'before'
                WHEN g.gap_to < 'infinity' THEN 'after' ELSE 'none' END
      FROM assets a CROSS JOIN gaps g
      JOIN ingestion.object_slices s ON s.asset = a.asset AND s.bucket_5m >= g.gap_from AND s.bucket_5m < g.gap_to
      JOIN ingestion.objects o ON o.s3_uri = s.s3_uri AND o.etag = s.etag AND o.loaded_at IS NOT NULL
     WHERE g.gap_from < g.gap_to
     GROUP BY a.asset, g.gap_from, g.gap_to;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.slices_gone() IS 'Rows of the view gone';

CREATE VIEW btc_ingest.gone AS SELECT * FROM btc_ingest_internal.slices_gone();
COMMENT ON VIEW btc_ingest.gone IS
    'Slices that are loaded and whose chunk does not exist, e.g. after drop_chunks(): one row per asset and gap '
    'between chunks. backfill(…, force => true) loads them again';
COMMENT ON COLUMN btc_ingest.gone.asset IS 'Symbol of the slices';
COMMENT ON COLUMN btc_ingest.gone.from_bucket IS 'Start of the first of these slices';
COMMENT ON COLUMN btc_ingest.gone.to_bucket IS 'Start of the last of these slices';
COMMENT ON COLUMN btc_ingest.gone.slices IS 'Number of slices';
COMMENT ON COLUMN btc_ingest.gone.ticks IS 'Ticks that their objects hold of them';
COMMENT ON COLUMN btc_ingest.gone.objects IS 'Number of these objects';
COMMENT ON COLUMN btc_ingest.gone.chunks IS
    'Where chunks exist: after (as retention leaves it), before, "before and after", or none';

CREATE VIEW btc_ingest.progress AS
    SELECT l.*, w.role AS worker, clock_timestamp() - l.started_at AS running
      FROM btc_ingest_internal.running_loads() l LEFT JOIN btc_ingest.workers() w ON w.pid = l.pid;
COMMENT ON VIEW btc_ingest.progress IS
    'Loads that sessions and workers of this database run now, with the rows that are not committed yet. Empty '
    'without btc_ingest in shared_preload_libraries';
COMMENT ON COLUMN btc_ingest.progress.pid IS 'Process id, as in pg_stat_activity';
COMMENT ON COLUMN btc_ingest.progress.uri IS 's3://bucket/key of the object';
COMMENT ON COLUMN btc_ingest.progress.phase IS
    'opening: asks S3 and reads the footer; storing: stores ticks; recording: writes the result';
COMMENT ON COLUMN btc_ingest.progress.started_at IS 'When the load started';
COMMENT ON COLUMN btc_ingest.progress.size_bytes IS 'Size of the object in bytes; null until it is known';
COMMENT ON COLUMN btc_ingest.progress.rows_total IS 'Rows of the object; null until they are known';
COMMENT ON COLUMN btc_ingest.progress.rows_done IS 'Rows that are processed';
COMMENT ON COLUMN btc_ingest.progress.worker IS 'Role of the worker as in workers(); null for a session of a client';
COMMENT ON COLUMN btc_ingest.progress.running IS 'Time since the start';

CREATE FUNCTION btc_ingest.stats_since(since interval DEFAULT '24 hours')
RETURNS TABLE (loads bigint, already_loaded bigint, failures bigint, quarantined bigint, retries bigint,
               rows_read numeric, rows_inserted numeric, rows_conflicting numeric, rows_replaced numeric,
               rows_rejected numeric, bytes numeric, fetch_seconds double precision,
               decode_seconds double precision, insert_seconds double precision, median_ms double precision,
               p95_ms double precision, p99_ms double precision, longest_ms double precision, errors jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    WITH failed AS MATERIALIZED (
        SELECT h.id, h.s3_uri, h.outcome, h.sqlstate
          FROM ingestion.load_history h WHERE h.sqlstate IS NOT NULL AND h.started_at >= now() - since
    ), errors AS (
        SELECT jsonb_object_agg(e.class, e.times) AS classes
          FROM (SELECT left(f.sqlstate, 2) AS class, count(*) AS times FROM failed f GROUP BY 1) AS e
    ), retries AS (
        -- As many as there are failed attempts that another attempt followed.
        SELECT count(*) AS times FROM failed f
         WHERE f.outcome = 'failed'
           AND EXISTS (SELECT FROM ingestion.load_history n
                        WHERE n.s3_uri = f.s3_uri AND n.id > f.id AND n.started_at >= now() - since)
    )
    SELECT count(*) FILTER (WHERE h.outcome = 'loaded'), count(*) FILTER (WHERE h.outcome = 'already loaded'),
           count(*) FILTER (WHERE h.outcome IN ('failed', 'quarantined')),
           count(*) FILTER (WHERE h.outcome = 'quarantined'),
           (SELECT r.times FROM retries r),
           coalesce(sum(h.rows_read), 0), coalesce(sum(h.rows_inserted), 0), coalesce(sum(h.rows_conflicting), 0),
           coalesce(sum(h.rows_replaced), 0), coalesce(sum(h.rows_rejected), 0), coalesce(sum(h.bytes), 0),
           coalesce(sum(h.fetch_ms), 0) / 1000, coalesce(sum(h.decode_ms), 0) / 1000,
           coalesce(sum(h.insert_ms), 0) / 1000,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY h.elapsed_ms) FILTER (WHERE h.outcome = 'loaded'),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY h.elapsed_ms) FILTER (WHERE h.outcome = 'loaded'),
           percentile_cont(0.99) WITHIN GROUP (ORDER BY h.elapsed_ms) FILTER (WHERE h.outcome = 'loaded'),
           max(h.elapsed_ms) FILTER (WHERE h.outcome = 'loaded'),
           coalesce((SELECT e.classes FROM errors e), '{}')
      FROM ingestion.load_history h WHERE h.started_at >= now() - since;
END
$$;
COMMENT ON FUNCTION btc_ingest.stats_since(interval) IS
'Counts and times of the attempts in ingestion.load_history.

since: how far to look back. Default 24 hours.

Returns one row:
loads: Loads that committed.
already_loaded: Loads that found the object''s version loaded already.
failures: Attempts that failed.
quarantined: Attempts that failed and after which the object was quarantined.
retries: Attempts after a failed one.
rows_read: Rows of the loaded objects.
rows_inserted: Ticks that were stored.
rows_conflicting: Ticks that were stored before with other values, which were kept.
rows_replaced: Ticks that were stored before with other values, which were replaced.
rows_rejected: Rows that could not be stored as ticks.
bytes: Bytes fetched from S3.
fetch_seconds: Seconds spent waiting for S3. Stages of a load overlap.
decode_seconds: Seconds spent decoding and encoding.
insert_seconds: Seconds spent storing in PostgreSQL.
median_ms: Median duration of a load in milliseconds; null if there was none.
p95_ms: 95th percentile of the duration in milliseconds.
p99_ms: 99th percentile of the duration in milliseconds.
longest_ms: Longest duration in milliseconds.
errors: JSON object: number of failed attempts by class of SQLSTATE (its first two characters).';

CREATE VIEW btc_ingest.stats AS SELECT * FROM btc_ingest.stats_since('24 hours');
COMMENT ON VIEW btc_ingest.stats IS 'Counts and times of the last 24 hours; stats_since() looks back further';
COMMENT ON COLUMN btc_ingest.stats.loads IS 'Loads that committed';
COMMENT ON COLUMN btc_ingest.stats.already_loaded IS 'Loads that found the object''s version loaded already';
COMMENT ON COLUMN btc_ingest.stats.failures IS 'Attempts that failed';
COMMENT ON COLUMN btc_ingest.stats.quarantined IS 'Attempts that failed and after which the object was quarantined';
COMMENT ON COLUMN btc_ingest.stats.retries IS 'Attempts after a failed one';
COMMENT ON COLUMN btc_ingest.stats.rows_read IS 'Rows of the loaded objects';
COMMENT ON COLUMN btc_ingest.stats.rows_inserted IS 'Ticks that were stored';
COMMENT ON COLUMN btc_ingest.stats.rows_conflicting IS
    'Ticks that were stored before with other values, which were kept';
COMMENT ON COLUMN btc_ingest.stats.rows_replaced IS
    'Ticks that were stored before with other values, which were replaced';
COMMENT ON COLUMN btc_ingest.stats.rows_rejected IS 'Rows that could not be stored as ticks';
COMMENT ON COLUMN btc_ingest.stats.bytes IS 'Bytes fetched from S3';
COMMENT ON COLUMN btc_ingest.stats.fetch_seconds IS 'Seconds spent waiting for S3. Stages of a load overlap';
COMMENT ON COLUMN btc_ingest.stats.decode_seconds IS 'Seconds spent decoding and encoding';
COMMENT ON COLUMN btc_ingest.stats.insert_seconds IS 'Seconds spent storing in PostgreSQL';
COMMENT ON COLUMN btc_ingest.stats.median_ms IS 'Median duration of a load in milliseconds; null if there was none';
COMMENT ON COLUMN btc_ingest.stats.p95_ms IS '95th percentile of the duration in milliseconds';
COMMENT ON COLUMN btc_ingest.stats.p99_ms IS '99th percentile of the duration in milliseconds';
COMMENT ON COLUMN btc_ingest.stats.longest_ms IS 'Longest duration in milliseconds';
COMMENT ON COLUMN btc_ingest.stats.errors IS
    'JSON object: number of failed attempts by class of SQLSTATE (its first two characters)';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest_internal.running_loads(), btc_ingest.workers(), btc_ingest_internal.objects_waiting(),
    btc_ingest_internal.prefixes_waiting(), btc_ingest_internal.objects_in_conflict(),
    btc_ingest_internal.lag_by_asset(), btc_ingest_internal.objects_failed(),
    btc_ingest_internal.slices_gone(), btc_ingest.stats_since(interval)
TO btc_ingest_reader, btc_ingest_monitor;
GRANT SELECT ON
    btc_ingest.queue, btc_ingest.outages, btc_ingest.lag, btc_ingest.failures, btc_ingest.conflicts,
    btc_ingest.gone, btc_ingest.progress, btc_ingest.stats
TO btc_ingest_reader, btc_ingest_monitor;
