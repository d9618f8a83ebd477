//! Functions, views, triggers, comments and settings.

use super::*;

#[test]
fn the_functions_have_these_arguments_and_results() {
    let found = texts(
        &mut client(),
        "SELECT format('%s(%s) -> %s', p.proname, pg_get_function_arguments(p.oid),
                       coalesce(pg_get_function_result(p.oid), 'procedure'))
           FROM pg_proc p WHERE p.pronamespace = 'btc_ingest'::regnamespace
            AND p.proname IN ('load_s3_slice', 'inspect_s3', 'register_s3_slice', 'doctor', 'migrate', 'sweep',
                              'run_sweep', 'retry', 'skip', 'requeue_failed', 'reload_slice', 'stats_since',
                              'watch', 'unwatch', 'discover') ORDER BY 1",
    );
    must_be(
        &found,
        "discover(prefix text DEFAULT NULL::text) -> TABLE(prefix text, listed bigint, \
            registered_new bigint, changed bigint, known bigint, passed_over bigint, skipped bigint, \
            seconds double precision, problem text)
         doctor(since interval DEFAULT '24:00:00'::interval) -> TABLE(name text, ok boolean, detail text, hint text)
         inspect_s3(uri text, options jsonb DEFAULT '{}'::jsonb) -> TABLE(etag text, size_bytes bigint, \
             row_count bigint, row_groups integer, writer text, schema_fingerprint text, \
             time_from timestamp with time zone, time_to timestamp with time zone, codecs text[], columns jsonb, \
             problem text)
         load_s3_slice(uri text, on_bad_row text DEFAULT 'abort'::text, force boolean DEFAULT false, \
             options jsonb DEFAULT '{}'::jsonb) -> btc_ingest.load_report
         migrate() -> text
         register_s3_slice(uri text, asset text, bucket_5m timestamp with time zone DEFAULT NULL::timestamp with \
             time zone, metadata jsonb DEFAULT '{}'::jsonb) -> TABLE(registered_bucket timestamp with time zone, \
             registered_asset text, object_status text, note text)
         reload_slice(asset text, bucket_5m timestamp with time zone) -> SETOF btc_ingest.load_report
         requeue_failed(older_than interval DEFAULT NULL::interval) -> TABLE(object text, was text, became text)
         retry(uri text DEFAULT NULL::text, asset text DEFAULT NULL::text, \
             bucket_5m timestamp with time zone DEFAULT NULL::timestamp with time zone, \
             older_than interval DEFAULT NULL::interval) -> TABLE(object text, was text, became text)
         run_sweep(IN job_id integer DEFAULT NULL::integer, IN config jsonb DEFAULT '{}'::jsonb) -> procedure
         skip(uri text DEFAULT NULL::text, reason text DEFAULT NULL::text, asset text DEFAULT NULL::text, \
             bucket_5m timestamp with time zone DEFAULT NULL::timestamp with time zone, \
             older_than interval DEFAULT NULL::interval) -> TABLE(object text, was text, became text)
         stats_since(since interval DEFAULT '24:00:00'::interval) -> TABLE(loads bigint, already_loaded bigint, \
             failures bigint, quarantined bigint, retries bigint, rows_read numeric, rows_inserted numeric, \
             rows_conflicting numeric, rows_replaced numeric, rows_rejected numeric, bytes numeric, \
             fetch_seconds double precision, decode_seconds double precision, \
             insert_seconds double precision, median_ms double precision, p95_ms double precision, \
             p99_ms double precision, longest_ms double precision, errors jsonb)
         sweep(max_objects integer DEFAULT NULL::integer) -> SETOF btc_ingest.load_report
         unwatch(prefix text) -> text
         watch(prefix text, options jsonb DEFAULT '{}'::jsonb) -> text",
    );
}

