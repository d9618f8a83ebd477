-- Retention: compression and dropping of chunks as ops.retention_jobs wants it. A chunk is dropped only after it is
-- proven that all of its ticks can be loaded again; what was dropped is recorded, so that nothing brings it back by
-- accident and no candle is computed from what is left.

CREATE FUNCTION btc_ingest_internal.with_chunks()
RETURNS TABLE (chunked oid, stored_in text, by_time boolean, of_owner boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    SELECT c.oid, s.stored_in, d.by_time,
           c.relowner = t.relowner OR (SELECT count(*) = 2 FROM pg_roles r
                                        WHERE r.oid IN (c.relowner, t.relowner) AND r.rolsuper)
      FROM (SELECT h.id, h.schema_name, h.table_name FROM _timescaledb_catalog.hypertable h
            UNION ALL
            SELECT a.mat_hypertable_id, a.user_view_schema, a.user_view_name FROM _timescaledb_catalog.continuous_agg a)
           AS x (id, schema_name, table_name)
      JOIN pg_namespace n ON n.nspname = x.schema_name
      JOIN pg_class c ON (c.relnamespace, c.relname) = (n.oid, x.table_name)
     CROSS JOIN LATERAL (
         SELECT coalesce(bool_or(i.column_type = 'timestamptz'::regtype AND i.interval_length IS NOT NULL), false)
           FROM _timescaledb_catalog.dimension i WHERE i.hypertable_id = x.id) AS d (by_time)
      LEFT JOIN LATERAL (
         SELECT format('%I.%I', a.user_view_schema, a.user_view_name)
           FROM _timescaledb_catalog.continuous_agg a WHERE a.mat_hypertable_id = x.id AND c.relkind = 'r')
           AS s (stored_in) ON true
      JOIN pg_class t ON t.oid = to_regclass('market_data.btc_ticks')
$$;
COMMENT ON FUNCTION btc_ingest_internal.with_chunks() IS
    'Part of ops.retention_jobs: hypertables and continuous aggregates; the aggregate whose rows a hypertable holds, '
    'whether its chunks are ranges of times, and whether the owner of the tables may drop them';

-- It reads catalogs and the values that it is given, and no table.
CREATE FUNCTION btc_ingest_internal.retention_fault(hypertable text, policy jsonb, enabled boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    known CONSTANT text[] := '{compress_after,drop_after,segment_by,order_by,schedule_interval,max_runtime}';
    relation oid;
    item record;
    span interval;
BEGIN
    IF jsonb_typeof(policy) IS DISTINCT FROM 'object' THEN
        RETURN 'the policy must be a JSON object';
    END IF;
    FOR item IN SELECT k.key, k.value, jsonb_typeof(k.value) AS type, k.value #>> '{}' AS text
                  FROM jsonb_each(policy) AS k ORDER BY k.key COLLATE "C" LOOP
        IF item.key <> ALL (known) THEN
            RETURN format('unknown key "%s"', item.key);
        ELSIF item.type <> 'string' THEN
            RETURN format('%s must be a string', item.key);
        ELSIF item.key NOT IN ('segment_by', 'order_by') THEN
            BEGIN
                span := item.text::interval;
            EXCEPTION WHEN data_exception THEN
                RETURN format('%s is "%s", which is no interval', item.key, item.text);
            END;
            IF span <= interval '0' OR span > interval '10000 years' THEN
                RETURN format('%s is "%s", and must be longer than nothing', item.key, item.text);
            END IF;
        END IF;
    END LOOP;
    IF NOT policy ?| '{compress_after,drop_after}' THEN
        RETURN 'the policy has neither compress_after nor drop_after';
    ELSIF policy ?| '{segment_by,order_by}' AND NOT policy ? 'compress_after' THEN
        RETURN 'segment_by and order_by belong to compress_after';
    ELSIF (policy ->> 'drop_after')::interval <= (policy ->> 'compress_after')::interval THEN
        RETURN 'drop_after must be longer than compress_after';
    END IF;
    BEGIN
        relation := to_regclass(hypertable);
    EXCEPTION WHEN OTHERS THEN
        RETURN format('"%s" is no name of a table', hypertable);
    END;
    IF relation IS NULL THEN
        -- A row that is disabled may wait for its table.
        RETURN CASE WHEN enabled THEN format('there is no table or aggregate %s', hypertable) END;
    ELSIF policy ? 'drop_after' AND enabled THEN
        SELECT * INTO item FROM btc_ingest_internal.with_chunks() x WHERE x.chunked = relation;
        IF NOT FOUND THEN
            RETURN format('%s is no hypertable and no continuous aggregate, so it has no chunks to drop', hypertable);
        ELSIF item.stored_in IS NOT NULL THEN
            RETURN format('%s holds the rows of %s: name that one', hypertable, item.stored_in);
        ELSIF NOT item.by_time THEN
            RETURN format('the time column of %s is no timestamp with time zone', hypertable);
        ELSIF NOT item.of_owner THEN
            RETURN format('%s does not belong to the owner of the tables', hypertable);
        END IF;
    END IF;
    FOR item IN
        SELECT p.text, m.part[1] AS name
          FROM (SELECT regexp_split_to_table(policy ->> 'segment_by', ',') AS text, '^\s*"?(\w+)"?\s*$' AS pattern
                UNION ALL
                SELECT regexp_split_to_table(policy ->> 'order_by', ','),
                       '^\s*"?(\w+)"?(?:\s+(?:asc|desc))?(?:\s+nulls\s+(?:first|last))?\s*$') AS p
          LEFT JOIN LATERAL regexp_match(p.text, p.pattern, 'i') AS m (part) ON true
    LOOP
        IF NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = item.name
                          AND a.attnum > 0 AND NOT a.attisdropped) THEN
            RETURN format('%s has no column "%s"', hypertable, trim(coalesce(item.name, item.text)));
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.retention_fault(text, jsonb, boolean) IS
    'Part of ops.retention_jobs: what is wrong with a row; null if nothing is';

CREATE FUNCTION btc_ingest_internal.retention_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    enabled CONSTANT boolean := coalesce(NEW.enabled, false);
    fault CONSTANT text := btc_ingest_internal.retention_fault(NEW.hypertable, NEW.policy, enabled);
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'the policy "%" cannot be applied: %', NEW.job_name, fault
            USING ERRCODE = 'TK040', SCHEMA = 'ops', TABLE = 'retention_jobs',
                  HINT = 'Keys are compress_after, drop_after, segment_by, order_by, schedule_interval and '
                         'max_runtime, e.g. {"compress_after": "30 days", "segment_by": "symbol", "order_by": '
                         '"event_time DESC, trade_id"} or {"drop_after": "90 days", "max_runtime": "1 hour"}.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.retention_row() IS
    'Trigger of ops.retention_jobs: refuses a row that cannot be applied';

CREATE FUNCTION btc_ingest_internal.retention_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    FOR item IN SELECT * FROM btc_ingest.apply_retention() LOOP
        IF item.done LIKE 'nothing: %' THEN
            RAISE WARNING '%: %', item.job_name, item.done;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.retention_changed() IS
    'Trigger of ops.retention_jobs: calls apply_retention()';

CREATE FUNCTION btc_ingest.apply_retention() RETURNS TABLE (job_name text, done text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'apply_retention_wrapper';
COMMENT ON FUNCTION btc_ingest.apply_retention() IS
'Makes TimescaleDB''s jobs those that the rows of ops.retention_jobs want: it adds what is missing, changes what differs
and deletes what belongs to a row that is disabled or gone. A trigger calls it after each change of a row; call it by
hand if doctor() finds that a job was changed or removed otherwise. It runs with the privileges of the owner of the
tables.

Returns one row per change, or per row that cannot be applied with TimescaleDB''s Apache edition:
job_name: the row.
done: what was wrong and has been mended; or "nothing: " and the reason.';

CREATE FUNCTION btc_ingest_internal.retention_step(began timestamptz) RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'retention_step_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.retention_step(timestamptz) IS
    'Part of run_retention(): one step at a chunk of ticks that is due, else at a chunk of another hypertable, without '
    'those that were held back since the run began: held, proving, dropped, busy or done';

-- COMMIT is forbidden in a procedure that is SECURITY DEFINER or has SET. This one is neither, and qualifies all names.
CREATE PROCEDURE btc_ingest.run_retention(job_id integer DEFAULT NULL, config jsonb DEFAULT '{}')
LANGUAGE plpgsql
AS $$
DECLARE
    began pg_catalog.timestamptz := pg_catalog.clock_timestamp();
    most pg_catalog.interval;
    outcome pg_catalog.text;
BEGIN
    SELECT pg_catalog.min((r.policy OPERATOR(pg_catalog.->>) 'max_runtime')::pg_catalog.interval) INTO most
      FROM ops.retention_jobs r WHERE r.enabled AND r.policy OPERATOR(pg_catalog.?) 'drop_after';
    LOOP
        outcome := btc_ingest_internal.retention_step(began);
        COMMIT;
        EXIT WHEN outcome OPERATOR(pg_catalog.=) ANY ('{done,busy}'::pg_catalog.text[])
               OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began OPERATOR(pg_catalog.>=) most;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE btc_ingest.run_retention(integer, jsonb) IS
'Drops the chunks that an enabled row of ops.retention_jobs wants to be dropped, the oldest first. A chunk of
market_data.btc_ticks is dropped after the proof that nothing is lost: all objects that may hold ticks of it are loaded,
all continuous aggregates are refreshed over it, each of its ticks is in a loaded object, and all these objects are in
S3 at their loaded versions. The view retention shows what is held back and why. The proof goes on where the last run
has stopped. Chunks of candles and of other hypertables, for which there is no such proof, are dropped if nothing is
built on them. Workers call it where btc_ingest is preloaded, else a job of TimescaleDB. CALL it outside
BEGIN … COMMIT, because it commits.

job_id: number of the job, which TimescaleDB passes. Without meaning here.
config: configuration of the job, which TimescaleDB passes. Without meaning here.';

CREATE FUNCTION btc_ingest_internal.retention_rows()
RETURNS TABLE (range_from timestamptz, range_to timestamptz, state text, asset text, ticks bigint, objects bigint,
               job_name text, reason text, since timestamptz, keep_until timestamptz, hypertable text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT k.chunk_from, k.chunk_to, CASE WHEN k.held_by IS NOT NULL THEN 'held back' ELSE 'proving' END,
           NULL::text, NULL::bigint, k.objects, k.job_name, k.held_by,
           CASE WHEN k.held_by IS NOT NULL THEN k.held_since ELSE k.proof_began END, NULL::timestamptz,
           'market_data.btc_ticks'
      FROM ops.retention_checks k
    UNION ALL
    SELECT c.from_time, c.to_time, CASE WHEN c.held_by IS NOT NULL THEN 'held back' ELSE 'dropped' END,
           NULL, c.rows, NULL, c.job_name, c.held_by, coalesce(c.held_since, c.dropped_at), NULL, c.hypertable
      FROM ops.chunk_drops c
    UNION ALL
    SELECT d.from_time, d.to_time,
           CASE WHEN d.restored_at IS NOT NULL THEN 'restored' WHEN d.wanted_at IS NOT NULL THEN 'restoring'
                ELSE 'dropped' END,
           d.asset, d.ticks, d.objects, d.job_name, NULL::text,
           coalesce(d.restored_at, d.wanted_at, d.dropped_at), d.keep_until, 'market_data.btc_ticks'
      FROM ops.dropped_ranges d
     ORDER BY 1, 11, 3, 4;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.retention_rows() IS 'Rows of the view retention';

CREATE VIEW btc_ingest.retention AS SELECT * FROM btc_ingest_internal.retention_rows();
COMMENT ON VIEW btc_ingest.retention IS
    'Chunks that are due to be dropped, with what holds them back, and ranges that were dropped';
COMMENT ON COLUMN btc_ingest.retention.range_from IS 'Start of the chunk';
COMMENT ON COLUMN btc_ingest.retention.range_to IS 'End (exclusive) of the chunk';
COMMENT ON COLUMN btc_ingest.retention.state IS
    'proving: its objects are being looked for in S3; held back: for the reason in the column reason; dropped; '
    'restoring: restore_range() loads its objects again; restored';
COMMENT ON COLUMN btc_ingest.retention.asset IS
    'Symbol; null for a chunk that is not dropped yet, and for other hypertables than the ticks';
COMMENT ON COLUMN btc_ingest.retention.ticks IS
    'Ticks of the asset that were dropped; of another hypertable, its rows, e.g. candles';
COMMENT ON COLUMN btc_ingest.retention.objects IS
    'Objects that hold ticks of it; for a chunk that is being proven, those that were found in S3 so far';
COMMENT ON COLUMN btc_ingest.retention.job_name IS 'Row of ops.retention_jobs';
COMMENT ON COLUMN btc_ingest.retention.reason IS 'What holds the chunk back';
COMMENT ON COLUMN btc_ingest.retention.since IS 'Since when it has been in this state';
COMMENT ON COLUMN btc_ingest.retention.keep_until IS 'Until when run_retention() leaves a restored range';
COMMENT ON COLUMN btc_ingest.retention.hypertable IS 'Hypertable or continuous aggregate of the chunk';

CREATE FUNCTION btc_ingest.record_dropped(asset text, "from" timestamptz, "to" timestamptz)
RETURNS TABLE (range_from timestamptz, range_to timestamptz, ticks bigint, objects bigint)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'record_dropped_wrapper';
COMMENT ON FUNCTION btc_ingest.record_dropped(text, timestamptz, timestamptz) IS
'Records slices as dropped whose chunk another statement has dropped, for example drop_chunks(). From then on they are
as those that run_retention() drops: nothing brings them back by accident, their candles stay as they are, and
restore_range() brings them back. doctor() and the view gone name such slices. Chunks that the range touches are
recorded as a whole.

asset: symbol as stored, e.g. BTCUSDT.
from: a time in the first chunk.
to: end (exclusive) of the times.

Returns one row per chunk:
range_from: start of the chunk.
range_to: its end (exclusive).
ticks: ticks of the asset that are gone, as the ledger knows them.
objects: objects that hold them.';

CREATE FUNCTION btc_ingest_internal.want_range(asset text, "from" timestamptz, "to" timestamptz)
RETURNS TABLE (objects bigint, first timestamptz, after timestamptz)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'want_range_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.want_range(text, timestamptz, timestamptz) IS
    'Part of restore_range(): makes the objects of dropped ranges pending again, and returns how many, and the range';

CREATE FUNCTION btc_ingest_internal.restore_step(
    asset text, "from" timestamptz, "to" timestamptz, claim_next boolean
) RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'restore_step_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.restore_step(text, timestamptz, timestamptz, boolean) IS
    'Part of restore_range(): loads the object that the last step claimed, and claims the next one that holds ticks of '
    'the range if claim_next is true. Returns whether it claimed one';

CREATE FUNCTION btc_ingest_internal.range_restored(asset text, "from" timestamptz, "to" timestamptz, keep interval)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'range_restored_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.range_restored(text, timestamptz, timestamptz, interval) IS
    'Part of restore_range(): records dropped ranges as restored if all of their ticks are back. Returns null then, '
    'otherwise what is missing; an empty text if objects still wait';

CREATE PROCEDURE btc_ingest.restore_range(
    asset text, "from" timestamptz, "to" timestamptz, keep interval DEFAULT '30 days'
)
LANGUAGE plpgsql
AS $$
DECLARE
    wanted record;
    missing pg_catalog.text;
    more pg_catalog.bool;
BEGIN
    SELECT w.objects, w.first, w.after INTO wanted FROM btc_ingest_internal.want_range(asset, "from", "to") w;
    COMMIT;
    LOOP
        more := btc_ingest_internal.restore_step(asset, "from", "to", true);
        COMMIT;
        WHILE more LOOP
            more := btc_ingest_internal.restore_step(asset, "from", "to", true);
            COMMIT;
        END LOOP;
        missing := btc_ingest_internal.range_restored(asset, "from", "to", keep);
        COMMIT;
        EXIT WHEN missing IS NULL;
        IF missing OPERATOR(pg_catalog.<>) '' THEN
            RAISE EXCEPTION 'the range is not restored: %', missing USING ERRCODE = 'TK043',
                HINT = 'SELECT * FROM btc_ingest.failures shows objects that could not be loaded. CALL restore_range() '
                       'again when they can.';
        END IF;
        PERFORM pg_catalog.pg_sleep(0.1);
    END LOOP;
END
$$;
COMMENT ON PROCEDURE btc_ingest.restore_range(text, timestamptz, timestamptz, interval) IS
'Brings the ticks of an asset back that run_retention() has dropped: it loads the objects again that hold them, and ends
when as many ticks are stored as were dropped. Ranges are whole chunks: all that the given range touches. It loads no
other object. CALL it outside BEGIN … COMMIT, because it commits. If it fails or is cancelled, call it again.

asset: symbol as stored, e.g. BTCUSDT.
from: a time in the first range.
to: end (exclusive) of the times.
keep: how long run_retention() leaves the ranges. Default 30 days.';

CREATE FUNCTION btc_ingest_internal.make_retention(is_new boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    community CONSTANT boolean := coalesce(current_setting('timescaledb.license', true) = 'timescale', false);
    item record;
BEGIN
    IF is_new THEN
        INSERT INTO ops.retention_jobs (job_name, hypertable, policy, enabled)
        SELECT d.job_name, 'market_data.btc_ticks', d.policy::jsonb, d.enabled
          FROM (VALUES
              ('compress ticks', '{"compress_after": "30 days", "segment_by": "symbol",
                                   "order_by": "event_time DESC, trade_id"}', community),
              ('drop ticks', '{"drop_after": "90 days"}', false)) AS d (job_name, policy, enabled)
         -- Where there is a policy already, the administrator has decided.
         WHERE NOT EXISTS (SELECT FROM ops.retention_jobs r
                            WHERE to_regclass(r.hypertable) = 'market_data.btc_ticks'::regclass)
           AND NOT EXISTS (SELECT FROM timescaledb_information.jobs j
                            WHERE j.hypertable_schema = 'market_data' AND j.hypertable_name = 'btc_ticks'
                              AND j.proc_name IN ('policy_compression', 'policy_retention'))
        ON CONFLICT DO NOTHING;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = 'ops.retention_jobs'::regclass AND tgname = 'retention_row') THEN
        CREATE TRIGGER retention_row BEFORE INSERT OR UPDATE ON ops.retention_jobs
            FOR EACH ROW EXECUTE FUNCTION btc_ingest_internal.retention_row();
        ALTER TRIGGER retention_row ON ops.retention_jobs DEPENDS ON EXTENSION btc_ingest;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = 'ops.retention_jobs'::regclass AND tgname = 'retention_changed') THEN
        CREATE TRIGGER retention_changed AFTER INSERT OR UPDATE OR DELETE ON ops.retention_jobs
            FOR EACH STATEMENT EXECUTE FUNCTION btc_ingest_internal.retention_changed();
        ALTER TRIGGER retention_changed ON ops.retention_jobs DEPENDS ON EXTENSION btc_ingest;
    END IF;
    IF is_new AND community THEN
        -- A row of a table that stood already may be wrong: doctor() names it.
        BEGIN
            PERFORM btc_ingest.apply_retention();
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'the policies of ops.retention_jobs are not applied: %', SQLERRM
                USING HINT = 'SELECT btc_ingest.apply_retention(); doctor() shows which row is wrong.';
        END;
    END IF;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.make_retention(boolean) IS
    'Part of migrate(): the triggers of ops.retention_jobs, and the rows of a new installation';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION btc_ingest_internal.retention_rows() TO btc_ingest_reader, btc_ingest_monitor;
GRANT SELECT ON btc_ingest.retention TO btc_ingest_reader, btc_ingest_monitor;
GRANT EXECUTE ON FUNCTION
    btc_ingest.apply_retention(), btc_ingest.record_dropped(text, timestamptz, timestamptz),
    btc_ingest_internal.retention_step(timestamptz),
    btc_ingest_internal.want_range(text, timestamptz, timestamptz),
    btc_ingest_internal.restore_step(text, timestamptz, timestamptz, boolean),
    btc_ingest_internal.range_restored(text, timestamptz, timestamptz, interval)
TO btc_ingest_admin;
GRANT EXECUTE ON PROCEDURE
    btc_ingest.run_retention(integer, jsonb), btc_ingest.restore_range(text, timestamptz, timestamptz, interval)
TO btc_ingest_admin;
