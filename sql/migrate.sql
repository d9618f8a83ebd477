-- migrate() brings the tables to the library's schema version. It is idempotent, and is called at install, by upgrade
-- scripts, after a restore and by hand. It creates what is missing, adopts existing tables (of the same owner and with
-- the same types only), and detaches everything that it created from the extension, so that data outlives the
-- extension.

-- A producer that inserts only the documented columns gets a pending row. An upsert that sets s3_uri makes the row
-- pending again. No statement of btc_ingest's own loads ever sets s3_uri.
--
-- The trigger fires for replicated rows as well. Logical replication sets all columns in every UPDATE, so there the
-- row as it was and as it comes decide: it is registered anew unless the publisher has only recorded the state of its
-- own loads, which is not ours. A row that is refused would stop the replication, so it is let in; enqueue quarantines
-- it.
CREATE FUNCTION btc_ingest_internal.registry_pending() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fault text;
    replicated boolean := current_setting('session_replication_role') = 'replica';
BEGIN
    IF TG_OP = 'UPDATE' AND replicated
       AND (NEW.status, NEW.queued_at, NEW.loaded_at)
           IS DISTINCT FROM (OLD.status, OLD.queued_at, OLD.loaded_at)
       AND (NEW.status <> 'pending' OR NEW.queued_at IS NOT NULL)
    THEN
        NEW.status := OLD.status;
        NEW.queued_at := OLD.queued_at;
        NEW.loaded_at := OLD.loaded_at;
        NEW.registered_at := OLD.registered_at;
        RETURN NEW;
    END IF;
    NEW.status := coalesce(NEW.status, 'pending');
    IF TG_OP = 'UPDATE' THEN
        NEW.status := 'pending';
        NEW.loaded_at := NULL;
        NEW.queued_at := NULL;
        NEW.registered_at := now();
        -- A value that this upsert did not change describes the earlier object (another uri) or the version that is
        -- loaded.
        IF NEW.s3_uri <> OLD.s3_uri OR OLD.loaded_at IS NOT NULL THEN
            IF NEW.object_size_bytes IS NOT DISTINCT FROM OLD.object_size_bytes THEN
                NEW.object_size_bytes := NULL;
            END IF;
            IF NEW.metadata IS NOT DISTINCT FROM OLD.metadata AND jsonb_typeof(NEW.metadata) = 'object' THEN
                NEW.metadata := NEW.metadata
                    - '{sha256, rows, object_size_bytes, etag, writer, schema_fingerprint, row_count}'::text[];
            END IF;
        END IF;
    END IF;
    -- The limits for producers. enqueue_find.sql has the same text, for rows that no trigger has seen.
    IF NEW.status = 'pending' AND NOT replicated THEN
        fault := CASE
            WHEN octet_length(NEW.s3_uri) > 1100 THEN 's3_uri is longer than 1,100 bytes'
            WHEN NEW.s3_uri ~ '[[:cntrl:]]' THEN 's3_uri holds a control character'
            WHEN octet_length(NEW.asset) > 255 THEN 'asset is longer than 255 bytes'
            WHEN NEW.asset ~ '[[:cntrl:]]' THEN 'asset holds a control character'
            WHEN NEW.bucket_5m < timestamptz '1970-01-01 00:00:00+00'
                 OR NEW.bucket_5m >= timestamptz '2200-01-01 00:00:00+00'
                 THEN 'bucket_5m is before 1970 or after 2199'
            WHEN NEW.bucket_5m <> date_bin('5 minutes', NEW.bucket_5m, timestamptz '1970-01-01 00:00:00+00')
                 THEN 'bucket_5m is not the start of a 5-minute bucket'
            WHEN NEW.object_size_bytes < 0 THEN 'object_size_bytes is negative'
            WHEN NEW.metadata IS NULL THEN NULL
            -- The stored size is known without reading the value.
            WHEN pg_column_size(NEW.metadata) > 65536 OR octet_length(NEW.metadata::text) > 65536
                 THEN 'metadata is longer than 65,536 bytes'
            WHEN jsonb_typeof(NEW.metadata) NOT IN ('object', 'null') THEN 'metadata is not a JSON object'
            WHEN jsonb_path_exists(NEW.metadata, '$.**{33}') THEN 'metadata is nested more than 32 deep'
            WHEN jsonb_path_exists(NEW.metadata, '$.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))')
                 THEN 'metadata holds a number beyond 1e300'
            WHEN octet_length(NEW.metadata ->> 'etag') > 256 THEN 'the etag is longer than 256 bytes'
            WHEN NEW.metadata ->> 'etag' ~ '[[:cntrl:]]' THEN 'the etag holds a control character'
        END;
        IF fault IS NOT NULL THEN
            RAISE EXCEPTION '%', fault
                USING ERRCODE = 'TK022', SCHEMA = 'landing', TABLE = 'raw_blobs_5m',
                      HINT = 'The limits are in docs/use/live.md.';
        END IF;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.registry_pending() IS
    'Trigger of landing.raw_blobs_5m: makes the row of a new or replaced object pending, and refuses what is '
    'beyond the limits for producers';