#[test]
fn the_views_have_these_columns_and_readers() {
    let found = texts(
        &mut client(),
        "SELECT format('%s: %s', c.oid::regclass, string_agg(a.attname, ', ' ORDER BY a.attnum))
           FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
          WHERE c.relnamespace = 'btc_ingest'::regnamespace AND c.relkind = 'v' GROUP BY c.oid ORDER BY 1",
    );
    must_be(
        &found,
        "btc_ingest.candles: name, width, by, state, aggregate, chunk_interval, refreshed_at, wanted_from, wanted_to, \
             last_error, created_by, created_at
         btc_ingest.conflicts: uri, loaded_at, rows_read, rows_conflicting, rows_rejected, rows_kept, example
         btc_ingest.failures: uri, status, attempts, sqlstate, message, last_attempt_at, next_attempt_at, asset, \
            bucket_5m, backfill
         btc_ingest.gaps: asset, first_trade_id, last_trade_id, missing, state, before_time, after_time, since, \
             reason, noted_by, noted_at, filled_by, filled_at
         btc_ingest.gone: asset, from_bucket, to_bucket, slices, ticks, objects, chunks
         btc_ingest.incomplete: asset, from_time, to_time, reason, what
         btc_ingest.lag: asset, newest_bucket, lag, waiting, oldest_waiting_bucket, oldest_waiting, \
             open_gaps, missing_ids, gaps_counted_at
         btc_ingest.outages: prefix, since, sqlstate, message, uri, probes, last_probe_at, next_probe_at
         btc_ingest.progress: pid, uri, phase, started_at, size_bytes, rows_total, rows_done, worker, running
         btc_ingest.queue: uri, asset, bucket_5m, status, attempts, next_attempt_at, registered_at, waiting, \
             last_sqlstate, last_error, backfill
         btc_ingest.retention: range_from, range_to, state, asset, ticks, objects, job_name, reason, since, \
             keep_until, hypertable
         btc_ingest.stats: loads, already_loaded, failures, quarantined, retries, rows_read, rows_inserted, \
             rows_conflicting, rows_replaced, rows_rejected, bytes, fetch_seconds, decode_seconds, insert_seconds, \
             median_ms, p95_ms, p99_ms, longest_ms, errors
         btc_ingest.units: unit, kind, asset, from_time, to_time, state, attempts, leased_by, leased_until, \
             last_error, slices, candles, vectors, finished_at
         btc_ingest.watches: prefix, enabled, options, last_listed_at, last_full_at, last_counts, groups, sqlstate, \
             message",
    );
    let found = texts(
        &mut client(),
        "SELECT DISTINCT format('%s %s',
                                CASE g.grantee WHEN 0 THEN 'public' ELSE g.grantee::regrole::text END, g.privilege_type)
           FROM pg_class c LEFT JOIN LATERAL aclexplode(c.relacl) g ON g.grantee <> c.relowner
          WHERE c.relnamespace = 'btc_ingest'::regnamespace AND c.relkind = 'v' ORDER BY 1",
    );
    must_be(
        &found,
        "btc_ingest_monitor SELECT
         btc_ingest_reader SELECT",
    );
}

#[test]
fn the_triggers_of_the_registry_are_these_and_go_with_the_extension() {
    let found = texts(
        &mut client(),
        "SELECT format('%s, %s', pg_get_triggerdef(t.oid), (
                    SELECT 'depends on ' || extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                     WHERE d.objid = t.oid AND d.deptype = 'x'))
           FROM pg_trigger t WHERE t.tgrelid = 'landing.raw_blobs_5m'::regclass AND NOT t.tgisinternal ORDER BY 1",
    );
    must_be(
        &found,
        "CREATE TRIGGER registry_pending BEFORE INSERT OR UPDATE OF s3_uri ON landing.raw_blobs_5m FOR EACH ROW \
            EXECUTE FUNCTION btc_ingest_internal.registry_pending(), depends on btc_ingest
         CREATE TRIGGER registry_wake AFTER INSERT OR UPDATE OF s3_uri ON landing.raw_blobs_5m FOR EACH ROW WHEN \
             ((new.status = 'pending'::text)) \
             EXECUTE FUNCTION btc_ingest_internal.registry_wake(), depends on btc_ingest",
    );
}

