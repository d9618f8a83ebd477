-- Helpers of migrate(): the shape of tables that existed before, and the privileges and comments of every table.

CREATE FUNCTION btc_ingest_internal.adopt_columns(vector_schema text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    found text;
    problems text[] := '{}';
BEGIN
    FOR item IN SELECT * FROM btc_ingest_internal.columns(vector_schema) LOOP
        SELECT format_type(a.atttypid, a.atttypmod) INTO found FROM pg_attribute a
         WHERE a.attrelid = item.on_table::regclass AND a.attname = item.name AND NOT a.attisdropped;
        IF found IS NULL AND item.addable THEN
            EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s %s', item.on_table, item.name, item.type, item.definition);
        ELSIF found IS NULL THEN
            problems := problems || format('%s has no column %s %s', item.on_table, item.name, item.type);
        ELSIF found <> item.type AND NOT (item.name = 'feature_vector' AND found ~ '(^|\.)vector\(\d+\)$'
                                            AND substring(found FROM '(\d+)\)$')::integer <= 2000) THEN
            problems := problems || format('%s.%s is %s, expected %s', item.on_table, item.name, found, item.type);
        END IF;
    END LOOP;
    IF problems <> '{}' THEN
        RAISE EXCEPTION 'btc_ingest cannot adopt tables of another shape: %', array_to_string(problems, '; ')
            USING ERRCODE = '42804',
                  HINT = 'Change the columns, or rename the tables, and call btc_ingest.migrate() again.';
    END IF;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.adopt_columns(text) IS
    'Part of migrate(): adds missing columns to existing tables, and refuses columns of other types';

CREATE FUNCTION btc_ingest_internal.adopt_keys() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    found text;
    old_key text;
BEGIN
    -- The documented keys are narrower than what they must identify: the registry has one row per bucket and asset, and
    -- there is one vector per bucket, exchange and asset.
    FOR item IN
        SELECT t.name AS on_table, substring(t.keys FROM '\((.*)\)') AS key FROM btc_ingest_internal.tables() t
         WHERE t.name IN ('landing.raw_blobs_5m', 'signals.btc_embeddings', 'market_data.btc_ticks')
    LOOP
        SELECT c.conname, string_agg(a.attname, ', ' ORDER BY k.place) AS key INTO old_key, found
          FROM pg_constraint c
          CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY AS k (attnum, place)
          JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
         WHERE c.conrelid = item.on_table::regclass AND c.contype = 'p'
         GROUP BY c.conname;
        IF found IS DISTINCT FROM item.key THEN
            IF old_key IS NOT NULL THEN
                EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', item.on_table, old_key);
            END IF;
            EXECUTE format('ALTER TABLE %s ADD PRIMARY KEY (%s)', item.on_table, item.key);
        END IF;
    END LOOP;

    -- Symbols compare by byte, which is cheaper in every index. A table that holds ticks keeps its collation, because a
    -- change would rewrite the table.
    IF (SELECT attcollation <> '"C"'::regcollation FROM pg_attribute
         WHERE attrelid = 'market_data.btc_ticks'::regclass AND attname = 'symbol') THEN
        EXECUTE 'SELECT 1 FROM market_data.btc_ticks LIMIT 1' INTO found;
        IF found IS NULL THEN
            ALTER TABLE market_data.btc_ticks ALTER COLUMN symbol TYPE text COLLATE "C";
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.adopt_keys() IS
    'Part of migrate(): gives existing tables the primary keys of the contract, and symbols a collation by byte';

-- PostgreSQL names the CHECK of a column <table>_<column>_check. A documented table gets a CHECK only together with its
-- column, because existing rows may hold other values.
CREATE FUNCTION btc_ingest_internal.adopt_checks(vector_schema text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT c.on_table, format('%s_%s_check', split_part(c.on_table, '.', 2), c.name) AS name,
               substring(c.definition FROM 'CHECK \(.*\)$') AS condition
          FROM btc_ingest_internal.columns(vector_schema) c
         WHERE c.on_table LIKE 'ingestion.%' AND c.definition LIKE '%CHECK (%'
    LOOP
        IF NOT EXISTS (SELECT FROM pg_constraint
                        WHERE conrelid = item.on_table::regclass AND contype = 'c' AND conname = item.name) THEN
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', item.on_table, item.name, item.condition);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.adopt_checks(text) IS
    'Part of migrate(): adds missing CHECKs to existing tables of the schema ingestion';

CREATE FUNCTION btc_ingest_internal.rename_stored_modes() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE ingestion.backfills SET mode = 'object' WHERE mode = 'slice';
    -- Only if necessary, because ALTER TABLE waits for the workers of backfills.
    IF EXISTS (SELECT FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                WHERE d.adrelid = 'ingestion.backfills'::regclass AND a.attname = 'mode'
                  AND pg_get_expr(d.adbin, d.adrelid) LIKE '''slice''%') THEN
        ALTER TABLE ingestion.backfills ALTER COLUMN mode SET DEFAULT 'object';
    END IF;
    -- adopt_checks() adds the constraint again, with the new value.
    IF EXISTS (SELECT FROM pg_constraint
                WHERE conrelid = 'ingestion.backfill_chunks'::regclass AND conname = 'backfill_chunks_status_check'
                  AND pg_get_constraintdef(oid) LIKE '%''slices''%') THEN
        ALTER TABLE ingestion.backfill_chunks DROP CONSTRAINT backfill_chunks_status_check;
    END IF;
    UPDATE ingestion.backfill_chunks SET status = 'objects' WHERE status = 'slices';
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.rename_stored_modes() IS
    'Part of migrate(): replaces the mode "slice" and the status "slices", which schema version 3 stored, '
    'by "object" and "objects"';

CREATE FUNCTION btc_ingest_internal.order_loaded_objects() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- The new column has numbered the rows as they lie in the table, from 1 on, so these numbers are all of its own.
    UPDATE ingestion.objects o
       SET load_order = n.place, on_conflict = CASE WHEN o.rows_replaced > 0 THEN 'replace' ELSE o.on_conflict END
      FROM (SELECT s3_uri, row_number() OVER (ORDER BY loaded_at NULLS LAST, s3_uri) AS place
              FROM ingestion.objects) AS n
     WHERE n.s3_uri = o.s3_uri;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.order_loaded_objects() IS
    'Part of migrate(): gives objects that an older library loaded their place in the order of loads';

CREATE FUNCTION btc_ingest_internal.adopt_empty_registrations(vector_schema text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Where the constraint knows the status, the rows have it already.
    IF EXISTS (SELECT FROM pg_constraint
                WHERE conrelid = 'landing.raw_blobs_5m'::regclass AND conname = 'raw_blobs_5m_status_check'
                  AND pg_get_constraintdef(oid) NOT LIKE '%''empty''%') THEN
        ALTER TABLE landing.raw_blobs_5m DROP CONSTRAINT raw_blobs_5m_status_check;
        EXECUTE (SELECT format('ALTER TABLE landing.raw_blobs_5m ADD CONSTRAINT raw_blobs_5m_status_check %s',
                               substring(c.definition FROM 'CHECK \(.*\)$'))
                   FROM btc_ingest_internal.columns(vector_schema) c
                  WHERE c.on_table = 'landing.raw_blobs_5m' AND c.name = 'status');
        UPDATE landing.raw_blobs_5m b SET status = 'empty', ingested_tick_span = NULL
         WHERE b.status = 'loaded'
           AND EXISTS (SELECT FROM ingestion.object_slices s WHERE s.s3_uri = b.s3_uri)
           AND NOT EXISTS (SELECT FROM ingestion.object_slices s
                            WHERE s.s3_uri = b.s3_uri AND s.bucket_5m = b.bucket_5m AND s.asset = b.asset);
    END IF;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.adopt_empty_registrations(text) IS
    'Part of migrate(): gives registry rows whose object holds no tick of their bucket and asset the status "empty", '
    'which schema version 4 did not know';

CREATE FUNCTION btc_ingest_internal.grant_and_comment(vector_schema text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    registered text;
BEGIN
    -- TimescaleDB adds tables to the list of a GRANT on a hypertable. In a plan that plpgsql keeps, the list would
    -- point to memory that is gone when the session runs the statement again. EXECUTE plans each anew.
    FOR item IN SELECT * FROM btc_ingest_internal.schemas() LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO btc_ingest_reader', item.name);
    END LOOP;
    FOR item IN SELECT * FROM btc_ingest_internal.tables() LOOP
        -- Only if it is missing: on a hypertable it changes the catalog's row of each chunk, which can be a deadlock
        -- with autovacuum.
        IF EXISTS (SELECT FROM pg_class c
                    WHERE (c.oid = item.name::regclass
                           OR c.oid IN (SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = item.name::regclass))
                      AND NOT EXISTS (SELECT FROM aclexplode(c.relacl) a
                                       WHERE a.grantee = 'btc_ingest_reader'::regrole
                                         AND a.privilege_type = 'SELECT')) THEN
            EXECUTE format('GRANT SELECT ON %s TO btc_ingest_reader', item.name);
        END IF;
        EXECUTE format('COMMENT ON TABLE %s IS %L', item.name, item.description);
    END LOOP;
    -- Producers register what they uploaded. status and the times but created_at belong to btc_ingest; its triggers
    -- set them. The grants are by column also because UPDATE on a whole table permits LOCK TABLE in every mode.
    EXECUTE 'REVOKE INSERT, UPDATE ON landing.raw_blobs_5m, signals.btc_embeddings FROM btc_ingest_loader';
    SELECT string_agg(c.name, ', ') INTO registered FROM btc_ingest_internal.columns(vector_schema) c
     WHERE c.on_table = 'landing.raw_blobs_5m' AND c.name NOT IN ('status', 'loaded_at', 'queued_at', 'registered_at');
    EXECUTE format('GRANT INSERT (%1$s), UPDATE (%1$s) ON landing.raw_blobs_5m TO btc_ingest_loader', registered);
    SELECT string_agg(c.name, ', ') INTO registered FROM btc_ingest_internal.columns(vector_schema) c
     WHERE c.on_table = 'signals.btc_embeddings';
    EXECUTE format('GRANT INSERT (%1$s), UPDATE (%1$s) ON signals.btc_embeddings TO btc_ingest_loader', registered);
    EXECUTE 'GRANT INSERT, UPDATE, DELETE ON ops.retention_jobs TO btc_ingest_admin';
    -- Executors of a job stage by COPY. A trigger asks for their token.
    FOR item IN
        SELECT c.on_table, string_agg(c.name, ', ') AS columns FROM btc_ingest_internal.columns(vector_schema) c
         WHERE c.on_table IN ('ingestion.staged_slices', 'ingestion.staged_candles') GROUP BY c.on_table
    LOOP
        EXECUTE format('GRANT INSERT (%s) ON %s TO btc_ingest_loader', item.columns, item.on_table);
    END LOOP;
    -- What the status views read, with the privileges of their caller.
    GRANT USAGE ON SCHEMA landing, ingestion, market_data TO btc_ingest_monitor;
    EXECUTE 'GRANT SELECT ON landing.raw_blobs_5m, ingestion.objects, ingestion.object_slices, ingestion.load_history,
                             ingestion.stream_offsets, ingestion.backfills, ingestion.backfill_workers,
                             ingestion.control, ingestion.outages, ingestion.assets
                TO btc_ingest_monitor';
    GRANT USAGE ON SCHEMA ops TO btc_ingest_monitor;
    EXECUTE 'GRANT SELECT ON ops.retention_jobs, ops.dropped_ranges, ops.retention_checks, ops.chunk_drops
                TO btc_ingest_monitor';
    -- The view lag asks whether a slice has ticks. It reads no price.
    -- Only if it is missing: TimescaleDB 2.28 passes it on to the table of compressed chunks, which has no such
    -- columns, and fails.
    IF NOT (has_column_privilege('btc_ingest_monitor', 'market_data.btc_ticks', 'bucket_5m', 'SELECT')
            AND has_column_privilege('btc_ingest_monitor', 'market_data.btc_ticks', 'symbol', 'SELECT')) THEN
        EXECUTE 'GRANT SELECT (bucket_5m, symbol) ON market_data.btc_ticks TO btc_ingest_monitor';
    END IF;
    -- The view conflicts counts rejected rows and says why one was rejected. It reads no value of a row.
    EXECUTE 'GRANT SELECT (s3_uri, etag, reason) ON landing.rejected_ticks TO btc_ingest_monitor';
    FOR item IN SELECT * FROM btc_ingest_internal.columns(vector_schema) LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', item.on_table, item.name, item.description);
    END LOOP;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.grant_and_comment(text) IS
    'Part of migrate(): grants privileges on every table, and comments every table and column';
