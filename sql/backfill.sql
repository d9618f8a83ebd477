-- Backfills: background workers load whole prefixes. The procedure only starts the workers and reports their
-- progress. The state of a backfill is in tables.

CREATE FUNCTION btc_ingest_internal.start_backfill(
    prefixes text[], "from" timestamptz, "to" timestamptz, parallel integer, mode text, force boolean DEFAULT false
) RETURNS TABLE (backfill bigint, taken_up boolean)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'start_backfill_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.start_backfill(text[], timestamptz, timestamptz, integer, text, boolean) IS
    'Part of backfill(): checks the arguments and inserts the row, or continues an unfinished backfill with the same '
    'arguments (taken_up)';

CREATE FUNCTION btc_ingest_internal.start_backfill_workers(backfill bigint) RETURNS integer
LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'start_backfill_workers_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.start_backfill_workers(bigint) IS
    'Part of backfill(): starts the background workers that an unfinished backfill lacks. Returns their number';

CREATE FUNCTION btc_ingest_internal.survey_backfill(
    prefixes text[], "from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL, parallel integer DEFAULT 2,
    mode text DEFAULT 'object', force boolean DEFAULT false
) RETURNS TABLE (objects bigint, known bigint, passed_over bigint, bytes bigint, estimated_rows bigint,
                 disk_bytes bigint, free_bytes bigint, seconds double precision)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'survey_backfill_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.survey_backfill(text[], timestamptz, timestamptz, integer, text, boolean) IS
    'Part of backfill(dry_run => true): lists the prefixes, reads a few footers, and estimates what a backfill needs. '
    'known: objects that are not loaded, because they are loaded already at the same etag or skipped';

CREATE FUNCTION btc_ingest_internal.duration_text(seconds double precision) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN seconds < 1.5 THEN 'a second'
                WHEN seconds < 100 THEN round(seconds) || ' seconds'
                WHEN seconds < 100 * 60 THEN round(seconds / 60) || ' minutes'
                WHEN seconds < 48 * 3600 THEN round((seconds / 3600)::numeric, 1) || ' hours'
                ELSE round((seconds / 86400)::numeric, 1) || ' days' END
$$;
COMMENT ON FUNCTION btc_ingest_internal.duration_text(double precision) IS
    'Part of backfill(dry_run => true): a duration in the unit that a person would take';

CREATE FUNCTION btc_ingest.backfill_status(backfill bigint DEFAULT NULL)
RETURNS TABLE (
    id bigint, prefixes text[], mode text, status text, paused boolean, parallel integer, workers integer,
    objects_total bigint, objects_known bigint, objects_done bigint, objects_failed bigint, objects_waiting bigint,
    bytes_total bigint, bytes_done bigint, rows_inserted bigint, rows_per_second double precision, time_left interval,
    sqlstate text, message text, created_at timestamptz, finished_at timestamptz
)
-- It runs with the privileges of its caller, who may read the tables.
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT b.id, b.prefixes, b.mode, b.status, c.paused AND b.status IN ('pending', 'listing', 'loading'), b.parallel,
           coalesce(w.alive, 0)::integer, b.objects_total, b.objects_known, coalesce(w.done, 0)::bigint,
           coalesce(q.quarantined, 0), coalesce(q.failed, 0), b.bytes_total, coalesce(w.bytes, 0)::bigint,
           coalesce(w.inserted, 0)::bigint,
           round((w.inserted * 1000 / nullif(w.working_ms, 0) * greatest(w.alive, 1))::numeric, 0)::double precision,
           -- Estimated by bytes, because objects differ in size.
           CASE WHEN b.status = 'loading' AND w.bytes > 0 THEN
               date_trunc('second', greatest(b.bytes_total - w.bytes, 0)
                                    * (w.working_ms / w.bytes / greatest(w.alive, 1)) * interval '1 millisecond') END,
           coalesce(s3.sqlstate, b.sqlstate),
           CASE WHEN s3.prefix IS NULL THEN b.message
                ELSE format('waits since %s until S3 answers under %s: %s', s3.since, s3.prefix, s3.message) END,
           b.created_at, b.finished_at
      FROM ingestion.backfills b
     CROSS JOIN ingestion.control c
      LEFT JOIN LATERAL (
          SELECT sum(w.objects_done) AS done, sum(w.bytes) AS bytes, sum(w.rows_inserted) AS inserted,
                 sum(w.working_ms) AS working_ms,
                 -- A worker that is alive holds the lock of its slot.
                 count(*) FILTER (
                     WHERE btc_ingest_internal.backfill_worker_is_alive(w.backfill, w.slot, w.pid)) AS alive
            FROM ingestion.backfill_workers w
           WHERE w.backfill = b.id) AS w ON true
      LEFT JOIN LATERAL (
          SELECT count(*) FILTER (WHERE o.status = 'quarantined') AS quarantined,
                 count(*) FILTER (WHERE o.status = 'failed') AS failed
            FROM ingestion.objects o
           WHERE o.backfill = b.id AND o.status IN ('failed', 'quarantined')) AS q ON true
      LEFT JOIN LATERAL (
          SELECT t.* FROM ingestion.outages t
           WHERE t.ended_at IS NULL AND b.status IN ('pending', 'listing', 'loading')
             AND EXISTS (SELECT FROM unnest(b.prefixes) AS p
                          WHERE split_part(p, '{', 1) ^@ t.prefix OR t.prefix ^@ split_part(p, '{', 1))
           ORDER BY t.since LIMIT 1) AS s3 ON true
     WHERE backfill_status.backfill IS NULL OR b.id = backfill_status.backfill
     ORDER BY b.id;
