-- Candles: continuous aggregates, or views where TimescaleDB has none. They belong to the owner of the tables, not to
-- the extension: they survive DROP EXTENSION, and name nothing of the extension.

CREATE FUNCTION btc_ingest.create_candles(
    width interval,
    name text DEFAULT NULL,
    by text DEFAULT 'event_time',
    chunk_interval interval DEFAULT '7 days'
) RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
SET client_min_messages = warning
AS 'MODULE_PATHNAME', 'create_candles_wrapper';
COMMENT ON FUNCTION btc_ingest.create_candles(interval, text, text, interval) IS
'Makes candles in the schema market_data: a continuous aggregate with TimescaleDB''s Community edition, a view
elsewhere. Returns at once: a worker, or refresh_candles(), fills in the history. Until then it is computed when it is
read.

width: width of a candle: from 100 ms on what divides 5 minutes, and multiples of 5 minutes that divide a day.
name: name in the schema market_data. Default: btc_ohlcv_ and the width, e.g. btc_ohlcv_1m.
by: "event_time" (default), or "trade_time" as the exchange''s klines; the default name then ends in _tt.
chunk_interval: chunk interval of the continuous aggregate. Default 7 days.

Returns the name with its schema.';

CREATE FUNCTION btc_ingest.drop_candles(name text) RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
SET client_min_messages = warning
AS 'MODULE_PATHNAME', 'drop_candles_wrapper';
COMMENT ON FUNCTION btc_ingest.drop_candles(text) IS
'Drops candles, also those of ticks that were dropped. Returns the name with its schema.

name: name of the candles, as the view candles shows it.';

CREATE FUNCTION btc_ingest_internal.want_candles("from" timestamptz, "to" timestamptz) RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'want_candles_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.want_candles(timestamptz, timestamptz) IS
    'Part of refresh_candles(): notes a range that a worker is to compute again. Returns how many candles there are';

