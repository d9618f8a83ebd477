-- migrate(): brings the tables to the library's schema version. One idempotent function, called at install, by upgrade
-- scripts, after a restore and by hand. It creates what is missing, adopts what stands (same owner only, same types
-- only) and detaches everything it made from the extension, so that data outlives it.

-- A producer that writes only the documented columns gets a pending row; one that upserts s3_uri makes it pending again.
-- No statement of btc_ingest's own loads ever sets s3_uri.
CREATE FUNCTION btc_ingest_internal.registry_pending() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.status := coalesce(NEW.status, 'pending');
    IF TG_OP = 'UPDATE' THEN
        NEW.status := 'pending';
        NEW.loaded_at := NULL;
        NEW.queued_at := NULL;
        -- What nobody wrote with this upsert was said of the object before it: another uri, or a version that was loaded.
        IF NEW.s3_uri <> OLD.s3_uri OR OLD.loaded_at IS NOT NULL THEN
            IF NEW.object_size_bytes IS NOT DISTINCT FROM OLD.object_size_bytes THEN
                NEW.object_size_bytes := NULL;
            END IF;
            IF NEW.metadata IS NOT DISTINCT FROM OLD.metadata THEN
                NEW.metadata := NEW.metadata - '{sha256, rows, object_size_bytes, etag, writer, schema_fingerprint, row_count}'::text[];
            END IF;
        END IF;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.registry_pending() IS 'Trigger of landing.raw_blobs_5m: a new or replaced object is pending';

CREATE FUNCTION btc_ingest.migrate() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Building an ivfflat index on an empty table warns of low recall, which nobody can help at install.
SET client_min_messages = warning
AS $migrate$
DECLARE
    library_version CONSTANT integer := 4;
    ticks_interval interval := coalesce(nullif(current_setting('btc_ingest.chunk_time_interval', true), ''), '7 days');
    timescale text;
    vector text;
    item record;
    problems text;
    existing integer;
    made text[] := '{}';