END
$$;
COMMENT ON FUNCTION btc_ingest.backfill_status(bigint) IS
'Backfills and their progress.

backfill: id of one backfill. Default null: all.

Returns one row per backfill:
id: number of the backfill.
prefixes: prefixes as they were given to backfill().
mode: "object" or "chunk".
status: pending or listing (keys are being listed), loading, done, stopped (fix the cause, then repeat the call) or
  cancelled.
paused: whether pause_ingest() holds up the backfill.
parallel: number of workers that are wanted.
workers: number of workers that run.
objects_total: objects under the prefixes and within the times; null before the listing.
objects_known: of these, objects that this backfill does not load, because they are loaded at the listed etag, skipped
  or live.
objects_done: objects that this backfill loaded.
objects_failed: objects that are quarantined.
objects_waiting: objects that failed and are tried again.
bytes_total: size of the objects to load in bytes.
bytes_done: bytes fetched from S3.
rows_inserted: ticks that were stored.
rows_per_second: ticks stored per second by all running workers; null before the first object.
time_left: estimate of the remaining time; null unless the status is loading.
sqlstate: SQLSTATE that belongs to message.
message: why the backfill has stopped, or what it is waiting for; null otherwise.
created_at: when the backfill was started.
finished_at: when the backfill was done or cancelled.';

CREATE FUNCTION btc_ingest.pause_ingest() RETURNS text
LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'pause_ingest_wrapper';
COMMENT ON FUNCTION btc_ingest.pause_ingest() IS
'Pauses all loading in this database: workers and sweeps finish the object or chunk in work and take no further one, and
prefixes are not listed. The pause outlasts restarts; resume_ingest() ends it. It does not affect load_s3_slice().
Returns what was changed.';

CREATE FUNCTION btc_ingest.resume_ingest() RETURNS text
LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'resume_ingest_wrapper';
COMMENT ON FUNCTION btc_ingest.resume_ingest() IS
'Ends pause_ingest(), and starts the workers that unfinished backfills lack, e.g. after a restart of the server.
Returns what was changed.';

CREATE FUNCTION btc_ingest.cancel_backfill(id bigint) RETURNS text
LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'cancel_backfill_wrapper';
COMMENT ON FUNCTION btc_ingest.cancel_backfill(bigint) IS
'Ends a backfill for good. The objects in work are rolled back, loaded objects stay. A later backfill of the same
prefixes loads the rest. A loader may cancel only backfills that it has started. Returns what was changed.

id: number of the backfill, as backfill_status() shows it.';