CREATE FUNCTION btc_ingest_internal.candle_rows()
RETURNS TABLE (name text, width interval, by text, state text, aggregate text, chunk_interval interval,
               refreshed_at timestamptz, wanted_from timestamptz, wanted_to timestamptz, last_error text,
               created_by text, created_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT c.name, c.width, c.by_time,
           CASE WHEN NOT EXISTS (SELECT FROM pg_class v JOIN pg_namespace n ON n.oid = v.relnamespace
                                  WHERE n.nspname = 'market_data' AND v.relname = c.name) THEN 'gone'
                WHEN c.aggregate IS NULL THEN 'computed'
                WHEN c.last_error IS NOT NULL THEN 'failing'
                WHEN c.refreshed_at IS NULL THEN 'filling'
                ELSE 'kept' END,
           c.aggregate, CASE WHEN c.aggregate IS NOT NULL THEN c.chunk_interval END, c.refreshed_at, c.wanted_from,
           c.wanted_to, c.last_error, c.created_by, c.created_at
      FROM ingestion.candles c ORDER BY c.width, c.name;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.candle_rows() IS 'Rows of the view candles';

CREATE VIEW btc_ingest.candles AS SELECT * FROM btc_ingest_internal.candle_rows();
COMMENT ON VIEW btc_ingest.candles IS 'Candles that create_candles() has made, with their state';
COMMENT ON COLUMN btc_ingest.candles.name IS 'Name in the schema market_data';
COMMENT ON COLUMN btc_ingest.candles.width IS 'Width of a candle';
COMMENT ON COLUMN btc_ingest.candles.by IS 'event_time or trade_time: by which time a trade belongs to a candle';
COMMENT ON COLUMN btc_ingest.candles.state IS
    'computed: a view over the ticks; filling: no refresh has filled in the history yet; kept: stored and refreshed; '
    'failing: the last refresh failed; gone: dropped by another statement than drop_candles()';
COMMENT ON COLUMN btc_ingest.candles.aggregate IS 'The continuous aggregate in the schema market_data; null for a view';
COMMENT ON COLUMN btc_ingest.candles.chunk_interval IS 'Chunk interval of the continuous aggregate; null for a view';
COMMENT ON COLUMN btc_ingest.candles.refreshed_at IS 'When the last complete refresh began; null before the first one';
COMMENT ON COLUMN btc_ingest.candles.wanted_from IS
    'Start of the range that is to be computed again; null if only changes are looked for';
COMMENT ON COLUMN btc_ingest.candles.wanted_to IS 'End (exclusive) of that range';
COMMENT ON COLUMN btc_ingest.candles.last_error IS 'Why the last refresh failed; null if it did not';
COMMENT ON COLUMN btc_ingest.candles.created_by IS 'Role that called create_candles()';
COMMENT ON COLUMN btc_ingest.candles.created_at IS 'When it did';

CREATE FUNCTION btc_ingest_internal.candle_windows("from" timestamptz, "to" timestamptz)
RETURNS TABLE (candles text, aggregate regclass, first timestamptz, after timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    epoch CONSTANT timestamptz := '1970-01-01 00:00:00+00';
BEGIN
    RETURN QUERY
    WITH runs AS (
        -- Where chunks exist, without what was recorded as dropped: a chunk may come back with some of its ticks.
        SELECT lower(r.range) AS run_from, upper(r.range) AS run_to
          FROM (SELECT range_agg(tstzrange(c.range_start, c.range_end)) AS ranges
                  FROM timescaledb_information.chunks c
                 WHERE c.hypertable_schema = 'market_data' AND c.hypertable_name = 'btc_ticks') AS existing
         CROSS JOIN (SELECT coalesce(range_agg(tstzrange(d.from_time, d.to_time)), '{}') AS ranges
                       FROM ops.dropped_ranges d WHERE d.restored_at IS NULL) AS dropped
         CROSS JOIN LATERAL unnest(existing.ranges - dropped.ranges) AS r (range)
    ), stepped AS (
        SELECT c.name, c.aggregate, greatest(c.width, interval '5 minutes') AS step,
               -- Candles that a policy has dropped stay dropped as long as it is enabled.
               coalesce((SELECT range_agg(tstzrange(k.from_time, k.to_time)) FROM ops.chunk_drops k
                           JOIN ops.retention_jobs j ON j.job_name = k.job_name AND j.enabled
                          WHERE k.hypertable = 'market_data.' || quote_ident(c.aggregate) AND k.dropped_at IS NOT NULL),
                        '{}') AS dropped
          FROM ingestion.candles c WHERE c.aggregate IS NOT NULL
    ), pieces AS (
        SELECT s.*, lower(p.piece) AS run_from, upper(p.piece) AS run_to
          FROM stepped s CROSS JOIN runs r
         CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange(r.run_from, r.run_to)) - s.dropped) AS p (piece)
    ), windows AS (
        SELECT s.name, v.oid::regclass AS view,
               date_bin(s.step, greatest(s.run_from, date_bin(s.step, "from", epoch)) + s.step
                                - interval '1 microsecond', epoch) AS window_from,
               date_bin(s.step, least(s.run_to, date_bin(s.step, "to" - interval '1 microsecond', epoch) + s.step),
                        epoch) AS window_to
          FROM pieces s
          JOIN pg_class v ON v.relname = s.aggregate
           AND v.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = 'market_data')
          -- Another role's aggregate that took the name would run with the caller's privileges.
          JOIN pg_roles o ON o.oid = v.relowner
          JOIN pg_roles me ON me.rolname = current_user AND (me.oid = o.oid OR (me.rolsuper AND o.rolsuper))
    )
    SELECT w.name, w.view, w.window_from, w.window_to FROM windows w WHERE w.window_from < w.window_to
     ORDER BY w.name, w.window_from;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.candle_windows(timestamptz, timestamptz) IS
    'Part of refresh_candles(): the ranges that are to be computed again, without those whose ticks were dropped';

CREATE FUNCTION btc_ingest_internal.fill_beside_dropped("from" timestamptz, "to" timestamptz) RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'fill_beside_dropped_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.fill_beside_dropped(timestamptz, timestamptz) IS
    'Part of refresh_candles() and run_candles(): computes candles of assets that have ticks where those of others '
    'were dropped; without a range, those that loads have changed. Returns false if another session refreshes or drops';

