-- Slices that flow by themselves: waking workers, sweeps, and what an operator says about objects.

CREATE FUNCTION btc_ingest_internal.wake_workers() RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wake_workers_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.wake_workers() IS
    'Has the workers of this database look for work when this transaction commits; without btc_ingest in shared_preload_libraries it does nothing';

CREATE FUNCTION btc_ingest_internal.registry_wake() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'registry_wake_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.registry_wake() IS 'Trigger of landing.raw_blobs_5m: a pending row wakes the workers when it commits';

CREATE FUNCTION btc_ingest.sweep(max_objects integer DEFAULT NULL) RETURNS SETOF btc_ingest.load_report
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'sweep_wrapper';
COMMENT ON FUNCTION btc_ingest.sweep(integer) IS
    'Loads what is registered and due, at most so many objects, in the caller''s transaction. An object that fails is a WARNING and a row with the outcome failed or quarantined; the others go on. run_sweep() commits after every object';

CREATE FUNCTION btc_ingest_internal.sweep_step(assets text[], newest boolean, claim_next boolean) RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'sweep_step_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.sweep_step(text[], boolean, boolean) IS
    'Part of run_sweep(): loads the object that the last step has claimed, and claims the next one if it is to; whether it has';

-- Not SECURITY DEFINER and without SET: either forbids COMMIT.
CREATE PROCEDURE btc_ingest.run_sweep(job_id integer DEFAULT NULL, config jsonb DEFAULT '{}')
LANGUAGE plpgsql
AS $$
DECLARE
    max_objects pg_catalog.int8;
    max_runtime pg_catalog.interval;
    assets pg_catalog.text[];
    newest pg_catalog.bool;
    wrong pg_catalog.text;
    began pg_catalog.timestamptz := pg_catalog.clock_timestamp();
    slices pg_catalog.int8 := 0;
    more pg_catalog.bool;
BEGIN
    config := coalesce(config, '{}');
    IF pg_catalog.jsonb_typeof(config) OPERATOR(pg_catalog.<>) 'object' THEN
        RAISE EXCEPTION 'config must be a JSON object' USING ERRCODE = 'TK002', HINT = 'Known are max_objects, max_runtime, assets and order.';
    END IF;
    SELECT pg_catalog.string_agg(k, ', ') INTO wrong FROM pg_catalog.jsonb_object_keys(config) AS k
     WHERE k OPERATOR(pg_catalog.<>) ALL ('{max_objects,max_runtime,assets,order}'::pg_catalog.text[]);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'unknown keys in config: %', wrong
            USING ERRCODE = 'TK002', HINT = 'Known are max_objects, max_runtime, assets and order.';
    END IF;
    IF coalesce(config OPERATOR(pg_catalog.->>) 'order', 'oldest') OPERATOR(pg_catalog.<>) ALL ('{oldest,newest}'::pg_catalog.text[]) THEN
        RAISE EXCEPTION 'config.order is "%"', config OPERATOR(pg_catalog.->>) 'order'
            USING ERRCODE = 'TK002', HINT = 'order is "oldest" or "newest".';
    END IF;
    BEGIN
        max_objects := (config OPERATOR(pg_catalog.->>) 'max_objects')::pg_catalog.int8;
        max_runtime := (config OPERATOR(pg_catalog.->>) 'max_runtime')::pg_catalog.interval;
        newest := (config OPERATOR(pg_catalog.->>) 'order') OPERATOR(pg_catalog.=) 'newest';
        -- An empty list names no asset; only where there is none, all are meant.
        IF config OPERATOR(pg_catalog.?) 'assets' THEN
            SELECT coalesce(pg_catalog.array_agg(a), '{}') INTO assets FROM pg_catalog.jsonb_array_elements_text(config OPERATOR(pg_catalog.->) 'assets') AS a;
        END IF;
    EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION 'config cannot be read: %', SQLERRM
            USING ERRCODE = 'TK002', HINT = 'max_objects is a number, max_runtime an interval ("4 minutes"), assets an array of symbols.';
    END;
    IF max_objects OPERATOR(pg_catalog.<) 1 THEN
        RETURN;
    END IF;

    -- Where this is refused, nothing must have been claimed.
    COMMIT;
    more := btc_ingest_internal.sweep_step(assets, newest, true);
    COMMIT;
    WHILE more LOOP
        slices := slices OPERATOR(pg_catalog.+) 1;
        more := btc_ingest_internal.sweep_step(assets, newest,
            coalesce(slices OPERATOR(pg_catalog.<) max_objects, true)
            AND coalesce(pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began OPERATOR(pg_catalog.<) max_runtime, true));
        COMMIT;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE btc_ingest.run_sweep(integer, jsonb) IS
    'Loads what is registered and due, one transaction per object: SELECT add_job(''btc_ingest.run_sweep'', ''5 minutes''). config: max_objects, max_runtime, assets, order (oldest or newest). Errors of objects are booked, never raised';

CREATE FUNCTION btc_ingest.retry(
    uri text DEFAULT NULL, asset text DEFAULT NULL, bucket_5m timestamptz DEFAULT NULL, older_than interval DEFAULT NULL
) RETURNS TABLE (object text, was text, became text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'retry_wrapper';
COMMENT ON FUNCTION btc_ingest.retry(text, text, timestamptz, interval) IS
    'Failed, quarantined and skipped objects are pending again, with all of their attempts: one by its uri, those of an asset and bucket, or those whose last attempt is older';

CREATE FUNCTION btc_ingest.skip(
    uri text DEFAULT NULL, reason text DEFAULT NULL, asset text DEFAULT NULL, bucket_5m timestamptz DEFAULT NULL, older_than interval DEFAULT NULL
) RETURNS TABLE (object text, was text, became text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'skip_wrapper';
COMMENT ON FUNCTION btc_ingest.skip(text, text, text, timestamptz, interval) IS
    'Pending, failed and quarantined objects are not to be loaded, until retry() or until their producer registers them again';

CREATE FUNCTION btc_ingest.requeue_failed(older_than interval DEFAULT NULL)
RETURNS TABLE (object text, was text, became text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'requeue_failed_wrapper';
COMMENT ON FUNCTION btc_ingest.requeue_failed(interval) IS
    'All failed and quarantined objects, or those whose last attempt is older, are pending again, with all of their attempts';

CREATE FUNCTION btc_ingest.reload_slice(asset text, bucket_5m timestamptz) RETURNS SETOF btc_ingest.load_report
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'reload_slice_wrapper';
COMMENT ON FUNCTION btc_ingest.reload_slice(text, timestamptz) IS
    'Deletes the ticks of one bucket and asset and loads the objects that they came from again, in the caller''s transaction; ticks that came from no known object are gone afterwards';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest_internal.wake_workers(),
    btc_ingest.sweep(integer),
    btc_ingest_internal.sweep_step(text[], boolean, boolean),
    btc_ingest.retry(text, text, timestamptz, interval),
    btc_ingest.requeue_failed(interval)
TO btc_ingest_loader;
GRANT EXECUTE ON PROCEDURE btc_ingest.run_sweep(integer, jsonb) TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION
    btc_ingest.skip(text, text, text, timestamptz, interval),
    btc_ingest.reload_slice(text, timestamptz)
TO btc_ingest_admin;