#[test]
fn the_triggers_of_the_slices_are_these_and_go_with_the_extension() {
    let found = texts(
        &mut client(),
        "SELECT format('%s, %s', pg_get_triggerdef(t.oid), (
                    SELECT 'depends on ' || extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                     WHERE d.objid = t.oid AND d.deptype = 'x'))
           FROM pg_trigger t WHERE t.tgrelid = 'ingestion.object_slices'::regclass AND NOT t.tgisinternal ORDER BY 1",
    );
    must_be(
        &found,
        "CREATE TRIGGER slices_added AFTER INSERT ON ingestion.object_slices REFERENCING NEW TABLE AS added \
             FOR EACH STATEMENT EXECUTE FUNCTION btc_ingest_internal.gather_ids(), depends on btc_ingest
         CREATE TRIGGER slices_changed AFTER UPDATE ON ingestion.object_slices REFERENCING OLD TABLE AS removed \
             NEW TABLE AS added \
             FOR EACH STATEMENT EXECUTE FUNCTION btc_ingest_internal.gather_ids(), depends on btc_ingest
         CREATE TRIGGER slices_removed AFTER DELETE ON ingestion.object_slices REFERENCING OLD TABLE AS removed \
             FOR EACH STATEMENT EXECUTE FUNCTION btc_ingest_internal.gather_ids(), depends on btc_ingest
         CREATE TRIGGER slices_truncated AFTER TRUNCATE ON ingestion.object_slices \
             FOR EACH STATEMENT EXECUTE FUNCTION btc_ingest_internal.gather_ids(), depends on btc_ingest",
    );
}

#[test]
fn every_function_that_runs_as_its_owner_has_a_search_path_of_its_own() {
    let found = texts(
        &mut client(),
        "SELECT p.oid::regprocedure::text FROM pg_proc p
          WHERE p.pronamespace IN ('btc_ingest'::regnamespace, 'btc_ingest_internal'::regnamespace) AND p.prosecdef
            AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)",
    );
    must_be(&found, "");
}

#[test]
fn a_load_report_has_these_columns_in_this_order() {
    let found = texts(
        &mut client(),
        "SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
          WHERE a.attrelid = 'btc_ingest.load_report'::regclass AND a.attnum > 0 ORDER BY a.attnum",
    );
    must_be(
        &found,
        "uri text
         etag text
         slices integer
         rows_read bigint
         rows_inserted bigint
         rows_duplicate bigint
         rows_conflicting bigint
         rows_replaced bigint
         rows_rejected bigint
         bytes bigint
         fetch_ms double precision
         decode_ms double precision
         insert_ms double precision
         elapsed_ms double precision
         outcome text",
    );
}