CREATE FUNCTION btc_ingest_internal.owns_candles() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    -- The functions of an aggregate run with the privileges of the role that refreshes it.
    SELECT me.oid = o.oid OR (me.rolsuper AND o.rolsuper)
      FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_roles o ON o.oid = t.relowner
     CROSS JOIN pg_roles me
     WHERE n.nspname = 'market_data' AND t.relname = 'btc_ticks' AND me.rolname = current_user
$$;
COMMENT ON FUNCTION btc_ingest_internal.owns_candles() IS
    'Part of refresh_candles(): whether the caller may refresh the candles in its own session';

-- COMMIT is forbidden in a procedure that is SECURITY DEFINER or has SET. This one is neither, and qualifies all names.
-- TimescaleDB's schema is that of the database.
DO $make$
BEGIN
    EXECUTE format($procedure$
CREATE PROCEDURE btc_ingest.refresh_candles("from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    first_time pg_catalog.timestamptz := coalesce("from", '-infinity'::pg_catalog.timestamptz);
    end_time pg_catalog.timestamptz := coalesce("to", 'infinity'::pg_catalog.timestamptz);
    todo record;
    left_over record;
    place integer := 0;
    wanted pg_catalog.int8;
    began pg_catalog.timestamptz := pg_catalog.clock_timestamp();
BEGIN
    IF first_time OPERATOR(pg_catalog.>=) end_time THEN
        RAISE EXCEPTION 'the range must begin before it ends' USING ERRCODE = 'TK031',
            HINT = 'CALL btc_ingest.refresh_candles(''2024-08-08'', ''2024-08-09'');';
    END IF;
    IF btc_ingest_internal.owns_candles() THEN
        SELECT pg_catalog.array_agg(w.aggregate) AS views, pg_catalog.array_agg(w.first) AS firsts,
               pg_catalog.array_agg(w.after) AS afters, pg_catalog.count(*) AS windows
          INTO todo FROM btc_ingest_internal.candle_windows(first_time, end_time) w;
        WHILE place OPERATOR(pg_catalog.<) todo.windows LOOP
            place := place OPERATOR(pg_catalog.+) 1;
            CALL %1$s.refresh_continuous_aggregate(todo.views[place], todo.firsts[place], todo.afters[place],
                                                   force => true);
        END LOOP;
        COMMIT;
        WHILE NOT btc_ingest_internal.fill_beside_dropped(first_time, end_time) LOOP
            COMMIT;
            PERFORM pg_catalog.pg_sleep(0.1);
        END LOOP;
        UPDATE ingestion.candles SET refreshed_at = began, last_error = NULL
         WHERE aggregate IS NOT NULL AND "from" IS NULL AND "to" IS NULL;
        RETURN;
    END IF;

    wanted := btc_ingest_internal.want_candles(first_time, end_time);
    COMMIT;
    WHILE wanted OPERATOR(pg_catalog.>) 0::pg_catalog.int8 LOOP
        SELECT pg_catalog.count(*) AS number, pg_catalog.min(c.last_error) AS error INTO left_over
          FROM ingestion.candles c WHERE c.wanted_from IS NOT NULL;
        EXIT WHEN left_over.number OPERATOR(pg_catalog.=) 0::pg_catalog.int8;
        IF left_over.error IS NOT NULL THEN
            RAISE EXCEPTION 'the candles could not be refreshed: %%', left_over.error USING ERRCODE = 'TK032',
                HINT = 'SELECT * FROM btc_ingest.candles shows which; the worker goes on trying.';
        END IF;
        IF pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began
               OPERATOR(pg_catalog.>) '10 seconds'::pg_catalog.interval
           AND NOT EXISTS (SELECT FROM btc_ingest.workers() w
                            WHERE w.role OPERATOR(pg_catalog.=) 'scheduler'::pg_catalog.text) THEN
            RAISE EXCEPTION 'no worker runs that could refresh the candles' USING ERRCODE = 'TK032',
                HINT = 'Put btc_ingest into shared_preload_libraries, or let the owner of the tables do it.';
        END IF;
        COMMIT;
        PERFORM pg_catalog.pg_sleep(0.1);
    END LOOP;
END
$$
$procedure$, (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
               WHERE e.extname = 'timescaledb'));
END
$make$;
COMMENT ON PROCEDURE btc_ingest.refresh_candles(timestamptz, timestamptz) IS
'Computes candles again from the ticks that are stored, over a range or all of them. Candles of ticks that were dropped
stay as they are. For the owner of the tables in its own session, for other roles by a worker, for which it waits. CALL
it outside BEGIN … COMMIT, because it commits. Workers find by themselves what has changed, and need no such call.

from: start of the range. Default null: no limit.
to: end (exclusive) of the range. Default null: no limit.';

-- A job of TimescaleDB, as run_sweep is one. It does what the worker does, in the session of the job's owner.
DO $make$
BEGIN
    EXECUTE format($procedure$
CREATE PROCEDURE btc_ingest.run_candles(job_id integer DEFAULT NULL, config jsonb DEFAULT '{}')
LANGUAGE plpgsql
AS $$
DECLARE
    todo record;
    place integer := 0;
    began pg_catalog.timestamptz := pg_catalog.clock_timestamp();
BEGIN
    IF btc_ingest_internal.owns_candles() IS NOT TRUE THEN
        RAISE EXCEPTION 'only the owner of the tables may refresh candles in its session' USING ERRCODE = 'TK032',
            HINT = 'Let the owner of market_data.btc_ticks add the job, or CALL btc_ingest.refresh_candles().';
    END IF;
    -- The last ten minutes change still, and are computed when they are read.
    SELECT pg_catalog.array_agg(w.aggregate) AS views, pg_catalog.array_agg(w.first) AS firsts,
           pg_catalog.array_agg(w.after) AS afters, pg_catalog.count(*) AS windows
      INTO todo
      FROM btc_ingest_internal.candle_windows('-infinity'::pg_catalog.timestamptz,
               began OPERATOR(pg_catalog.-) '10 minutes'::pg_catalog.interval) w;
    WHILE place OPERATOR(pg_catalog.<) todo.windows LOOP
        place := place OPERATOR(pg_catalog.+) 1;
        CALL %1$s.refresh_continuous_aggregate(todo.views[place], todo.firsts[place], todo.afters[place]);
    END LOOP;
    COMMIT;
    WHILE NOT btc_ingest_internal.fill_beside_dropped(NULL, NULL) LOOP
        COMMIT;
        PERFORM pg_catalog.pg_sleep(0.1);
    END LOOP;
    UPDATE ingestion.candles SET refreshed_at = began, last_error = NULL WHERE aggregate IS NOT NULL;
END
$$
$procedure$, (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
               WHERE e.extname = 'timescaledb'));
END
$make$;
COMMENT ON PROCEDURE btc_ingest.run_candles(integer, jsonb) IS
'Computes the candles again whose ticks have changed, as a worker does where btc_ingest is preloaded. Made for a job of
TimescaleDB, by the owner of the tables: SELECT add_job(''btc_ingest.run_candles'', ''1 minute''). CALL it outside
BEGIN … COMMIT, because it commits.

job_id: number of the job, which TimescaleDB passes. Without meaning here.
config: configuration of the job, which TimescaleDB passes. Without meaning here.';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION btc_ingest_internal.candle_rows() TO btc_ingest_reader;
GRANT SELECT ON btc_ingest.candles TO btc_ingest_reader;
GRANT EXECUTE ON FUNCTION
    btc_ingest.create_candles(interval, text, text, interval), btc_ingest.drop_candles(text),
    btc_ingest_internal.want_candles(timestamptz, timestamptz),
    btc_ingest_internal.candle_windows(timestamptz, timestamptz),
    btc_ingest_internal.fill_beside_dropped(timestamptz, timestamptz), btc_ingest_internal.owns_candles()
TO btc_ingest_admin;
GRANT EXECUTE ON PROCEDURE
    btc_ingest.refresh_candles(timestamptz, timestamptz), btc_ingest.run_candles(integer, jsonb)
TO btc_ingest_admin;