BEGIN
    IF coalesce(current_setting('timescaledb.restoring', true), 'off') = 'on' THEN
        RETURN 'nothing was done: timescaledb.restoring is on; the tables come with the dump';
    END IF;
    -- Two at once would both find nothing and both create.
    PERFORM btc_ingest_internal.take_migration_lock();

    SELECT quote_ident(n.nspname) INTO STRICT timescale
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb';
    SELECT quote_ident(n.nspname) INTO STRICT vector
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';

    -- What stands already must be ours to change, and be tables.
    SELECT string_agg(format('%s is a %s of "%s"', c.oid::regclass,
                      CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'p' THEN 'partitioned table'
                                     ELSE 'relation' END, pg_get_userbyid(c.relowner)), '; ')
      INTO problems
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE (n.nspname, c.relname) IN (
               ('landing', 'raw_blobs_5m'), ('landing', 'rejected_ticks'), ('market_data', 'btc_ticks'),
               ('signals', 'btc_embeddings'), ('ingestion', 'stream_offsets'), ('ingestion', 'objects'),
               ('ingestion', 'object_slices'), ('ingestion', 'load_history'), ('ingestion', 'backfills'),
               ('ingestion', 'backfill_workers'), ('ingestion', 'backfill_chunks'), ('ingestion', 'control'),
               ('ingestion', 'schema_version'), ('ops', 'retention_jobs'))
       AND (c.relkind <> 'r' OR pg_get_userbyid(c.relowner) <> current_user);
    IF problems IS NOT NULL THEN
        RAISE EXCEPTION 'btc_ingest cannot adopt tables that are not its owner''s: %', problems
            USING ERRCODE = '42501',
                  HINT = format('Give them to the owner of the extension (ALTER TABLE … OWNER TO %I), or rename them.', current_user);
    END IF;

    -- The owner of a schema can drop its tables and put others, or views, in their place.
    SELECT string_agg(format('%I of "%s"', n.nspname, r.rolname), ', ') INTO problems
      FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
     WHERE n.nspname IN ('landing', 'market_data', 'signals', 'ingestion', 'ops')
       AND NOT r.rolsuper AND r.rolname <> current_user;
    IF problems IS NOT NULL THEN
        RAISE EXCEPTION 'btc_ingest cannot use schemas that are not its owner''s: %', problems
            USING ERRCODE = '42501',
                  HINT = format('Give them to the owner of the extension: ALTER SCHEMA … OWNER TO %I;', current_user);
    END IF;

    IF to_regclass('ingestion.schema_version') IS NOT NULL THEN
        EXECUTE 'SELECT version FROM ingestion.schema_version' INTO existing;
        IF existing > library_version THEN
            RAISE EXCEPTION 'the tables have schema version %, this library knows only %', existing, library_version
                USING ERRCODE = 'TK011', HINT = 'Install the newer btc_ingest, then: ALTER EXTENSION btc_ingest UPDATE;';
        END IF;
    END IF;

    FOR item IN
        SELECT * FROM (VALUES
            ('landing', 'The landing zone: what lies in S3 and what could not be stored'),
            ('market_data', 'Ticks at native resolution'),
            ('signals', 'Vectors and labels per bucket'),
            ('ingestion', 'State of the ingestion: objects, offsets, history'),
            ('ops', 'Policies of operation')
        ) AS s (name, description)
    LOOP
        IF to_regnamespace(item.name) IS NULL THEN
            EXECUTE format('CREATE SCHEMA %I', item.name);
            made := made || item.name;
        END IF;
        IF obj_description(to_regnamespace(item.name), 'pg_namespace') IS NULL THEN
            EXECUTE format('COMMENT ON SCHEMA %I IS %L', item.name, item.description);
        END IF;
    END LOOP;

    -- Tables that are missing. Shapes are the requirements' to the letter; additions of ours follow their columns.
    FOR item IN
        SELECT * FROM (VALUES
            ('landing.raw_blobs_5m', $$
                bucket_5m timestamptz NOT NULL,
                asset text NOT NULL,
                s3_uri text NOT NULL,
                object_size_bytes bigint,
                ingested_tick_span tsrange,
                metadata jsonb,
                created_at timestamptz DEFAULT now(),
                status text NOT NULL DEFAULT 'pending'
                    CHECK (status IN ('pending', 'loaded', 'failed', 'quarantined', 'skipped')),
                loaded_at timestamptz,
                queued_at timestamptz,
                PRIMARY KEY (bucket_5m, asset) $$),
            ('landing.rejected_ticks', $$
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                s3_uri text NOT NULL,
                etag text NOT NULL,
                row_number bigint NOT NULL,
                reason text NOT NULL,
                row_data jsonb NOT NULL,
                rejected_at timestamptz NOT NULL DEFAULT now() $$),
            ('market_data.btc_ticks', $$
                bucket_5m timestamptz NOT NULL,
                event_time timestamptz NOT NULL,
                trade_time timestamptz,
                symbol text COLLATE "C" NOT NULL,
                trade_id bigint NOT NULL,
                price numeric(18,8),
                quantity numeric(24,12),
                buyer_order_id text,
                seller_order_id text,
                is_market_maker boolean,
                ingested_at timestamptz DEFAULT now(),
                PRIMARY KEY (bucket_5m, symbol, trade_id) $$),
            ('signals.btc_embeddings', format($$
                bucket timestamptz NOT NULL,
                exchange text NOT NULL,
                feature_vector %s.vector(256),
                label_snapshot jsonb,
                created_at timestamptz DEFAULT now(),
                asset text NOT NULL DEFAULT 'BTCUSDT',
                PRIMARY KEY (bucket, exchange, asset) $$, vector)),
            ('ingestion.stream_offsets', $$
                source text PRIMARY KEY,
                last_sequence bigint,
                last_ts timestamptz,
                state jsonb,
                updated_at timestamptz DEFAULT now() $$),
            ('ingestion.objects', $$
                s3_uri text PRIMARY KEY,
                etag text,
                size_bytes bigint,
                status text NOT NULL DEFAULT 'pending'
                    CHECK (status IN ('pending', 'loaded', 'failed', 'quarantined', 'skipped')),
                attempts integer NOT NULL DEFAULT 0,
                attempt_started_at timestamptz,
                next_attempt_at timestamptz,
                last_sqlstate text,
                last_error text,
                rows_read bigint,
                rows_inserted bigint,
                rows_duplicate bigint,
                rows_conflicting bigint,
                rows_replaced bigint,
                rows_rejected bigint,
                metadata jsonb NOT NULL DEFAULT '{}',
                options jsonb NOT NULL DEFAULT '{}',
                generation bigint NOT NULL DEFAULT 0,
                registered_at timestamptz NOT NULL DEFAULT now(),
                loaded_at timestamptz,
                listed_etag text,
                listed_size bigint,
                backfill bigint,
                span_from timestamptz NOT NULL DEFAULT '-infinity',
                span_to timestamptz NOT NULL DEFAULT 'infinity',
                rows_staged bigint NOT NULL DEFAULT 0 $$),
            ('ingestion.object_slices', $$
                s3_uri text NOT NULL,
                etag text NOT NULL,
                bucket_5m timestamptz NOT NULL,
                asset text NOT NULL,
                ticks bigint NOT NULL,
                first_trade_id bigint NOT NULL,
                last_trade_id bigint NOT NULL,
                first_event_time timestamptz NOT NULL,
                last_event_time timestamptz NOT NULL,
                loaded_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (s3_uri, etag, bucket_5m, asset) $$),
            ('ingestion.load_history', $$
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                s3_uri text NOT NULL,
                etag text,
                outcome text NOT NULL,
                bytes bigint,
                rows_read bigint,
                rows_inserted bigint,
                rows_duplicate bigint,
                rows_conflicting bigint,
                rows_replaced bigint,
                rows_rejected bigint,
                fetch_ms double precision,
                decode_ms double precision,
                insert_ms double precision,
                elapsed_ms double precision,
                sqlstate text,
                message text,
                started_at timestamptz NOT NULL,
                finished_at timestamptz,
                pid integer NOT NULL DEFAULT pg_backend_pid() $$),
            ('ingestion.backfills', $$
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                prefixes text[] NOT NULL,
                from_time timestamptz,
                to_time timestamptz,
                mode text NOT NULL DEFAULT 'object',
                parallel integer NOT NULL DEFAULT 1,
                status text NOT NULL DEFAULT 'pending',
                objects_total bigint,
                objects_done bigint NOT NULL DEFAULT 0,
                objects_failed bigint NOT NULL DEFAULT 0,
                rows_inserted bigint NOT NULL DEFAULT 0,
                state jsonb NOT NULL DEFAULT '{}',
                created_at timestamptz NOT NULL DEFAULT now(),
                finished_at timestamptz,
                bytes_total bigint NOT NULL DEFAULT 0,
                objects_known bigint NOT NULL DEFAULT 0,
                requested_by text NOT NULL DEFAULT session_user,
                sqlstate text,
                message text $$),
            ('ingestion.backfill_workers', $$
                backfill bigint NOT NULL,
                slot integer NOT NULL,
                pid integer,
                started_at timestamptz,
                objects_done bigint NOT NULL DEFAULT 0,
                objects_failed bigint NOT NULL DEFAULT 0,
                rows_read bigint NOT NULL DEFAULT 0,
                rows_inserted bigint NOT NULL DEFAULT 0,
                bytes bigint NOT NULL DEFAULT 0,
                working_ms double precision NOT NULL DEFAULT 0,
                updated_at timestamptz,
                PRIMARY KEY (backfill, slot) $$),
            ('ingestion.backfill_chunks', $$
                backfill bigint NOT NULL,
                chunk_from timestamptz NOT NULL,
                chunk_to timestamptz NOT NULL,
                status text NOT NULL DEFAULT 'pending'
                    CHECK (status IN ('pending', 'attached', 'objects', 'done')),
                attempts integer NOT NULL DEFAULT 0,
                rows bigint,
                note text,
                refresh_due boolean NOT NULL DEFAULT false,
                finished_at timestamptz,
                PRIMARY KEY (backfill, chunk_from) $$),
            ('ingestion.control', $$
                only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
                paused boolean NOT NULL DEFAULT false,
                changed_by text,
                changed_at timestamptz NOT NULL DEFAULT now() $$),
            ('ingestion.schema_version', $$
                only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
                version integer NOT NULL,
                migrated_at timestamptz NOT NULL DEFAULT now() $$),
            ('ops.retention_jobs', $$
                job_name text PRIMARY KEY,
                hypertable text NOT NULL,
                policy jsonb NOT NULL,
                enabled boolean DEFAULT true,
                created_at timestamptz DEFAULT now() $$)
        ) AS t (name, shape)
    LOOP
        IF to_regclass(item.name) IS NULL THEN
            EXECUTE format('CREATE TABLE %s (%s)', item.name, item.shape);
            EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', item.name);
            made := made || item.name;
        END IF;
    END LOOP;

    PERFORM btc_ingest_internal.adopt_shapes(vector);
    PERFORM btc_ingest_internal.rename_stored_modes();

    IF NOT EXISTS (SELECT FROM _timescaledb_catalog.hypertable WHERE schema_name = 'market_data' AND table_name = 'btc_ticks') THEN
        EXECUTE format(
            'SELECT %s.create_hypertable(%L::regclass, %L, chunk_time_interval => $1, create_default_indexes => false, migrate_data => true)',
            timescale, 'market_data.btc_ticks', 'bucket_5m') USING ticks_interval;
    END IF;

    DROP INDEX IF EXISTS ingestion.objects_live_idx;
    FOR item IN SELECT * FROM btc_ingest_internal.missing_indexes() LOOP
        EXECUTE item.statement;
        made := made || item.name;
    END LOOP;
    INSERT INTO ingestion.control DEFAULT VALUES ON CONFLICT DO NOTHING;

    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'landing.raw_blobs_5m'::regclass AND tgname = 'registry_pending') THEN
        CREATE TRIGGER registry_pending BEFORE INSERT OR UPDATE OF s3_uri ON landing.raw_blobs_5m
            FOR EACH ROW EXECUTE FUNCTION btc_ingest_internal.registry_pending();
        -- The table stays when the extension goes; the trigger, whose function goes, must not hold it up.
        ALTER TRIGGER registry_pending ON landing.raw_blobs_5m DEPENDS ON EXTENSION btc_ingest;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'landing.raw_blobs_5m'::regclass AND tgname = 'registry_wake') THEN
        CREATE TRIGGER registry_wake AFTER INSERT OR UPDATE OF s3_uri ON landing.raw_blobs_5m
            FOR EACH ROW WHEN (NEW.status = 'pending') EXECUTE FUNCTION btc_ingest_internal.registry_wake();
        ALTER TRIGGER registry_wake ON landing.raw_blobs_5m DEPENDS ON EXTENSION btc_ingest;
    END IF;

    PERFORM btc_ingest_internal.grant_and_comment();

    -- Detached objects survive DROP EXTENSION and are dumped with their data. After the grants: what an extension's script
    -- grants is left out of every dump (pg_init_privs), on tables that it adopts and on their chunks as well, until the
    -- object leaves the extension. So what did not belong to it joins first.
    FOR item IN
        WITH ours AS (
            SELECT 'pg_namespace'::regclass AS class, n.oid, format('SCHEMA %I', n.nspname) AS name, 2 AS turn
              FROM pg_namespace n WHERE n.nspname IN ('landing', 'market_data', 'signals', 'ingestion', 'ops')
            UNION ALL
            SELECT 'pg_class'::regclass, c.oid,
                   format('%s %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass), 1
              FROM pg_class c
             WHERE c.relkind IN ('r', 'S', 'v')
               AND (c.relnamespace IN ('landing'::regnamespace, 'market_data'::regnamespace, 'signals'::regnamespace,
                                       'ingestion'::regnamespace, 'ops'::regnamespace)
                    OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'market_data.btc_ticks'::regclass))
        )
        SELECT o.name, member.refobjid IS NOT NULL AS is_member
          FROM ours o
          LEFT JOIN pg_depend member
            ON member.classid = o.class AND member.objid = o.oid AND member.deptype = 'e'
           AND member.refclassid = 'pg_extension'::regclass
           AND member.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'btc_ingest')
         WHERE member.refobjid IS NOT NULL
            OR EXISTS (SELECT FROM pg_init_privs i WHERE i.classoid = o.class AND i.objoid = o.oid AND i.privtype = 'e')
         ORDER BY o.turn
    LOOP
        IF NOT item.is_member THEN
            EXECUTE format('ALTER EXTENSION btc_ingest ADD %s', item.name);
        END IF;
        EXECUTE format('ALTER EXTENSION btc_ingest DROP %s', item.name);
    END LOOP;

    EXECUTE 'INSERT INTO ingestion.schema_version (version) VALUES ($1)
             ON CONFLICT (only_row) DO UPDATE SET version = excluded.version, migrated_at = now()
             WHERE schema_version.version <> excluded.version' USING library_version;
    RETURN format('schema version %s; %s', library_version,
                  CASE WHEN made = '{}' THEN 'nothing was missing' ELSE 'made ' || array_to_string(made, ', ') END);
END
$migrate$;
COMMENT ON FUNCTION btc_ingest.migrate() IS
    'Brings the tables to the schema version of the library: creates what is missing, adopts tables of the same owner. Safe to call at any time.';