#[test]
fn everything_has_a_comment() {
    let found = texts(
        &mut client(),
        &format!(
            "SELECT 'schema ' || nspname FROM pg_namespace n
              WHERE (nspname IN {SCHEMAS} OR nspname IN ('btc_ingest', 'btc_ingest_internal'))
                AND obj_description(n.oid, 'pg_namespace') IS NULL
              UNION ALL
             SELECT 'table ' || c.oid::regclass FROM pg_class c
              WHERE c.relnamespace IN (SELECT oid FROM pg_namespace
                                        WHERE nspname IN {SCHEMAS} OR nspname = 'btc_ingest')
                AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL
              UNION ALL
             SELECT 'column ' || a.attrelid::regclass || '.' || a.attname FROM pg_attribute a
              WHERE a.attrelid IN ('landing.raw_blobs_5m'::regclass, 'market_data.btc_ticks'::regclass,
                                   'signals.btc_embeddings'::regclass, 'ingestion.stream_offsets'::regclass,
                                   'ops.retention_jobs'::regclass)
                AND a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL
              UNION ALL
             SELECT 'function ' || p.oid::regprocedure FROM pg_proc p
              WHERE p.pronamespace IN ('btc_ingest'::regnamespace, 'btc_ingest_internal'::regnamespace)
                AND obj_description(p.oid, 'pg_proc') IS NULL
              UNION ALL
             SELECT 'type ' || t.oid::regtype FROM pg_type t
              WHERE t.typnamespace = 'btc_ingest'::regnamespace AND t.typcategory <> 'A'
                AND NOT EXISTS (SELECT FROM pg_class v WHERE v.oid = t.typrelid AND v.relkind = 'v')
                AND obj_description(t.oid, 'pg_type') IS NULL
              UNION ALL
             SELECT 'role ' || rolname FROM pg_roles r
              WHERE rolname LIKE 'btc_ingest%' AND shobj_description(r.oid, 'pg_authid') IS NULL
              UNION ALL
             SELECT 'extension' FROM pg_extension e
              WHERE extname = 'btc_ingest' AND obj_description(e.oid, 'pg_extension') IS NULL"
        ),
    );
    must_be(&found, "");
}

#[test]
fn the_comment_of_the_maker_flag_says_that_the_buyer_was_the_maker() {
    let found = texts(
        &mut client(),
        "SELECT col_description(attrelid, attnum) FROM pg_attribute
          WHERE attrelid = 'market_data.btc_ticks'::regclass AND attname = 'is_market_maker'",
    );
    assert!(found[0].contains("BUYER was the maker") && found[0].contains("NOT is_market_maker"), "{found:?}");
}

