-- Chunks of a backfill in mode 'chunk': a worker fills a plain table, and TimescaleDB makes the table a chunk. This
-- needs TimescaleDB's Community edition.

CREATE FUNCTION btc_ingest_internal.stage_chunk(chunk_from timestamptz, chunk_to timestamptz) RETURNS regclass
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    root CONSTANT regclass := 'market_data.btc_ticks';
    name CONSTANT text := format('btc_ticks_%s_%s', extract(epoch FROM chunk_from)::bigint, pg_backend_pid());
    item record;
    options text;
    place text;
BEGIN
    -- LIKE copies neither the owner nor storage options, the tablespace and statistics targets.
    SELECT CASE WHEN c.reloptions IS NOT NULL THEN format('WITH (%s)', array_to_string(c.reloptions, ', ')) ELSE '' END,
           CASE WHEN t.spcname IS NOT NULL THEN format('TABLESPACE %I', t.spcname) ELSE '' END
      INTO options, place
      FROM pg_class c LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE c.oid = root;
    -- The CHECK ensures that no row lies outside the chunk. TimescaleDB 2.19 does not check that.
    EXECUTE format(
        'CREATE TABLE ingestion.%I (LIKE market_data.btc_ticks INCLUDING DEFAULTS INCLUDING CONSTRAINTS
                                     INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION,
                                    CONSTRAINT within_chunk CHECK (bucket_5m >= %L AND bucket_5m < %L)) %s %s',
        name, chunk_from, chunk_to, options, place);
    FOR item IN
        SELECT a.attname, a.attstattarget, o.distinct_options FROM pg_attribute a
         CROSS JOIN LATERAL (SELECT string_agg(option, ', ') FROM unnest(a.attoptions) AS option
                              WHERE option LIKE 'n\_distinct%') AS o (distinct_options)
         WHERE a.attrelid = root AND a.attnum > 0 AND NOT a.attisdropped
           AND (a.attstattarget <> -1 OR o.distinct_options IS NOT NULL)
    LOOP
        EXECUTE format('ALTER TABLE ingestion.%I ALTER COLUMN %I SET STATISTICS %s',
                       name, item.attname, item.attstattarget);
        IF item.distinct_options IS NOT NULL THEN
            EXECUTE format('ALTER TABLE ingestion.%I ALTER COLUMN %I SET (%s)',
                           name, item.attname, item.distinct_options);
        END IF;
    END LOOP;
    EXECUTE format('ALTER TABLE ingestion.%I OWNER TO %I',
                   name, (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = root));
    RETURN format('ingestion.%I', name)::regclass;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.stage_chunk(timestamptz, timestamptz) IS
    'Part of backfill(mode => chunk): creates the plain table that becomes a chunk';

