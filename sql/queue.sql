-- Objects that load by themselves: waking workers, sweeps, and the administrator's commands on objects.

CREATE FUNCTION btc_ingest_internal.wake_workers() RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'wake_workers_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.wake_workers() IS
    'Wakes the workers of this database when the transaction commits. Without btc_ingest in shared_preload_libraries '
    'there are none, and nothing happens';

CREATE FUNCTION btc_ingest_internal.registry_wake() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'registry_wake_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.registry_wake() IS
    'Trigger of landing.raw_blobs_5m: a pending row wakes the workers when it commits';

CREATE FUNCTION btc_ingest.sweep(max_objects integer DEFAULT NULL) RETURNS SETOF btc_ingest.load_report
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'sweep_wrapper';
COMMENT ON FUNCTION btc_ingest.sweep(integer) IS
'Loads registered objects that are due, in the caller''s transaction, and returns a report per object. An object that
fails raises a WARNING and has the outcome "failed"; the sweep continues. run_sweep() commits after every object.

max_objects: number of objects to load at most. Default null: all that are due.';

CREATE FUNCTION btc_ingest_internal.sweep_step(assets text[], newest boolean, claim_next boolean) RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'sweep_step_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.sweep_step(text[], boolean, boolean) IS
'Part of run_sweep(): loads the object that the last step claimed, and claims the next one if claim_next is true.
Returns whether it claimed one';

-- COMMIT is forbidden in a procedure that is SECURITY DEFINER or has SET. This one is neither, and qualifies all names.
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
    objects pg_catalog.int8 := 0;
    more pg_catalog.bool;
BEGIN
    config := coalesce(config, '{}');
    IF pg_catalog.jsonb_typeof(config) OPERATOR(pg_catalog.<>) 'object' THEN
        RAISE EXCEPTION 'config must be a JSON object'
            USING ERRCODE = 'TK002', HINT = 'Known are max_objects, max_runtime, assets and order.';
    END IF;
    SELECT pg_catalog.string_agg(k, ', ') INTO wrong FROM pg_catalog.jsonb_object_keys(config) AS k
     WHERE k OPERATOR(pg_catalog.<>) ALL ('{max_objects,max_runtime,assets,order}'::pg_catalog.text[]);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'unknown keys in config: %', wrong
            USING ERRCODE = 'TK002', HINT = 'Known are max_objects, max_runtime, assets and order.';
    END IF;
    IF coalesce(config OPERATOR(pg_catalog.->>) 'order', 'oldest')
           OPERATOR(pg_catalog.<>) ALL ('{oldest,newest}'::pg_catalog.text[]) THEN
        RAISE EXCEPTION 'config.order is "%"', config OPERATOR(pg_catalog.->>) 'order'
            USING ERRCODE = 'TK002', HINT = 'order is "oldest" or "newest".';
    END IF;
    BEGIN
        max_objects := (config OPERATOR(pg_catalog.->>) 'max_objects')::pg_catalog.int8;
        max_runtime := (config OPERATOR(pg_catalog.->>) 'max_runtime')::pg_catalog.interval;
        newest := (config OPERATOR(pg_catalog.->>) 'order') OPERATOR(pg_catalog.=) 'newest';
        -- An empty list means no asset. All assets are meant only if the key is absent.
        IF config OPERATOR(pg_catalog.?) 'assets' THEN
            SELECT coalesce(pg_catalog.array_agg(a), '{}') INTO assets
              FROM pg_catalog.jsonb_array_elements_text(config OPERATOR(pg_catalog.->) 'assets') AS a;
        END IF;
    EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION 'config cannot be read: %', SQLERRM
            USING ERRCODE = 'TK002',
                  HINT = 'max_objects is a number, max_runtime an interval ("4 minutes"), assets an array of symbols.';
    END;
    IF max_objects OPERATOR(pg_catalog.<) 1 THEN
        RETURN;
    END IF;

    -- This COMMIT fails inside BEGIN … COMMIT of the caller. Nothing may be claimed before.
    COMMIT;
    more := btc_ingest_internal.sweep_step(assets, newest, true);
    COMMIT;
    WHILE more LOOP
        objects := objects OPERATOR(pg_catalog.+) 1;
        more := btc_ingest_internal.sweep_step(assets, newest,
            coalesce(objects OPERATOR(pg_catalog.<) max_objects, true)
            AND coalesce(pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began
                         OPERATOR(pg_catalog.<) max_runtime, true));
        COMMIT;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE btc_ingest.run_sweep(integer, jsonb) IS