/// Everything that belongs to the extension.
const MEMBERS: &str =
    "function btc_ingest.\"similar\"(timestamp with time zone,text,integer,timestamp with time zone,interval,\
text[],text[],timestamp with time zone,timestamp with time zone)
     function btc_ingest.apply_retention()
     function btc_ingest.backfill(text,timestamp with time zone,timestamp with time zone,integer,text,boolean,boolean)
     function btc_ingest.backfill(text[],timestamp with time zone,timestamp with time zone,integer,text,boolean,boolean)
     function btc_ingest.backfill_failures(bigint,integer)
     function btc_ingest.backfill_status(bigint)
     function btc_ingest.bars(text,timestamp with time zone,timestamp with time zone,text,numeric,bigint)
     function btc_ingest.cancel_backfill(bigint)
     function btc_ingest.complete_until(text)
     function btc_ingest.completeness(text,timestamp with time zone,timestamp with time zone)
     function btc_ingest.conditions(timestamp with time zone,timestamp with time zone)
     function btc_ingest.create_candles(interval,text,text,interval)
     function btc_ingest.declare_asset(text,boolean)
     function btc_ingest.discover(text)
     function btc_ingest.doctor(interval)
     function btc_ingest.drop_candles(text)
     function btc_ingest.embed(timestamp with time zone,timestamp with time zone,text)
     function btc_ingest.explain_gap(text,bigint,bigint,text)
     function btc_ingest.extend_units(uuid[],interval)
     function btc_ingest.fail_unit(uuid,text)
     function btc_ingest.finish_unit(uuid,uuid[])
     function btc_ingest.forget_units(text,timestamp with time zone,timestamp with time zone)
     function btc_ingest.import_incidents(jsonb,interval)
     function btc_ingest.inspect_s3(text,jsonb)
     function btc_ingest.label(timestamp with time zone,timestamp with time zone,interval[])
     function btc_ingest.last_price(text)
     function btc_ingest.load_s3_slice(text,text,boolean,jsonb)
     function btc_ingest.markouts(text,timestamp with time zone,timestamp with time zone,interval[])
     function btc_ingest.migrate()
     function btc_ingest.pause_ingest()
     function btc_ingest.prices_at(text,timestamp with time zone[],interval)
     function btc_ingest.quality_report(timestamp with time zone,timestamp with time zone)
     function btc_ingest.rebuild_embedding_index(text)
     function btc_ingest.record_dropped(text,timestamp with time zone,timestamp with time zone)
     function btc_ingest.reference_embeddings(regclass,text,text)
     function btc_ingest.refresh_candles(timestamp with time zone,timestamp with time zone)
     function btc_ingest.register_s3_slice(text,text,timestamp with time zone,jsonb)
     function btc_ingest.reload_slice(text,timestamp with time zone)
     function btc_ingest.report_gaps()
     function btc_ingest.requeue_failed(interval)
     function btc_ingest.restore_range(text,timestamp with time zone,timestamp with time zone,interval)
     function btc_ingest.resume_ingest()
     function btc_ingest.retry(text,text,timestamp with time zone,interval)
     function btc_ingest.run_candles(integer,jsonb)
     function btc_ingest.run_retention(integer,jsonb)
     function btc_ingest.run_sweep(integer,jsonb)
     function btc_ingest.set_embedding_dimensions(integer,boolean)
     function btc_ingest.set_embedding_offset(text,timestamp with time zone,jsonb)
     function btc_ingest.similar_to(real[],integer,text,timestamp with time zone,text[],text[],\
timestamp with time zone,timestamp with time zone)
     function btc_ingest.skip(text,text,text,timestamp with time zone,interval)
     function btc_ingest.slice_digests(text,timestamp with time zone,timestamp with time zone)
     function btc_ingest.slice_ledger(text,timestamp with time zone,timestamp with time zone,boolean)
     function btc_ingest.stats_since(interval)
     function btc_ingest.sweep(integer)
     function btc_ingest.ticks(text,timestamp with time zone,timestamp with time zone)
     function btc_ingest.unreference_embeddings()
     function btc_ingest.unwatch(text)
     function btc_ingest.verification_status(bigint)
     function btc_ingest.verify(text,integer)
     function btc_ingest.verify_all(text,timestamp with time zone,timestamp with time zone,integer)
     function btc_ingest.verify_archive(timestamp with time zone,timestamp with time zone,text,text)
     function btc_ingest.verify_range(text,timestamp with time zone,timestamp with time zone,integer)
     function btc_ingest.watch(text,jsonb)
     function btc_ingest.work_units(timestamp with time zone,timestamp with time zone,text,text,integer,interval,\
text[],integer)
     function btc_ingest.workers()
     function btc_ingest_internal.adopt_checks(text)
     function btc_ingest_internal.adopt_columns(text)
     function btc_ingest_internal.adopt_empty_registrations(text)
     function btc_ingest_internal.adopt_keys()
     function btc_ingest_internal.backfill_worker_is_alive(bigint,integer,integer)
     function btc_ingest_internal.begin_verification(text,timestamp with time zone,timestamp with time zone)
     function btc_ingest_internal.candle_rows()
     function btc_ingest_internal.candle_windows(timestamp with time zone,timestamp with time zone)
     function btc_ingest_internal.columns(text)
     function btc_ingest_internal.duration_text(double precision)
     function btc_ingest_internal.fill_beside_dropped(timestamp with time zone,timestamp with time zone)
     function btc_ingest_internal.finish_chunk(oid,oid,text,bigint,bigint)
     function btc_ingest_internal.fix_settings()
     function btc_ingest_internal.gap_rows(text)
     function btc_ingest_internal.gather_ids()
     function btc_ingest_internal.grant_and_comment(text)
     function btc_ingest_internal.id_holes(text)
     function btc_ingest_internal.incomplete_ranges(text)
     function btc_ingest_internal.label_windows(timestamp with time zone,timestamp with time zone,interval[],text[],\
timestamp with time zone[],timestamp with time zone[])
     function btc_ingest_internal.lag_by_asset()
     function btc_ingest_internal.lease_units(timestamp with time zone,timestamp with time zone,text,text,integer[],\
interval,text[])
     function btc_ingest_internal.loaded_assets()
     function btc_ingest_internal.make_id_sets()
     function btc_ingest_internal.make_retention(boolean)
     function btc_ingest_internal.make_roles()
     function btc_ingest_internal.migrate_refusal()
     function btc_ingest_internal.missing_indexes()
     function btc_ingest_internal.nearest_windows(timestamp with time zone,text,real[],text,integer,jsonb)
     function btc_ingest_internal.objects_failed()
     function btc_ingest_internal.objects_in_conflict()
     function btc_ingest_internal.objects_waiting()
     function btc_ingest_internal.order_loaded_objects()
     function btc_ingest_internal.owns_candles()
     function btc_ingest_internal.prefixes_waiting()
     function btc_ingest_internal.range_restored(text,timestamp with time zone,timestamp with time zone,interval)
     function btc_ingest_internal.refuse_symbol(text)
     function btc_ingest_internal.registry_pending()
     function btc_ingest_internal.registry_wake()
     function btc_ingest_internal.rename_stored_modes()
     function btc_ingest_internal.restore_step(text,timestamp with time zone,timestamp with time zone,boolean)
     function btc_ingest_internal.retention_changed()
     function btc_ingest_internal.retention_fault(text,jsonb,boolean)
     function btc_ingest_internal.retention_row()
     function btc_ingest_internal.retention_rows()
     function btc_ingest_internal.retention_step(timestamp with time zone)
     function btc_ingest_internal.running_loads()
     function btc_ingest_internal.schemas()
     function btc_ingest_internal.slice_days(timestamp with time zone,timestamp with time zone)
     function btc_ingest_internal.slices_gone()
     function btc_ingest_internal.staged_for_lease()
     function btc_ingest_internal.start_backfill(text[],timestamp with time zone,timestamp with time zone,integer,\
text,boolean)
     function btc_ingest_internal.start_backfill_workers(bigint)
     function btc_ingest_internal.survey_backfill(text[],timestamp with time zone,timestamp with time zone,integer,\
text,boolean)
     function btc_ingest_internal.sweep_step(text[],boolean,boolean)
     function btc_ingest_internal.tables()
     function btc_ingest_internal.take_migration_lock()
     function btc_ingest_internal.tick_of_id(text,bigint)
     function btc_ingest_internal.unit_rows()
     function btc_ingest_internal.verify_step(bigint,integer)
     function btc_ingest_internal.wake_workers()
     function btc_ingest_internal.want_candles(timestamp with time zone,timestamp with time zone)
     function btc_ingest_internal.want_range(text,timestamp with time zone,timestamp with time zone)
     function btc_ingest_internal.watched()
     function btc_ingest_internal.with_chunks()
     schema btc_ingest
     schema btc_ingest_internal
     type btc_ingest.load_report
     type btc_ingest_internal.tick
     view btc_ingest.candles
     view btc_ingest.conflicts
     view btc_ingest.failures
     view btc_ingest.gaps
     view btc_ingest.gone
     view btc_ingest.incomplete
     view btc_ingest.lag
     view btc_ingest.outages
     view btc_ingest.progress
     view btc_ingest.queue
     view btc_ingest.retention
     view btc_ingest.stats
     view btc_ingest.units
     view btc_ingest.watches";