-- All relations must be tables and belong to the owner of this function, and no trigger on them may run a function of
-- another role. The owner of a schema can drop the tables in it and create other tables, or views, in their place.
CREATE FUNCTION btc_ingest_internal.migrate_refusal() RETURNS TABLE (message text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH schemas AS (
        SELECT string_agg(format('%I of "%s"', n.nspname, r.rolname), ', ') AS found
          FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
         WHERE n.nspname IN (SELECT s.name FROM btc_ingest_internal.schemas() s)
           AND NOT r.rolsuper AND r.rolname <> current_user
    ), relations AS (
        SELECT string_agg(format('%s is a %s of "%s"', c.oid::regclass,
                          CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'p' THEN 'partitioned table'
                                         ELSE 'relation' END, pg_get_userbyid(c.relowner)), '; ') AS found
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE format('%s.%s', n.nspname, c.relname) IN (SELECT t.name FROM btc_ingest_internal.tables() t)
           AND (c.relkind <> 'r' OR pg_get_userbyid(c.relowner) <> current_user)
    ), triggers AS (
        SELECT string_agg(format('%s on %s of "%s"', p.oid::regprocedure, g.tgrelid::regclass, r.rolname), ', ')
               AS found
          FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_roles r ON r.oid = p.proowner
         WHERE NOT g.tgisinternal AND NOT r.rolsuper AND r.rolname <> current_user
           AND g.tgrelid IN (SELECT to_regclass(t.name) FROM btc_ingest_internal.tables() t)
    ), refusals AS (
        SELECT 1 AS place, 'btc_ingest cannot use schemas that are not its owner''s: ' || s.found AS message,
               format('Give them to the owner of the extension: ALTER SCHEMA … OWNER TO %I;', current_user) AS hint
          FROM schemas s
        UNION ALL
        SELECT 2, 'btc_ingest cannot adopt tables that are not its owner''s: ' || t.found,
               format('Give them to the owner of the extension (ALTER TABLE … OWNER TO %I), or rename them.',
                      current_user)
          FROM relations t
        UNION ALL
        SELECT 3, 'btc_ingest cannot use tables with triggers of other roles: ' || g.found, 'Drop the triggers.'
          FROM triggers g
    )
    SELECT r.message, r.hint FROM refusals r WHERE r.message IS NOT NULL ORDER BY r.place LIMIT 1
$$;
COMMENT ON FUNCTION btc_ingest_internal.migrate_refusal() IS
    'Part of migrate() and doctor(): why migrate() would refuse the schemas and tables as they are; no row if it would '
    'not';

CREATE FUNCTION btc_ingest.migrate() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Building an ivfflat index on an empty table warns of low recall. At install the table is always empty.
SET client_min_messages = warning
AS $migrate$
DECLARE
    library_version CONSTANT integer := 10;
    ticks_interval interval := coalesce(nullif(current_setting('btc_ingest.chunk_time_interval', true), ''), '7 days');
    timescale text;
    vector text;
    item record;
    refusal record;
    existing integer;
    made text[] := '{}';
BEGIN
    IF getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION 'the database has encoding %, and btc_ingest needs UTF8', getdatabaseencoding()
            USING ERRCODE = 'TK021',
                  HINT = 'Use a database that was created with ENCODING ''UTF8'', for example: '
                      'CREATE DATABASE ticks ENCODING ''UTF8'' TEMPLATE template0;';
    END IF;
    IF coalesce(current_setting('timescaledb.restoring', true), 'off') = 'on' THEN
        RETURN 'nothing was done: timescaledb.restoring is on; the tables come with the dump';
    END IF;
    -- Without the lock, two sessions could both find a table missing and both create it.
    PERFORM btc_ingest_internal.take_migration_lock();

    SELECT quote_ident(n.nspname) INTO STRICT timescale
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb';
    SELECT quote_ident(n.nspname) INTO STRICT vector
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';

    FOR item IN SELECT * FROM btc_ingest_internal.schemas() LOOP
        IF to_regnamespace(item.name) IS NULL THEN
            EXECUTE format('CREATE SCHEMA %I', item.name);
            made := made || item.name;
        END IF;
        IF obj_description(to_regnamespace(item.name), 'pg_namespace') IS NULL THEN
            EXECUTE format('COMMENT ON SCHEMA %I IS %L', item.name, item.description);
        END IF;
    END LOOP;

    SELECT * INTO refusal FROM btc_ingest_internal.migrate_refusal();
    IF FOUND THEN
        RAISE EXCEPTION '%', refusal.message USING ERRCODE = '42501', HINT = refusal.hint;
    END IF;

    -- Tables that are missing. The columns that the requirements name come first and are as written there.
    FOR item IN
        SELECT t.name, t.keys,
               string_agg(format('%I %s %s', c.name, c.type, c.definition), ', ' ORDER BY c.place) AS columns
          FROM btc_ingest_internal.tables() WITH ORDINALITY AS t (name, keys, description, place)
          JOIN btc_ingest_internal.columns(vector) WITH ORDINALITY
               AS c (on_table, name, type, definition, addable, description, place) ON c.on_table = t.name
         WHERE to_regclass(t.name) IS NULL
         GROUP BY t.name, t.keys, t.place ORDER BY t.place
    LOOP
        EXECUTE format('CREATE TABLE %s (%s, %s)', item.name, item.columns, item.keys);
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', item.name);
        made := made || item.name;
    END LOOP;

    -- The second turn finds what was changed before the locks, which keep it so until the commit.
    FOR turn IN 1 .. 2 LOOP
        SELECT * INTO refusal FROM btc_ingest_internal.migrate_refusal();
        IF FOUND THEN
            RAISE EXCEPTION '%', refusal.message USING ERRCODE = '42501', HINT = refusal.hint;
        END IF;
        FOR item IN SELECT * FROM btc_ingest_internal.tables() LOOP
            EXECUTE format('LOCK TABLE ONLY %s IN ROW EXCLUSIVE MODE', item.name);
        END LOOP;
    END LOOP;

    IF to_regclass('ingestion.schema_version') IS NOT NULL THEN
        EXECUTE 'SELECT version FROM ingestion.schema_version' INTO existing;
        IF existing > library_version THEN
            RAISE EXCEPTION 'the tables have schema version %, this library knows only %', existing, library_version
                USING ERRCODE = 'TK011',
                      HINT = 'Install the newer btc_ingest, then: ALTER EXTENSION btc_ingest UPDATE;';
        END IF;
    END IF;

    PERFORM btc_ingest_internal.adopt_columns(vector);
    IF existing < 5 THEN
        UPDATE ingestion.objects o
           SET asset = coalesce((SELECT b.asset FROM landing.raw_blobs_5m b WHERE b.s3_uri = o.s3_uri
                                  ORDER BY b.bucket_5m, b.asset LIMIT 1), o.metadata ->> 'symbol')
         WHERE o.asset IS NULL AND o.status <> 'loaded';
    END IF;
    PERFORM btc_ingest_internal.adopt_keys();
    PERFORM btc_ingest_internal.rename_stored_modes();
    PERFORM btc_ingest_internal.adopt_checks(vector);
    PERFORM btc_ingest_internal.adopt_empty_registrations(vector);
    IF existing < 5 THEN
        PERFORM btc_ingest_internal.order_loaded_objects();
    END IF;

    IF NOT EXISTS (SELECT FROM _timescaledb_catalog.hypertable
                    WHERE schema_name = 'market_data' AND table_name = 'btc_ticks') THEN
        EXECUTE format(
            'SELECT %s.create_hypertable(%L::regclass, %L, chunk_time_interval => $1,
                                         create_default_indexes => false, migrate_data => true)',
            timescale, 'market_data.btc_ticks', 'bucket_5m') USING ticks_interval;
    END IF;

    DROP INDEX IF EXISTS ingestion.objects_live_idx;
    FOR item IN SELECT * FROM btc_ingest_internal.missing_indexes() LOOP
        EXECUTE item.statement;
        made := made || item.name;
    END LOOP;
    INSERT INTO ingestion.control DEFAULT VALUES ON CONFLICT DO NOTHING;
    PERFORM btc_ingest_internal.make_id_sets();

    IF NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = 'landing.raw_blobs_5m'::regclass AND tgname = 'registry_pending') THEN
        CREATE TRIGGER registry_pending BEFORE INSERT OR UPDATE OF s3_uri ON landing.raw_blobs_5m
            FOR EACH ROW EXECUTE FUNCTION btc_ingest_internal.registry_pending();
        -- DROP EXTENSION keeps the table and drops the trigger's function, so the trigger must go with the function.
        ALTER TRIGGER registry_pending ON landing.raw_blobs_5m DEPENDS ON EXTENSION btc_ingest;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = 'landing.raw_blobs_5m'::regclass AND tgname = 'registry_wake') THEN
        CREATE TRIGGER registry_wake AFTER INSERT OR UPDATE OF s3_uri ON landing.raw_blobs_5m
            FOR EACH ROW WHEN (NEW.status = 'pending') EXECUTE FUNCTION btc_ingest_internal.registry_wake();
        ALTER TRIGGER registry_wake ON landing.raw_blobs_5m DEPENDS ON EXTENSION btc_ingest;
    END IF;
    -- Otherwise a replicated row would be enqueued when it is new, and forgotten when it is registered again.
    FOR item IN
        SELECT tgname AS name FROM pg_trigger
         WHERE tgrelid = 'landing.raw_blobs_5m'::regclass AND tgname IN ('registry_pending', 'registry_wake')
           AND tgenabled <> 'A'
    LOOP
        EXECUTE format('ALTER TABLE landing.raw_blobs_5m ENABLE ALWAYS TRIGGER %I', item.name);
    END LOOP;

    FOR item IN SELECT * FROM (VALUES ('ingestion.staged_slices'), ('ingestion.staged_candles')) AS t (name) LOOP
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = item.name::regclass AND tgname = 'staged_for_lease') THEN
            EXECUTE format('CREATE TRIGGER staged_for_lease AFTER INSERT ON %s REFERENCING NEW TABLE AS added
                                FOR EACH STATEMENT EXECUTE FUNCTION btc_ingest_internal.staged_for_lease()', item.name);
            EXECUTE format('ALTER TRIGGER staged_for_lease ON %s DEPENDS ON EXTENSION btc_ingest', item.name);
        END IF;
    END LOOP;

    PERFORM btc_ingest_internal.grant_and_comment(vector);
    EXECUTE 'INSERT INTO ingestion.schema_version (version) VALUES ($1)
             ON CONFLICT (only_row) DO UPDATE SET version = excluded.version, migrated_at = now()
             WHERE schema_version.version <> excluded.version' USING library_version;
    PERFORM btc_ingest_internal.make_retention(coalesce(existing, 0) < 8);

    -- Detached objects survive DROP EXTENSION and are dumped with their data. They are detached after the grants: the
    -- grants of an extension's script are left out of every dump (pg_init_privs) until the object leaves the extension,
    -- also on adopted tables and their chunks. An adopted table therefore joins the extension before it leaves it.
    FOR item IN
        WITH ours AS (
            SELECT 'pg_namespace'::regclass AS class, n.oid, format('SCHEMA %I', n.nspname) AS name, 2 AS turn
              FROM pg_namespace n WHERE n.nspname IN (SELECT s.name FROM btc_ingest_internal.schemas() s)
            UNION ALL
            SELECT 'pg_class'::regclass, c.oid,
                   format('%s %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END,
                          c.oid::regclass), 1
              FROM pg_class c
             WHERE c.relkind IN ('r', 'S', 'v')
               AND (c.relnamespace IN (SELECT to_regnamespace(s.name) FROM btc_ingest_internal.schemas() s)
                    OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'market_data.btc_ticks'::regclass)
                    -- The table of the compressed chunks.
                    OR c.relnamespace = to_regnamespace('_timescaledb_internal')
                       AND EXISTS (SELECT FROM pg_depend d
                                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                                      AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'btc_ingest')))
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

    RETURN format('schema version %s; %s', library_version,
                  CASE WHEN made = '{}' THEN 'nothing was missing' ELSE 'made ' || array_to_string(made, ', ') END);
END
$migrate$;
COMMENT ON FUNCTION btc_ingest.migrate() IS
    'Brings the tables to the schema version of the library, and returns the version and what was created. It creates '
    'missing tables, columns, keys and indexes, and adopts existing tables of the same owner. No row is deleted. '
    'It is safe to call at any time, e.g. after a restore or when doctor() reports a missing index.';