CREATE FUNCTION btc_ingest_internal.index_chunk(staged regclass, alone boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET default_tablespace = ''
AS $$
DECLARE
    root CONSTANT regclass := 'market_data.btc_ticks';
    item record;
    made text;
    prefix text;
BEGIN
    -- create_chunk uses the table's keys and indexes if they exist, and then holds its lock on the root for a moment
    -- only. TimescaleDB versions with the catalog chunk_constraint record the names of constraints, which
    -- attach_chunk changes. There create_chunk must build the indexes.
    IF EXISTS (SELECT FROM pg_class
                WHERE oid = to_regclass('_timescaledb_catalog.chunk_constraint') AND relkind = 'r') THEN
        RETURN;
    END IF;
    -- A parallel index build writes temporary files. It pays off only while no other worker uses the processors.
    IF NOT alone THEN
        PERFORM set_config('max_parallel_maintenance_workers', '0', true);
    END IF;
    -- The order is that of create_chunk. create_chunk itself builds unusual indexes, and those with a name that could
    -- be truncated.
    FOR item IN
        SELECT x.indexrelid, i.relname, k.oid AS key, pg_get_indexdef(x.indexrelid) AS definition,
               CASE WHEN x.indisunique THEN 'UNIQUE INDEX' ELSE 'INDEX' END AS kind
          FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am a ON a.oid = i.relam
          JOIN _timescaledb_catalog.hypertable h ON h.schema_name = 'market_data' AND h.table_name = 'btc_ticks'
          LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = root AND k.contype IN ('p', 'u')
         WHERE x.indrelid = root AND a.amname = 'btree' AND x.indisvalid AND NOT x.indisexclusion
           AND x.indexprs IS NULL AND x.indpred IS NULL AND i.reltablespace = 0
           AND octet_length(concat_ws('_', h.associated_table_prefix, '2147483647', 'chunk', i.relname)) < 64
         ORDER BY k.conname NULLS LAST, x.indexrelid
    LOOP
        made := (SELECT format('%s_%s', relname, item.indexrelid) FROM pg_class WHERE oid = staged);
        prefix := format('CREATE %s %I ON %s ', item.kind, item.relname, root);
        IF item.key IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', staged, made, pg_get_constraintdef(item.key));
        ELSIF starts_with(item.definition, prefix) THEN
            EXECUTE format('CREATE %s %I ON %s %s',
                           item.kind, made, staged, substr(item.definition, length(prefix) + 1));
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.index_chunk(regclass, boolean) IS
    'Part of backfill(mode => chunk): builds keys and indexes of a filled table before it becomes a chunk';

CREATE FUNCTION btc_ingest_internal.attach_chunk(staged regclass, chunk_from timestamptz, chunk_to timestamptz)
RETURNS regclass
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    root CONSTANT regclass := 'market_data.btc_ticks';
    staged_name CONSTANT text := (SELECT relname FROM pg_class WHERE oid = staged);
    made record;
    item record;
    chunk regclass;
BEGIN
    -- Every insert that needs a new chunk waits behind this lock request, so it must not wait long itself.
    PERFORM set_config('lock_timeout', '30s', true);
    SELECT c.chunk_id, c.schema_name, c.table_name INTO made
      FROM _timescaledb_functions.create_chunk(
               root, jsonb_build_object('bucket_5m', jsonb_build_array(
                         (extract(epoch FROM chunk_from) * 1000000)::bigint,
                         (extract(epoch FROM chunk_to) * 1000000)::bigint)),
               chunk_table => staged) c;
    chunk := format('%I.%I', made.schema_name, made.table_name)::regclass;
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT within_chunk', chunk);
    -- The chunk inherits its columns and constraints. Without this, a DROP on the root would not reach the chunk.
    UPDATE pg_attribute SET attislocal = false WHERE attrelid = chunk AND attinhcount > 0 AND attislocal;
    UPDATE pg_constraint SET conislocal = false WHERE conrelid = chunk AND coninhcount > 0 AND conislocal;

    -- Indexes that index_chunk has built get the names that create_chunk gives. A key has the name of its index.
    FOR item IN
        SELECT i.oid::regclass AS index, CASE WHEN k.oid IS NULL THEN format('%s_%s', made.table_name, r.relname)
                                              ELSE format('%s_%s', made.chunk_id, k.conname) END AS name
          FROM pg_index x JOIN pg_class r ON r.oid = x.indexrelid
          JOIN pg_index y ON y.indrelid = chunk
          JOIN pg_class i ON i.oid = y.indexrelid AND i.relname = format('%s_%s', staged_name, r.oid)
          LEFT JOIN pg_constraint k ON k.conindid = r.oid AND k.conrelid = root AND k.contype IN ('p', 'u')
         WHERE x.indrelid = root
    LOOP
        EXECUTE format('ALTER INDEX %s RENAME TO %I', item.index, item.name);
    END LOOP;
    IF (SELECT count(*) FROM pg_index WHERE indrelid = chunk)
       <> (SELECT count(*) FROM pg_index WHERE indrelid = root) THEN
        RAISE EXCEPTION 'the new chunk % would have other indexes than its hypertable', chunk;
    END IF;

    -- create_chunk does not copy the root's privileges. They are copied with their grantors, as TimescaleDB does for
    -- its own chunks, so that a REVOKE … CASCADE on the root reaches the chunk; GRANT would name the owner as the
    -- grantor of all. No other session can see this table yet.
    UPDATE pg_class SET relacl = (SELECT relacl FROM pg_class WHERE oid = root) WHERE oid = chunk;
    DELETE FROM pg_shdepend
     WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND classid = 'pg_class'::regclass AND objid = chunk AND objsubid = 0 AND deptype = 'a';
    INSERT INTO pg_shdepend
    SELECT dbid, classid, chunk, 0, refclassid, refobjid, deptype FROM pg_shdepend
     WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND classid = 'pg_class'::regclass AND objid = root AND objsubid = 0 AND deptype = 'a';

    -- Continuous aggregates must learn of these ticks, as they learn of an INSERT.
    INSERT INTO _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log
    SELECT h.id, (extract(epoch FROM chunk_from) * 1000000)::bigint,
           (extract(epoch FROM chunk_to) * 1000000)::bigint - 1
      FROM _timescaledb_catalog.hypertable h
     WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks'
       AND EXISTS (SELECT FROM _timescaledb_catalog.continuous_agg a WHERE a.raw_hypertable_id = h.id);
    RETURN chunk;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.attach_chunk(regclass, timestamptz, timestamptz) IS
    'Part of backfill(mode => chunk): makes a filled table a chunk of market_data.btc_ticks, with the indexes and the '
    'privileges of the hypertable';

CREATE FUNCTION btc_ingest_internal.compression_jobs() RETURNS TABLE (job integer, scheduled boolean, after interval)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('timescaledb.license', true) IS DISTINCT FROM 'timescale' THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT j.job_id, j.scheduled, (j.config ->> 'compress_after')::interval
      FROM timescaledb_information.jobs j
     WHERE j.proc_name = 'policy_compression' AND j.config ? 'compress_after'
       AND j.hypertable_schema = 'market_data' AND j.hypertable_name = 'btc_ticks';
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.compression_jobs() IS
    'Part of backfill(): the compression policies of market_data.btc_ticks. Returns no row in the Apache edition';

CREATE FUNCTION btc_ingest_internal.pause_compression() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    jobs jsonb := '[]';
    timescale text := (SELECT quote_ident(n.nspname)
                         FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                        WHERE e.extname = 'timescaledb');
BEGIN
    FOR item IN SELECT * FROM btc_ingest_internal.compression_jobs() c WHERE c.scheduled LOOP
        EXECUTE format('SELECT %s.alter_job($1, scheduled => false)', timescale) USING item.job;
        jobs := jobs || to_jsonb(item.job);
    END LOOP;
    RETURN jobs;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.pause_compression() IS
    'Part of backfill(): suspends the compression policies, so that they do not compress chunks that are being filled. '
    'Returns the ids of their jobs';

CREATE FUNCTION btc_ingest_internal.resume_compression(jobs jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    timescale text := (SELECT quote_ident(n.nspname)
                         FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                        WHERE e.extname = 'timescaledb');
BEGIN
    FOR item IN
        SELECT c.job FROM btc_ingest_internal.compression_jobs() c WHERE jobs @> to_jsonb(c.job) AND NOT c.scheduled
    LOOP
        EXECUTE format('SELECT %s.alter_job($1, scheduled => true)', timescale) USING item.job;
    END LOOP;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.resume_compression(jsonb) IS
    'Part of backfill(): schedules the suspended compression policies again';

CREATE FUNCTION btc_ingest_internal.compress_finished(jobs jsonb) RETURNS regclass
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    due interval := (SELECT min(c.after) FROM btc_ingest_internal.compression_jobs() c WHERE jobs @> to_jsonb(c.job));
    found regclass;
    timescale text := (SELECT quote_ident(n.nspname)
                         FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                        WHERE e.extname = 'timescaledb');
BEGIN
    IF due IS NULL OR NOT btc_ingest_internal.try_compression_lock() THEN
        RETURN NULL;
    END IF;
    SELECT format('%I.%I', c.chunk_schema, c.chunk_name)::regclass INTO found
      FROM timescaledb_information.chunks c
     WHERE c.hypertable_schema = 'market_data' AND c.hypertable_name = 'btc_ticks' AND NOT c.is_compressed
       AND c.range_end < now() - due
       AND NOT EXISTS (SELECT FROM ingestion.objects o JOIN ingestion.backfills b ON b.id = o.backfill
                        WHERE o.status IN ('pending', 'failed') AND b.status IN ('pending', 'listing', 'loading')
                          AND (NOT isfinite(o.span_from) OR (o.span_from < c.range_end AND o.span_to > c.range_start)))
       AND NOT EXISTS (SELECT FROM ingestion.backfills b WHERE b.status IN ('pending', 'listing'))
     ORDER BY c.range_start LIMIT 1;
    IF found IS NOT NULL THEN
        EXECUTE format('SELECT %s.compress_chunk($1, true)', timescale) USING found;
    END IF;
    RETURN found;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.compress_finished(jsonb) IS
    'Part of backfill(): compresses one chunk that is due by its policy and that no backfill still fills. '
    'Returns null if there is none';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
