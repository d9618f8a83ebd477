-- The settings of the extension's functions. They have the same values under all settings of the database, the role
-- and the session: a setting must not change what a statement means, nor a value that is written as text and read
-- again.

CREATE FUNCTION btc_ingest_internal.fix_settings() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fixed CONSTANT text[] := ARRAY[
        ['datestyle', 'ISO, YMD'], ['intervalstyle', 'postgres'], ['timezone', 'UTC'], ['extra_float_digits', '1'],
        ['bytea_output', 'hex'], ['standard_conforming_strings', 'on'], ['transform_null_equals', 'off'],
        ['array_nulls', 'on'], ['quote_all_identifiers', 'off'], ['row_security', 'on']];
    item record;
BEGIN
    FOR item IN
        SELECT p.oid::regprocedure AS name FROM pg_proc p
         WHERE p.pronamespace IN ('btc_ingest'::regnamespace, 'btc_ingest_internal'::regnamespace)
           -- A procedure with SET clauses may not commit. A trigger runs for each row, and SET clauses take longer than
           -- its work, which no setting changes. A function without a search path of its own is made to be part of the
           -- query that calls it, which a SET clause would prevent; it qualifies all names and writes no text.
           AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype AND p.proconfig IS NOT NULL
         ORDER BY p.oid
    LOOP
        FOR place IN 1 .. array_length(fixed, 1) LOOP
            EXECUTE format('ALTER FUNCTION %s SET %I = %L', item.name, fixed[place][1], fixed[place][2]);
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.fix_settings() IS
    'Part of CREATE EXTENSION, and of upgrades after they have replaced functions: gives the settings that change what '
    'a statement or a text means fixed values in every function';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest_internal FROM PUBLIC;
SELECT btc_ingest_internal.fix_settings();