'Loads registered objects that are due, one transaction per object. Errors of objects are recorded, not raised: the
view failures shows them. As a job of TimescaleDB: SELECT add_job(''btc_ingest.run_sweep'', ''5 minutes'').
CALL it outside BEGIN … COMMIT, because it commits.

job_id: number of the job, which TimescaleDB passes; it is not used. Default null.
config: JSON object, default {}:
  max_objects: number of objects to load at most. Default: all that are due.
  max_runtime: interval after which no further object is claimed. A claimed one is still loaded. Default: no limit.
  assets: array of symbols; only objects of these assets are loaded. Default: all.
  order: "oldest" or "newest" ticks first. Default: btc_ingest.queue_order.';

CREATE FUNCTION btc_ingest.retry(
    uri text DEFAULT NULL, asset text DEFAULT NULL, bucket_5m timestamptz DEFAULT NULL, older_than interval DEFAULT NULL
) RETURNS TABLE (object text, was text, became text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'retry_wrapper';
COMMENT ON FUNCTION btc_ingest.retry(text, text, timestamptz, interval) IS
'Makes failed, quarantined and skipped objects pending again, with no attempt counted. An object must match every
argument that is given; uri, asset or older_than is required. A WARNING says if the uri is not known, and a NOTICE if
nothing fits.

uri: the object with this uri.
asset: objects with ticks or a registry row of this symbol.
bucket_5m: with asset: objects with ticks or a registry row in the 5-minute bucket of this time.
older_than: objects whose last attempt, or whose registration if there was none, is longer ago.
All defaults are null.

Returns one row per object:
object: uri of the object.
was: status before.
became: status now.';

CREATE FUNCTION btc_ingest.skip(
    uri text DEFAULT NULL, reason text DEFAULT NULL, asset text DEFAULT NULL, bucket_5m timestamptz DEFAULT NULL,
    older_than interval DEFAULT NULL
) RETURNS TABLE (object text, was text, became text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'skip_wrapper';
COMMENT ON FUNCTION btc_ingest.skip(text, text, text, timestamptz, interval) IS
'Marks pending, failed and quarantined objects as skipped: they are not loaded until retry() is called or a producer
registers them again. An object must match every argument that is given; uri, asset or older_than is required. A
WARNING says if the uri is not known, and a NOTICE if nothing fits.

uri: the object with this uri.
reason: text that the view failures shows. Default null: "skipped by hand".
asset: objects with ticks or a registry row of this symbol.
bucket_5m: with asset: objects with ticks or a registry row in the 5-minute bucket of this time.
older_than: objects whose last attempt, or whose registration if there was none, is longer ago.
All other defaults are null.

Returns one row per object:
object: uri of the object.
was: status before.
became: status now.';

CREATE FUNCTION btc_ingest.requeue_failed(older_than interval DEFAULT NULL)
RETURNS TABLE (object text, was text, became text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'requeue_failed_wrapper';
COMMENT ON FUNCTION btc_ingest.requeue_failed(interval) IS
'Makes all failed and quarantined objects pending again, with no attempt counted.

older_than: only objects whose last attempt is longer ago. Default null: all.

Returns one row per object:
object: uri of the object.
was: status before.
became: status now.';

CREATE FUNCTION btc_ingest.reload_slice(asset text, bucket_5m timestamptz) RETURNS SETOF btc_ingest.load_report
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'reload_slice_wrapper';
COMMENT ON FUNCTION btc_ingest.reload_slice(text, timestamptz) IS
'Deletes the ticks of one slice and loads the objects that they came from again, in the caller''s transaction and in the
order in which they were loaded, so that the same values win. Returns a report per object. Ticks that came from no known
object are lost.

asset: symbol of the slice.
bucket_5m: any time in the slice''s 5-minute bucket.';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
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