CREATE FUNCTION btc_ingest.backfill_failures(backfill bigint, most integer DEFAULT 10)
RETURNS TABLE (uri text, status text, attempts integer, sqlstate text, message text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT o.s3_uri, o.status, o.attempts, o.last_sqlstate, o.last_error
      FROM ingestion.objects o
     WHERE o.backfill = backfill_failures.backfill AND o.status IN ('failed', 'quarantined')
     ORDER BY o.s3_uri LIMIT most;
END
$$;
COMMENT ON FUNCTION btc_ingest.backfill_failures(bigint, integer) IS
'Objects that a backfill has not loaded, and why.

backfill: id of the backfill.
most: number of rows at most. Default 10.

Returns one row per object:
uri: uri of the object.
status: failed (is tried again) or quarantined (is not).
attempts: number of attempts.
sqlstate: SQLSTATE of the last failure.
message: message of the last failure.';

-- COMMIT is forbidden in a procedure that is SECURITY DEFINER or has SET. This one is neither, and qualifies all names.
CREATE PROCEDURE btc_ingest.backfill(
    prefixes text[],
    "from" timestamptz DEFAULT NULL,
    "to" timestamptz DEFAULT NULL,
    parallel integer DEFAULT 2,
    mode text DEFAULT 'object',
    dry_run boolean DEFAULT false,
    force boolean DEFAULT false
)
LANGUAGE plpgsql
AS $$
DECLARE
    started record;
    now_at record;
    failure record;
    said pg_catalog.timestamptz := pg_catalog.clock_timestamp();
    began pg_catalog.timestamptz := pg_catalog.clock_timestamp();
    looked pg_catalog.int4 := 0;
BEGIN
    IF dry_run IS NULL THEN
        RAISE EXCEPTION 'dry_run must be true or false' USING ERRCODE = 'TK013';
    ELSIF dry_run THEN
        SELECT * INTO now_at FROM btc_ingest_internal.survey_backfill(prefixes, "from", "to", parallel, mode, force);
        RAISE NOTICE 'dry run: % objects, % of them loaded already; % other keys passed over',
            now_at.objects, now_at.known, now_at.passed_over;
        RAISE NOTICE 'to load: %, about % ticks', pg_catalog.pg_size_pretty(now_at.bytes), now_at.estimated_rows;
        RAISE NOTICE 'disk: about % needed, % free; WAL and its archive need about as much again, for a while',
            pg_catalog.pg_size_pretty(now_at.disk_bytes), pg_catalog.pg_size_pretty(now_at.free_bytes);
        RAISE NOTICE 'time: about % with parallel => %',
            btc_ingest_internal.duration_text(now_at.seconds), parallel;
        IF now_at.disk_bytes OPERATOR(pg_catalog.>) now_at.free_bytes THEN
            RAISE EXCEPTION 'the disk is short: the backfill needs about %, % are free',
                pg_catalog.pg_size_pretty(now_at.disk_bytes), pg_catalog.pg_size_pretty(now_at.free_bytes)
                USING ERRCODE = 'TK016', HINT = 'Free space, add a disk, or take a shorter time range.';
        END IF;
        RETURN;
    END IF;

    SELECT * INTO started FROM btc_ingest_internal.start_backfill(prefixes, "from", "to", parallel, mode, force);
    COMMIT;
    IF started.taken_up THEN
        RAISE NOTICE 'backfill % goes on where it stood', started.backfill;
    ELSE
        RAISE NOTICE
            'backfill % has begun; it goes on without this session: SELECT * FROM btc_ingest.backfill_status(%)',
            started.backfill, started.backfill;
    END IF;
    PERFORM btc_ingest_internal.start_backfill_workers(started.backfill);
    COMMIT;

    LOOP
        SELECT * INTO now_at FROM btc_ingest.backfill_status(started.backfill);
        EXIT WHEN now_at.status IS NULL OR now_at.status NOT IN ('pending', 'listing', 'loading');
        IF pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) said
               OPERATOR(pg_catalog.>) '3 seconds'::pg_catalog.interval THEN
            said := pg_catalog.clock_timestamp();
            IF now_at.paused THEN
                RAISE NOTICE 'backfill %: paused; SELECT btc_ingest.resume_ingest() goes on', now_at.id;
            ELSIF now_at.status = 'loading' THEN
                RAISE NOTICE 'backfill %: %/% objects, % rows, % rows/s, % left%', now_at.id,
                    now_at.objects_done OPERATOR(pg_catalog.+) now_at.objects_known, now_at.objects_total,
                    now_at.rows_inserted,
                    coalesce(now_at.rows_per_second, 0), coalesce(now_at.time_left::pg_catalog.text, 'unknown time'),
                    CASE WHEN now_at.objects_failed OPERATOR(pg_catalog.>) 0
                         THEN pg_catalog.format(', %s failed', now_at.objects_failed) ELSE '' END;
            ELSE
                RAISE NOTICE 'backfill %: listing, % objects so far', now_at.id, coalesce(now_at.objects_total, 0);
            END IF;
            IF now_at.message IS NOT NULL THEN
                RAISE NOTICE 'backfill %: waiting: %', now_at.id, now_at.message;
            END IF;
            -- After a crash of the server the postmaster may not start the workers again.
            PERFORM btc_ingest_internal.start_backfill_workers(started.backfill);
        END IF;
        COMMIT;
        -- The pause is short at first, because a small backfill ends soon.
        looked := looked OPERATOR(pg_catalog.+) 1;
        PERFORM pg_catalog.pg_sleep(CASE WHEN looked OPERATOR(pg_catalog.<) 100 THEN 0.02 ELSE 0.25 END);
    END LOOP;

    IF now_at.status IS NULL THEN
        RAISE EXCEPTION 'backfill % is gone: its row was deleted', started.backfill USING ERRCODE = 'TK013';
    END IF;
    RAISE NOTICE 'backfill % is %: % objects loaded, % loaded before, % failed; % rows in % s',
        now_at.id, now_at.status,
        now_at.objects_done, now_at.objects_known, now_at.objects_failed, now_at.rows_inserted,
        pg_catalog.round(pg_catalog.date_part(
            'epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began)::pg_catalog.numeric, 1);
    FOR failure IN SELECT * FROM btc_ingest.backfill_failures(started.backfill) LOOP
        RAISE WARNING '%: % (%, % attempts)', failure.uri, failure.message, failure.sqlstate, failure.attempts;
    END LOOP;
    IF now_at.objects_failed OPERATOR(pg_catalog.>) 10 THEN
        RAISE WARNING '% more: SELECT * FROM btc_ingest.backfill_failures(%, 1000)',
            now_at.objects_failed OPERATOR(pg_catalog.-) 10, now_at.id;
    END IF;
    IF now_at.status OPERATOR(pg_catalog.=) 'stopped' THEN
        RAISE EXCEPTION 'backfill % has stopped: %', now_at.id, now_at.message
            USING ERRCODE = now_at.sqlstate,
                  HINT = 'Fix the cause, then repeat the CALL with the same arguments: it continues where it stopped.';
    END IF;
END
$$;
COMMENT ON PROCEDURE btc_ingest.backfill(text[], timestamptz, timestamptz, integer, text, boolean, boolean) IS
'Loads all objects under some prefixes by background workers, and reports their progress. The end of the session does
not end the workers; the same CALL again reports the progress of the same backfill. CALL it outside BEGIN … COMMIT,
because it commits.

prefixes: array of s3://bucket/prefix, which may contain {exchange}, {asset}, {yyyy}, {mm}, {dd}, {hh}, {mi} and {*}.
from: only objects that can hold times from this one on. Default null: no limit.
to: only objects that can hold times before this one. Default null: no limit.
parallel: number of workers, at most btc_ingest.max_backfill_workers. Default 2.
mode: "object" (default): each object is loaded in a transaction of its own; "chunk": chunks that do not exist yet are
  built as a whole, which needs TimescaleDB''s Community edition.
dry_run: true lists the prefixes, prints estimates of bytes, ticks, disk and time, and writes nothing. Default false.
force: true also loads objects that are loaded already, e.g. after drop_chunks() by mistake. Default false.';

CREATE PROCEDURE btc_ingest.backfill(
    prefix text,
    "from" timestamptz DEFAULT NULL,
    "to" timestamptz DEFAULT NULL,
    parallel integer DEFAULT 2,
    mode text DEFAULT 'object',
    dry_run boolean DEFAULT false,
    force boolean DEFAULT false
)
LANGUAGE plpgsql
AS $$
BEGIN
    -- A literal without a type comes here, also that of an array.
    CALL btc_ingest.backfill(CASE WHEN prefix OPERATOR(pg_catalog.~) '^\s*{' THEN prefix::pg_catalog.text[]
                                  WHEN prefix IS NOT NULL THEN ARRAY[prefix] END,
                             "from", "to", parallel, mode, dry_run, force);
END
$$;
COMMENT ON PROCEDURE btc_ingest.backfill(text, timestamptz, timestamptz, integer, text, boolean, boolean) IS
'Loads all objects under one prefix, as backfill() does for an array of prefixes.

prefix: s3://bucket/prefix, which may contain {exchange}, {asset}, {yyyy}, {mm}, {dd}, {hh}, {mi} and {*}.
from: only objects that can hold times from this one on. Default null: no limit.
to: only objects that can hold times before this one. Default null: no limit.
parallel: number of workers, as for an array. Default 2.
mode: "object" (default) or "chunk", as for an array.
dry_run: true prints estimates and writes nothing. Default false.
force: true also loads objects that are loaded already. Default false.';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest_internal.start_backfill(text[], timestamptz, timestamptz, integer, text, boolean),
    btc_ingest_internal.start_backfill_workers(bigint),
    btc_ingest_internal.survey_backfill(text[], timestamptz, timestamptz, integer, text, boolean),
    btc_ingest_internal.duration_text(double precision),
    btc_ingest.backfill_failures(bigint, integer)
TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION btc_ingest.backfill_status(bigint) TO btc_ingest_reader, btc_ingest_monitor;
GRANT EXECUTE ON PROCEDURE
    btc_ingest.backfill(text[], timestamptz, timestamptz, integer, text, boolean, boolean),
    btc_ingest.backfill(text, timestamptz, timestamptz, integer, text, boolean, boolean)
TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION btc_ingest.cancel_backfill(bigint) TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION btc_ingest.pause_ingest(), btc_ingest.resume_ingest() TO btc_ingest_admin;