#[test]
fn no_table_and_no_schema_of_data_belongs_to_the_extension() {
    let found = texts(
        &mut client(),
        "SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
          WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
            AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'btc_ingest') ORDER BY 1",
    );
    must_be(&found, MEMBERS);
    let grants = texts(
        &mut client(),
        &format!(
            "SELECT pg_describe_object(classoid, objoid, objsubid) FROM pg_init_privs i
              WHERE i.objoid IN (SELECT oid FROM pg_class WHERE relnamespace IN (
                        SELECT oid FROM pg_namespace WHERE nspname IN {SCHEMAS}))
                 OR i.objoid IN (SELECT oid FROM pg_namespace WHERE nspname IN {SCHEMAS})"
        ),
    );
    assert_eq!(grants, [] as [String; 0], "a dump would leave these grants out");
}

#[test]
fn the_settings_have_these_defaults_and_contexts() {
    // Without the server's own settings.
    let cluster = btc_ingest_kit::Cluster::builder().start();
    let mut client = cluster.client("postgres");
    client.batch_execute("LOAD 'btc_ingest'").unwrap();
    let found = texts(
        &mut client,
        "SELECT concat_ws(' ', name, '=', coalesce(nullif(current_setting(name), ''), 'empty'), context)
           FROM pg_settings WHERE name LIKE 'btc\\_ingest.%' ORDER BY name COLLATE \"C\"",
    );
    must_be(
        &found,
        "btc_ingest.allowed_prefixes = empty superuser
         btc_ingest.aws_profile = empty superuser
         btc_ingest.chunk_time_interval = 7 days superuser
         btc_ingest.database = empty sighup
         btc_ingest.embed_on_load = off superuser
         btc_ingest.embedding_index_upkeep = off sighup
         btc_ingest.history_retention = 90d sighup
         btc_ingest.index_fill = runs user
         btc_ingest.log_loads = log superuser
         btc_ingest.max_attempts = 9 sighup
         btc_ingest.max_backfill_workers = 4 sighup
         btc_ingest.max_conflict_fraction = 0.1 user
         btc_ingest.max_kept_rejects = 1000 user
         btc_ingest.max_object_size = 16GB superuser
         btc_ingest.max_open_gaps = 100 user
         btc_ingest.max_time_ahead = 1d user
         btc_ingest.memory_limit = 64MB superuser
         btc_ingest.min_time = 2009-01-03 user
         btc_ingest.poll_interval = 10s sighup
         btc_ingest.queue_order = oldest sighup
         btc_ingest.retention_proof = on superuser
         btc_ingest.retry_backoff = 5s sighup
         btc_ingest.retry_backoff_max = 1h sighup
         btc_ingest.s3_ca_file = empty superuser
         btc_ingest.s3_connect_timeout = 3s superuser
         btc_ingest.s3_endpoint = empty superuser
         btc_ingest.s3_force_path_style = off superuser
         btc_ingest.s3_idle_timeout = 1min superuser
         btc_ingest.s3_max_attempts = 4 superuser
         btc_ingest.s3_min_speed = 8kB superuser
         btc_ingest.s3_read_timeout = 20s superuser
         btc_ingest.s3_region = empty superuser
         btc_ingest.time_skew_limit = 1s user
         btc_ingest.workers = 2 sighup",
    );
    let undescribed = "SELECT name FROM pg_settings WHERE name LIKE 'btc\\_ingest.%' AND coalesce(short_desc, '') = ''";
    assert_eq!(texts(&mut client, undescribed), [] as [String; 0]);
    let error = client.batch_execute("SET btc_ingest.alowed_prefixes = 'x'").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42602");
}

/// The compiler takes seconds for a statement over the catalogs, and answers no cancel.
#[test]
fn no_function_of_the_library_compiles_its_statements() {
    let compiling = texts(
        &mut client(),
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
          WHERE p.pronamespace IN ('btc_ingest'::regnamespace, 'btc_ingest_internal'::regnamespace)
            AND l.lanname = 'c' AND p.prosecdef AND NOT 'jit=off' = ANY (coalesce(p.proconfig, '{}')) ORDER BY 1",
    );
    assert_eq!(compiling, [""; 0]);
}

#[test]
fn an_embedding_of_the_documented_columns_can_be_inserted() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    client
        .batch_execute(
            "INSERT INTO signals.btc_embeddings (bucket, exchange, feature_vector, label_snapshot)
             VALUES (now(), 'binance', array_fill(0.5::real, ARRAY[256])::vector, '{}')",
        )
        .unwrap();
    assert_eq!(texts(&mut client, "SELECT asset FROM signals.btc_embeddings"), ["BTCUSDT"]);
}
