-- The schemas, roles and types of the extension itself. migrate() creates the data tables and detaches them, so that
-- DROP EXTENSION leaves every tick.

CREATE SCHEMA btc_ingest;
COMMENT ON SCHEMA btc_ingest IS 'Functions, procedures and views that load Bitcoin ticks from Parquet in S3';
REVOKE ALL ON SCHEMA btc_ingest FROM PUBLIC;

CREATE SCHEMA btc_ingest_internal;
COMMENT ON SCHEMA btc_ingest_internal IS 'Helpers of btc_ingest, which its own functions and workers call';
REVOKE ALL ON SCHEMA btc_ingest_internal FROM PUBLIC;

-- Roles are cluster-wide: another database may have made them already, and DROP EXTENSION leaves them.
CREATE FUNCTION btc_ingest_internal.make_roles() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('btc_ingest_monitor', NULL, 'May read the status of btc_ingest and call doctor(); reads no tick'),
            ('btc_ingest_reader', NULL, 'May read the ticks, the registry and the status of btc_ingest'),
            ('btc_ingest_loader', 'btc_ingest_reader',
             'May also inspect, register and load objects, run sweeps and backfills, and retry'),
            ('btc_ingest_admin', 'btc_ingest_loader',
             'May also watch prefixes, skip objects, reload slices, pause, cancel backfills, set policies and migrate')
        ) AS r (name, includes, description)
    LOOP
        IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name AND rolcanlogin) THEN
            RAISE EXCEPTION 'role "%" exists and can log in', wanted.name
                USING ERRCODE = '42710',
                      DETAIL = 'btc_ingest grants privileges to this role; a role that can log in must not get them.',
                      HINT = format('Rename the role, or: ALTER ROLE %I NOLOGIN;', wanted.name);
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
$$;
COMMENT ON FUNCTION btc_ingest_internal.make_roles() IS
    'Part of CREATE EXTENSION: makes the roles that do not exist yet';
REVOKE ALL ON FUNCTION btc_ingest_internal.make_roles() FROM PUBLIC;
SELECT btc_ingest_internal.make_roles();

GRANT USAGE ON SCHEMA btc_ingest, btc_ingest_internal TO btc_ingest_reader, btc_ingest_monitor;

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
    'What one load did. rows_read = inserted + duplicate + conflicting + replaced + rejected. '
    'The stages of a load overlap, so their times do not add up to elapsed_ms';
COMMENT ON COLUMN btc_ingest.load_report.uri IS 's3://bucket/key of the object';
COMMENT ON COLUMN btc_ingest.load_report.etag IS 'Version of the object; empty if the load failed';
COMMENT ON COLUMN btc_ingest.load_report.slices IS 'Slices (asset and bucket) that the object''s ticks belong to';
COMMENT ON COLUMN btc_ingest.load_report.rows_read IS 'Rows of the object';
COMMENT ON COLUMN btc_ingest.load_report.rows_inserted IS 'Ticks that were not stored before';
COMMENT ON COLUMN btc_ingest.load_report.rows_duplicate IS 'Ticks that were stored already, with the same values';
COMMENT ON COLUMN btc_ingest.load_report.rows_conflicting IS
    'Ticks that were stored already, with other values that were kept';
COMMENT ON COLUMN btc_ingest.load_report.rows_replaced IS
    'Ticks that were stored already, with other values that the object''s replaced';
COMMENT ON COLUMN btc_ingest.load_report.rows_rejected IS 'Rows that could not be stored as ticks';
COMMENT ON COLUMN btc_ingest.load_report.bytes IS 'Bytes fetched from S3';
COMMENT ON COLUMN btc_ingest.load_report.fetch_ms IS 'Milliseconds spent waiting for S3';
COMMENT ON COLUMN btc_ingest.load_report.decode_ms IS 'Milliseconds spent decoding and encoding';
COMMENT ON COLUMN btc_ingest.load_report.insert_ms IS 'Milliseconds spent storing in PostgreSQL';
COMMENT ON COLUMN btc_ingest.load_report.elapsed_ms IS 'Milliseconds from the call to its return';
COMMENT ON COLUMN btc_ingest.load_report.outcome IS
    '"loaded"; "already loaded": this version is loaded, and nothing was read; "failed": only from sweep(), '
    'the WARNING and the view failures say why';
