-- What belongs to the extension itself: its schema, its roles and its types. Data tables are made by migrate() and then
-- detached, so that DROP EXTENSION leaves every tick.

CREATE SCHEMA btc_ingest;
COMMENT ON SCHEMA btc_ingest IS 'btc_ingest: functions that load Bitcoin ticks from Parquet in S3';
REVOKE ALL ON SCHEMA btc_ingest FROM PUBLIC;

CREATE SCHEMA btc_ingest_internal;
COMMENT ON SCHEMA btc_ingest_internal IS 'Helpers of btc_ingest; nothing in it is meant to be called by hand';
REVOKE ALL ON SCHEMA btc_ingest_internal FROM PUBLIC;

-- Roles are cluster-wide: another database may have made them already, and DROP EXTENSION leaves them.
DO $roles$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('btc_ingest_reader', NULL, 'May read the ticks, the registry and the status of btc_ingest'),
            ('btc_ingest_loader', 'btc_ingest_reader', 'May load, register and inspect objects'),
            ('btc_ingest_admin', 'btc_ingest_loader', 'May also change policies and migrate the tables')
        ) AS r (name, includes, description)
    LOOP
        IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name AND rolcanlogin) THEN
            RAISE EXCEPTION 'role "%" exists and can log in', wanted.name
                USING ERRCODE = '42710',
                      DETAIL = 'btc_ingest grants rights to this name; they must not go to somebody''s login.',
                      HINT = format('Rename it, or: ALTER ROLE %I NOLOGIN;', wanted.name);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted.name);
            EXECUTE format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.description);
        END IF;
        IF wanted.includes IS NOT NULL THEN
            EXECUTE format('GRANT %I TO %I', wanted.includes, wanted.name);
        END IF;
    END LOOP;
END
$roles$;

GRANT USAGE ON SCHEMA btc_ingest, btc_ingest_internal TO btc_ingest_reader;

CREATE TYPE btc_ingest.load_report AS (
    uri text,
    etag text,
    slices integer,
    rows_read bigint,
    rows_inserted bigint,
    rows_duplicate bigint,
    rows_conflicting bigint,
    rows_replaced bigint,
    rows_rejected bigint,
    bytes bigint,
    fetch_ms double precision,
    decode_ms double precision,
    insert_ms double precision,
    elapsed_ms double precision,
    outcome text
);
COMMENT ON TYPE btc_ingest.load_report IS
    'What one load did. rows_read = inserted + duplicate + conflicting + replaced + rejected; times in milliseconds; outcome is "loaded" or "already loaded".';
