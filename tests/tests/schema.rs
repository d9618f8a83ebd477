//! The SQL contract: what `CREATE EXTENSION btc_ingest CASCADE` makes, to the letter.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use btc_ingest_tests::{Stand, TestDb};
use postgres::Client;

/// Everything here only looks, so one database serves all tests.
fn client() -> Client {
    use std::sync::OnceLock;
    static DB: OnceLock<TestDb<'static>> = OnceLock::new();
    DB.get_or_init(|| Stand::shared().db()).client()
}

/// The first column of every row.
#[track_caller]
fn texts(client: &mut Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".to_owned())).collect()
}

/// Compares line by line, so that a failure shows the line.
#[track_caller]
fn must_be(found: &[String], wanted: &str) {
    let wanted: Vec<&str> = wanted.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for line in &wanted {
        assert!(found.iter().any(|found| found == line), "missing: {line}\nfound: {found:#?}");
    }
    for line in found {
        assert!(wanted.contains(&line.as_str()), "too many: {line}\nwanted: {wanted:#?}");
    }
    assert_eq!(found, wanted, "the order");
}

const SCHEMAS: &str = "('landing', 'market_data', 'signals', 'ingestion', 'ops')";

/// `name type [not null] [default …]` of every column of a table, in order.
#[track_caller]
fn columns(table: &str, wanted: &str) {
    let found = texts(
        &mut client(),
        &format!(
            "SELECT concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
                        CASE WHEN a.attcollation <> t.typcollation THEN (
                            SELECT 'collate ' || quote_ident(collname) FROM pg_collation WHERE oid = a.attcollation) END,
                        CASE WHEN a.attnotnull THEN 'not null' END,
                        CASE a.attidentity WHEN 'a' THEN 'always identity' END,
                        'default ' || pg_get_expr(d.adbin, d.adrelid))
               FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
               LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
              WHERE a.attrelid = '{table}'::regclass AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attnum"
        ),
    );
    must_be(&found, wanted);
}

#[test]
fn the_tables_are_these() {
    let found = texts(
        &mut client(),
        &format!(
            "SELECT format('%s.%s %s', n.nspname, c.relname, c.relkind)
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname IN {SCHEMAS} AND c.relkind NOT IN ('i', 'S') ORDER BY 1"
        ),
    );
    must_be(
        &found,
        "ingestion.backfill_chunks r
         ingestion.backfill_workers r
         ingestion.backfills r
         ingestion.control r
         ingestion.load_history r
         ingestion.object_slices r
         ingestion.objects r
         ingestion.schema_version r
         ingestion.stream_offsets r
         landing.raw_blobs_5m r
         landing.rejected_ticks r
         market_data.btc_ticks r
         ops.retention_jobs r
         signals.btc_embeddings r",
    );
}

#[test]
fn the_registry_has_the_documented_columns_and_three_of_ours() {
    columns(
        "landing.raw_blobs_5m",
        "bucket_5m timestamp with time zone not null
         asset text not null
         s3_uri text not null
         object_size_bytes bigint
         ingested_tick_span tsrange
         metadata jsonb
         created_at timestamp with time zone default now()
         status text not null default 'pending'::text
         loaded_at timestamp with time zone
         queued_at timestamp with time zone",
    );
}

#[test]
fn the_ticks_have_the_documented_columns() {
    columns(
        "market_data.btc_ticks",
        "bucket_5m timestamp with time zone not null
         event_time timestamp with time zone not null
         trade_time timestamp with time zone
         symbol text collate \"C\" not null
         trade_id bigint not null
         price numeric(18,8)
         quantity numeric(24,12)
         buyer_order_id text
         seller_order_id text
         is_market_maker boolean
         ingested_at timestamp with time zone default now()",
    );
}

#[test]
fn the_embeddings_have_the_documented_columns_and_one_of_ours() {
    columns(
        "signals.btc_embeddings",
        "bucket timestamp with time zone not null
         exchange text not null
         feature_vector vector(256)
         label_snapshot jsonb
         created_at timestamp with time zone default now()
         asset text not null default 'BTCUSDT'::text",
    );
}

#[test]
fn offsets_and_retention_jobs_have_the_documented_columns() {
    columns(
        "ingestion.stream_offsets",
        "source text not null
         last_sequence bigint
         last_ts timestamp with time zone
         state jsonb
         updated_at timestamp with time zone default now()",
    );
    columns(
        "ops.retention_jobs",
        "job_name text not null
         hypertable text not null
         policy jsonb not null
         enabled boolean default true
         created_at timestamp with time zone default now()",
    );
}

#[test]
fn our_own_tables_have_these_columns() {
    columns(
        "ingestion.objects",
        "s3_uri text not null
         etag text
         size_bytes bigint
         status text not null default 'pending'::text
         attempts integer not null default 0
         attempt_started_at timestamp with time zone
         next_attempt_at timestamp with time zone
         last_sqlstate text
         last_error text
         rows_read bigint
         rows_inserted bigint
         rows_duplicate bigint
         rows_conflicting bigint
         rows_replaced bigint
         rows_rejected bigint
         metadata jsonb not null default '{}'::jsonb
         options jsonb not null default '{}'::jsonb
         generation bigint not null default 0
         registered_at timestamp with time zone not null default now()
         loaded_at timestamp with time zone
         listed_etag text
         listed_size bigint
         backfill bigint
         span_from timestamp with time zone not null default '-infinity'::timestamp with time zone
         span_to timestamp with time zone not null default 'infinity'::timestamp with time zone
         rows_staged bigint not null default 0",
    );
    columns(
        "ingestion.object_slices",
        "s3_uri text not null
         etag text not null
         bucket_5m timestamp with time zone not null
         asset text not null
         ticks bigint not null
         first_trade_id bigint not null
         last_trade_id bigint not null
         first_event_time timestamp with time zone not null
         last_event_time timestamp with time zone not null
         loaded_at timestamp with time zone not null default now()",
    );
    columns(
        "ingestion.load_history",
        "id bigint not null always identity
         s3_uri text not null
         etag text
         outcome text not null
         bytes bigint
         rows_read bigint
         rows_inserted bigint
         rows_duplicate bigint
         rows_conflicting bigint
         rows_replaced bigint
         rows_rejected bigint
         fetch_ms double precision
         decode_ms double precision
         insert_ms double precision
         elapsed_ms double precision
         sqlstate text
         message text
         started_at timestamp with time zone not null
         finished_at timestamp with time zone
         pid integer not null default pg_backend_pid()",
    );
    columns(
        "landing.rejected_ticks",
        "id bigint not null always identity
         s3_uri text not null
         etag text not null
         row_number bigint not null
         reason text not null
         row_data jsonb not null
         rejected_at timestamp with time zone not null default now()",
    );
    columns(
        "ingestion.schema_version",
        "only_row boolean not null default true
         version integer not null
         migrated_at timestamp with time zone not null default now()",
    );
}

#[test]
fn keys_and_checks_are_these() {
    let found = texts(
        &mut client(),
        &format!(
            "SELECT format('%s %s', k.conrelid::regclass, pg_get_constraintdef(k.oid))
               FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname IN {SCHEMAS} ORDER BY 1"
        ),
    );
    must_be(
        &found,
        "ingestion.backfill_chunks CHECK ((status = ANY (ARRAY['pending'::text, 'attached'::text, 'slices'::text, 'done'::text])))
         ingestion.backfill_chunks PRIMARY KEY (backfill, chunk_from)
         ingestion.backfill_workers PRIMARY KEY (backfill, slot)
         ingestion.backfills PRIMARY KEY (id)
         ingestion.control CHECK (only_row)
         ingestion.control PRIMARY KEY (only_row)
         ingestion.load_history PRIMARY KEY (id)
         ingestion.object_slices PRIMARY KEY (s3_uri, etag, bucket_5m, asset)
         ingestion.objects CHECK ((status = ANY (ARRAY['pending'::text, 'loaded'::text, 'failed'::text, 'quarantined'::text, 'skipped'::text])))
         ingestion.objects PRIMARY KEY (s3_uri)
         ingestion.schema_version CHECK (only_row)
         ingestion.schema_version PRIMARY KEY (only_row)
         ingestion.stream_offsets PRIMARY KEY (source)
         landing.raw_blobs_5m CHECK ((status = ANY (ARRAY['pending'::text, 'loaded'::text, 'failed'::text, 'quarantined'::text, 'skipped'::text])))
         landing.raw_blobs_5m PRIMARY KEY (bucket_5m, asset)
         landing.rejected_ticks PRIMARY KEY (id)
         market_data.btc_ticks PRIMARY KEY (bucket_5m, symbol, trade_id)
         ops.retention_jobs PRIMARY KEY (job_name)
         signals.btc_embeddings PRIMARY KEY (bucket, exchange, asset)",
    );
}

#[test]
fn indexes_are_these() {
    let found = texts(
        &mut client(),
        &format!(
            "SELECT concat_ws(' ', x.indrelid::regclass, CASE WHEN x.indisunique THEN 'unique' END,
                              substring(regexp_replace(pg_get_indexdef(x.indexrelid), '\\s+', ' ', 'g') FROM 'USING .*'))
               FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname IN {SCHEMAS} AND NOT x.indisprimary AND x.indisvalid ORDER BY 1"
        ),
    );
    must_be(
        &found,
        "ingestion.load_history USING btree (s3_uri, started_at)
         ingestion.load_history USING btree (started_at)
         ingestion.object_slices USING btree (asset, bucket_5m)
         ingestion.objects USING btree (( CASE WHEN isfinite(span_from) THEN span_from ELSE registered_at END), s3_uri) WHERE ((status = 'pending'::text) AND (backfill IS NULL))
         ingestion.objects USING btree (backfill, next_attempt_at) WHERE (status = ANY (ARRAY['failed'::text, 'quarantined'::text]))
         ingestion.objects USING btree (backfill, span_from, s3_uri) WHERE ((status = 'pending'::text) AND (backfill IS NOT NULL))
         ingestion.objects USING btree (status, next_attempt_at, registered_at)
         landing.raw_blobs_5m USING btree (bucket_5m, asset) WHERE ((status = 'pending'::text) AND (queued_at IS NULL))
         landing.raw_blobs_5m USING btree (s3_uri)
         landing.raw_blobs_5m unique USING btree (asset, bucket_5m)
         landing.rejected_ticks USING btree (s3_uri, etag)
         market_data.btc_ticks USING btree (bucket_5m)
         market_data.btc_ticks USING btree (symbol, event_time DESC)
         signals.btc_embeddings USING ivfflat (feature_vector) WITH (lists='200')",
    );
}

#[test]
fn the_ticks_are_a_hypertable_of_seven_day_chunks() {
    let found = texts(
        &mut client(),
        "SELECT format('%s %s %s of %s', hypertable_name, column_name, time_interval, num_dimensions)
           FROM timescaledb_information.dimensions JOIN timescaledb_information.hypertables
                USING (hypertable_schema, hypertable_name)
          WHERE hypertable_schema = 'market_data'",
    );
    must_be(&found, "btc_ticks bucket_5m 7 days of 1");
}

#[test]
fn the_chunk_interval_of_the_setting_is_honoured_at_install() {
    let db = TestDb::new(&Stand::shared().cluster);
    let mut client = db.client();
    client
        .batch_execute(
            "SET client_min_messages = warning; SET btc_ingest.chunk_time_interval = '1 day'; CREATE EXTENSION btc_ingest CASCADE",
        )
        .unwrap();
    let interval = "SELECT time_interval::text FROM timescaledb_information.dimensions";
    assert_eq!(texts(&mut client, interval), ["1 day"]);
    // Later it is TimescaleDB's own function that changes it, and migrate() leaves it alone.
    client.batch_execute("SELECT set_chunk_time_interval('market_data.btc_ticks', interval '2 days')").unwrap();
    client.batch_execute("SELECT btc_ingest.migrate()").unwrap();
    assert_eq!(texts(&mut client, interval), ["2 days"]);
}

#[test]
fn the_functions_have_these_arguments_and_results() {
    let found = texts(
        &mut client(),
        "SELECT format('%s(%s) -> %s', p.proname, pg_get_function_arguments(p.oid), coalesce(pg_get_function_result(p.oid), 'procedure'))
           FROM pg_proc p WHERE p.pronamespace = 'btc_ingest'::regnamespace
            AND p.proname IN ('load_s3_slice', 'inspect_s3', 'register_s3_slice', 'doctor', 'migrate', 'sweep', 'run_sweep',
                              'retry', 'skip', 'requeue_failed', 'reload_slice', 'stats_since', 'watch', 'unwatch', 'discover') ORDER BY 1",
    );
    must_be(
        &found,
        "discover(prefix text DEFAULT NULL::text) -> TABLE(watched_prefix text, listed bigint, registered_new bigint, changed bigint, known bigint, passed_over bigint, skipped bigint, seconds double precision, problem text)
         doctor() -> TABLE(\"check\" text, ok boolean, detail text, hint text)
         inspect_s3(uri text, options jsonb DEFAULT '{}'::jsonb) -> TABLE(etag text, size_bytes bigint, row_count bigint, row_groups integer, writer text, schema_fingerprint text, time_from timestamp with time zone, time_to timestamp with time zone, codecs text[], columns jsonb, problem text)
         load_s3_slice(uri text, on_bad_row text DEFAULT 'abort'::text, force boolean DEFAULT false, options jsonb DEFAULT '{}'::jsonb) -> btc_ingest.load_report
         migrate() -> text
         register_s3_slice(uri text, asset text, bucket_5m timestamp with time zone DEFAULT NULL::timestamp with time zone, metadata jsonb DEFAULT '{}'::jsonb) -> TABLE(registered_bucket timestamp with time zone, registered_asset text, object_status text, note text)
         reload_slice(asset text, bucket_5m timestamp with time zone) -> SETOF btc_ingest.load_report
         requeue_failed(older_than interval DEFAULT NULL::interval) -> TABLE(object text, was text, became text)
         retry(uri text DEFAULT NULL::text, asset text DEFAULT NULL::text, bucket_5m timestamp with time zone DEFAULT NULL::timestamp with time zone, older_than interval DEFAULT NULL::interval) -> TABLE(object text, was text, became text)
         run_sweep(IN job_id integer DEFAULT NULL::integer, IN config jsonb DEFAULT '{}'::jsonb) -> procedure
         skip(uri text DEFAULT NULL::text, reason text DEFAULT NULL::text, asset text DEFAULT NULL::text, bucket_5m timestamp with time zone DEFAULT NULL::timestamp with time zone, older_than interval DEFAULT NULL::interval) -> TABLE(object text, was text, became text)
         stats_since(since interval DEFAULT '24:00:00'::interval) -> TABLE(loads bigint, already_loaded bigint, failures bigint, quarantined bigint, retries bigint, rows_read numeric, rows_inserted numeric, bytes numeric, fetch_seconds double precision, decode_seconds double precision, insert_seconds double precision, median_ms double precision, p95_ms double precision, p99_ms double precision, longest_ms double precision, errors jsonb)
         sweep(max_slices integer DEFAULT NULL::integer) -> SETOF btc_ingest.load_report
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
        "btc_ingest.failures: uri, status, attempts, sqlstate, message, last_attempt_at, next_attempt_at, asset, bucket_5m, backfill
         btc_ingest.lag: asset, newest_bucket, lag, waiting, oldest_waiting_bucket, oldest_waiting
         btc_ingest.progress: pid, uri, phase, started_at, size_bytes, rows_total, rows_done, worker, running
         btc_ingest.queue: uri, asset, bucket_5m, status, attempts, next_attempt_at, registered_at, waiting, last_sqlstate, last_error, backfill
         btc_ingest.stats: loads, already_loaded, failures, quarantined, retries, rows_read, rows_inserted, bytes, fetch_seconds, decode_seconds, insert_seconds, median_ms, p95_ms, p99_ms, longest_ms, errors
         btc_ingest.watches: prefix, enabled, options, last_listed_at, last_full_at, last_counts, groups, sqlstate, message",
    );
    let found = texts(
        &mut client(),
        "SELECT DISTINCT format('%s %s', CASE g.grantee WHEN 0 THEN 'public' ELSE g.grantee::regrole::text END, g.privilege_type)
           FROM pg_class c LEFT JOIN LATERAL aclexplode(c.relacl) g ON g.grantee <> c.relowner
          WHERE c.relnamespace = 'btc_ingest'::regnamespace AND c.relkind = 'v'",
    );
    must_be(&found, "btc_ingest_reader SELECT");
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
        "CREATE TRIGGER registry_pending BEFORE INSERT OR UPDATE OF s3_uri ON landing.raw_blobs_5m FOR EACH ROW EXECUTE FUNCTION btc_ingest.registry_pending(), depends on btc_ingest
         CREATE TRIGGER registry_wake AFTER INSERT OR UPDATE OF s3_uri ON landing.raw_blobs_5m FOR EACH ROW WHEN ((new.status = 'pending'::text)) EXECUTE FUNCTION btc_ingest.registry_wake(), depends on btc_ingest",
    );
}

#[test]
fn every_function_that_runs_as_its_owner_has_a_search_path_of_its_own() {
    let found = texts(
        &mut client(),
        "SELECT p.oid::regprocedure::text FROM pg_proc p
          WHERE p.pronamespace = 'btc_ingest'::regnamespace AND p.prosecdef
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
              WHERE (nspname IN {SCHEMAS} OR nspname = 'btc_ingest') AND obj_description(n.oid, 'pg_namespace') IS NULL
              UNION ALL
             SELECT 'table ' || c.oid::regclass FROM pg_class c
              WHERE c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN {SCHEMAS} OR nspname = 'btc_ingest')
                AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL
              UNION ALL
             SELECT 'column ' || a.attrelid::regclass || '.' || a.attname FROM pg_attribute a
              WHERE a.attrelid IN ('landing.raw_blobs_5m'::regclass, 'market_data.btc_ticks'::regclass,
                                   'signals.btc_embeddings'::regclass, 'ingestion.stream_offsets'::regclass,
                                   'ops.retention_jobs'::regclass)
                AND a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL
              UNION ALL
             SELECT 'function ' || p.oid::regprocedure FROM pg_proc p
              WHERE p.pronamespace = 'btc_ingest'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
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
fn the_comment_of_the_maker_flag_says_whose_it_is() {
    let found = texts(
        &mut client(),
        "SELECT col_description(attrelid, attnum) FROM pg_attribute
          WHERE attrelid = 'market_data.btc_ticks'::regclass AND attname = 'is_market_maker'",
    );
    assert!(found[0].contains("BUYER was the maker") && found[0].contains("NOT is_market_maker"), "{found:?}");
}

#[test]
fn the_roles_cannot_log_in_and_include_each_other() {
    let mut client = client();
    let found = texts(
        &mut client,
        "SELECT concat_ws(' ', rolname, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolinherit, rolbypassrls)
           FROM pg_roles WHERE rolname LIKE 'btc_ingest%' ORDER BY 1",
    );
    must_be(
        &found,
        "btc_ingest_admin f f f f t f
         btc_ingest_loader f f f f t f
         btc_ingest_reader f f f f t f",
    );
    let found = texts(
        &mut client,
        "SELECT format('%s in %s%s', member::regrole, roleid::regrole, CASE WHEN admin_option THEN ' with admin' END)
           FROM pg_auth_members WHERE member::regrole::text LIKE 'btc_ingest%' ORDER BY 1",
    );
    must_be(
        &found,
        "btc_ingest_admin in btc_ingest_loader
         btc_ingest_loader in btc_ingest_reader",
    );
}

#[test]
fn tables_and_schemas_are_granted_thus_and_to_nobody_else() {
    let mut client = client();
    let found = texts(
        &mut client,
        &format!(
            "SELECT format('%s: %s %s', n.nspname, CASE g.grantee WHEN 0 THEN 'public' ELSE g.grantee::regrole::text END,
                           string_agg(g.privilege_type, ',' ORDER BY g.privilege_type))
               FROM pg_namespace n, aclexplode(n.nspacl) g
              WHERE (n.nspname IN {SCHEMAS} OR n.nspname = 'btc_ingest') AND g.grantee <> n.nspowner
              GROUP BY n.nspname, g.grantee ORDER BY 1"
        ),
    );
    must_be(
        &found,
        "btc_ingest: btc_ingest_reader USAGE
         ingestion: btc_ingest_reader USAGE
         landing: btc_ingest_reader USAGE
         market_data: btc_ingest_reader USAGE
         ops: btc_ingest_reader USAGE
         signals: btc_ingest_reader USAGE",
    );
    let found = texts(
        &mut client,
        &format!(
            "SELECT format('%s: %s %s', c.oid::regclass, CASE g.grantee WHEN 0 THEN 'public' ELSE g.grantee::regrole::text END,
                           string_agg(g.privilege_type, ',' ORDER BY g.privilege_type))
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) g
              WHERE n.nspname IN {SCHEMAS} AND g.grantee <> c.relowner
              GROUP BY c.oid, g.grantee ORDER BY 1"
        ),
    );
    must_be(
        &found,
        "ingestion.backfill_chunks: btc_ingest_reader SELECT
         ingestion.backfill_workers: btc_ingest_reader SELECT
         ingestion.backfills: btc_ingest_reader SELECT
         ingestion.control: btc_ingest_reader SELECT
         ingestion.load_history: btc_ingest_reader SELECT
         ingestion.object_slices: btc_ingest_reader SELECT
         ingestion.objects: btc_ingest_reader SELECT
         ingestion.schema_version: btc_ingest_reader SELECT
         ingestion.stream_offsets: btc_ingest_reader SELECT
         landing.raw_blobs_5m: btc_ingest_loader INSERT,UPDATE
         landing.raw_blobs_5m: btc_ingest_reader SELECT
         landing.rejected_ticks: btc_ingest_reader SELECT
         market_data.btc_ticks: btc_ingest_reader SELECT
         ops.retention_jobs: btc_ingest_admin DELETE,INSERT,UPDATE
         ops.retention_jobs: btc_ingest_reader SELECT
         signals.btc_embeddings: btc_ingest_loader INSERT,UPDATE
         signals.btc_embeddings: btc_ingest_reader SELECT",
    );
}

#[test]
fn functions_are_granted_thus_and_never_to_public() {
    let found = texts(
        &mut client(),
        "SELECT format('%s: %s', p.proname, coalesce(string_agg(CASE g.grantee WHEN 0 THEN 'public' ELSE g.grantee::regrole::text END,
                       ',' ORDER BY g.grantee::regrole::text) FILTER (WHERE g.grantee <> p.proowner), 'nobody'))
           FROM pg_proc p
           LEFT JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g ON true
          WHERE p.pronamespace = 'btc_ingest'::regnamespace
          GROUP BY p.oid ORDER BY 1",
    );
    must_be(
        &found,
        "adopt_shapes: nobody
         attach_chunk: nobody
         backfill: btc_ingest_loader
         backfill_failures: btc_ingest_loader
         backfill_status: btc_ingest_reader
         cancel_backfill: btc_ingest_admin
         compress_finished: nobody
         compression_jobs: nobody
         discover: btc_ingest_loader
         doctor: btc_ingest_loader
         grant_and_comment: nobody
         index_chunk: nobody
         inspect_s3: btc_ingest_loader
         lag_by_asset: btc_ingest_reader
         load_s3_slice: btc_ingest_loader
         loads_in_work: btc_ingest_reader
         migrate: btc_ingest_admin
         missing_indexes: nobody
         objects_failed: btc_ingest_reader
         objects_waiting: btc_ingest_reader
         pause_compression: nobody
         pause_ingest: btc_ingest_admin
         register_s3_slice: btc_ingest_loader
         registry_pending: nobody
         registry_wake: nobody
         reload_slice: btc_ingest_admin
         requeue_failed: btc_ingest_loader
         resume_compression: nobody
         resume_ingest: btc_ingest_admin
         retry: btc_ingest_loader
         run_sweep: btc_ingest_loader
         skip: btc_ingest_admin
         stage_chunk: nobody
         start_backfill: btc_ingest_loader
         start_backfill_workers: btc_ingest_loader
         stats_since: btc_ingest_reader
         survey_backfill: btc_ingest_loader
         sweep: btc_ingest_loader
         sweep_step: btc_ingest_loader
         unwatch: btc_ingest_admin
         wake_workers: btc_ingest_loader
         watch: btc_ingest_admin
         watched: btc_ingest_reader
         workers: btc_ingest_reader",
    );
}

#[test]
fn a_reader_reads_a_loader_registers_an_admin_sets_policies_and_nobody_else_sees_anything() {
    let db = Stand::shared().db();
    let mut client = db.client();
    let role = |name: &str| format!("{name}_{}", db.name());
    for name in ["reader", "loader", "admin"] {
        let login = role(name);
        client.batch_execute(&format!("CREATE ROLE {login} LOGIN; GRANT btc_ingest_{name} TO {login}")).unwrap();
    }
    client.batch_execute(&format!("CREATE ROLE {} LOGIN", role("stranger"))).unwrap();
    let read = "SELECT count(*) FROM market_data.btc_ticks";
    let register = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2024-08-08T12:00:00Z', 'A', 's3://landing/a')";
    let policy =
        "INSERT INTO ops.retention_jobs (job_name, hypertable, policy) VALUES ('a', 'market_data.btc_ticks', '{}')";
    let write = "DELETE FROM market_data.btc_ticks";
    let migrate = "SELECT btc_ingest.migrate()";
    let call = "SELECT btc_ingest.load_s3_slice('')";
    let doctor = "SELECT count(*) FROM btc_ingest.doctor()";
    for (name, allowed) in [
        ("stranger", &[][..]),
        ("reader", &[read][..]),
        ("loader", &[read, register, call, doctor][..]),
        ("admin", &[read, register, policy, call, doctor, migrate][..]),
    ] {
        let mut user = db.client_as(&role(name));
        for sql in [read, register, policy, write, migrate, call, doctor] {
            user.batch_execute("BEGIN").unwrap();
            let code = user.batch_execute(sql).err().map(|error| error.code().unwrap().code().to_owned());
            user.batch_execute("ROLLBACK").unwrap();
            // The empty uri is refused for what it is, not for who asks.
            let denied = code.as_deref() == Some("42501");
            assert_eq!(denied, !allowed.contains(&sql), "{name}: {sql}: {code:?}");
        }
    }
    drop(client);
    let cluster = db.cluster();
    let names = ["reader", "loader", "admin", "stranger"].map(role).join(", ");
    drop(db);
    cluster.client("postgres").batch_execute(&format!("DROP ROLE {names}")).unwrap();
}

#[test]
fn no_table_and_no_schema_of_data_belongs_to_the_extension() {
    let found = texts(
        &mut client(),
        "SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
          WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
            AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'btc_ingest') ORDER BY 1",
    );
    must_be(
        &found,
        "function btc_ingest.adopt_shapes(text)
         function btc_ingest.attach_chunk(regclass,timestamp with time zone,timestamp with time zone)
         function btc_ingest.backfill(text[],timestamp with time zone,timestamp with time zone,integer,text,boolean)
         function btc_ingest.backfill_failures(bigint,integer)
         function btc_ingest.backfill_status(bigint)
         function btc_ingest.cancel_backfill(bigint)
         function btc_ingest.compress_finished(jsonb)
         function btc_ingest.compression_jobs()
         function btc_ingest.discover(text)
         function btc_ingest.doctor()
         function btc_ingest.grant_and_comment()
         function btc_ingest.index_chunk(regclass,boolean)
         function btc_ingest.inspect_s3(text,jsonb)
         function btc_ingest.lag_by_asset()
         function btc_ingest.load_s3_slice(text,text,boolean,jsonb)
         function btc_ingest.loads_in_work()
         function btc_ingest.migrate()
         function btc_ingest.missing_indexes()
         function btc_ingest.objects_failed()
         function btc_ingest.objects_waiting()
         function btc_ingest.pause_compression()
         function btc_ingest.pause_ingest()
         function btc_ingest.register_s3_slice(text,text,timestamp with time zone,jsonb)
         function btc_ingest.registry_pending()
         function btc_ingest.registry_wake()
         function btc_ingest.reload_slice(text,timestamp with time zone)
         function btc_ingest.requeue_failed(interval)
         function btc_ingest.resume_compression(jsonb)
         function btc_ingest.resume_ingest()
         function btc_ingest.retry(text,text,timestamp with time zone,interval)
         function btc_ingest.run_sweep(integer,jsonb)
         function btc_ingest.skip(text,text,text,timestamp with time zone,interval)
         function btc_ingest.stage_chunk(timestamp with time zone,timestamp with time zone)
         function btc_ingest.start_backfill(text[],timestamp with time zone,timestamp with time zone,integer,text)
         function btc_ingest.start_backfill_workers(bigint)
         function btc_ingest.stats_since(interval)
         function btc_ingest.survey_backfill(text[],timestamp with time zone,timestamp with time zone,integer,text)
         function btc_ingest.sweep(integer)
         function btc_ingest.sweep_step(text[],boolean,boolean)
         function btc_ingest.unwatch(text)
         function btc_ingest.wake_workers()
         function btc_ingest.watch(text,jsonb)
         function btc_ingest.watched()
         function btc_ingest.workers()
         schema btc_ingest
         type btc_ingest.load_report
         view btc_ingest.failures
         view btc_ingest.lag
         view btc_ingest.progress
         view btc_ingest.queue
         view btc_ingest.stats
         view btc_ingest.watches",
    );
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
fn a_producer_who_writes_the_documented_columns_gets_a_pending_row() {
    let db = Stand::shared().db();
    let mut client = db.client();
    let row = "SELECT concat_ws(' ', status, s3_uri, loaded_at IS NULL, object_size_bytes) FROM landing.raw_blobs_5m";
    let upsert = |uri: &str, size: &str| {
        format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes)
             VALUES ('2024-08-08T12:00:00Z', 'A', '{uri}', {size}) ON CONFLICT (bucket_5m, asset)
             DO UPDATE SET s3_uri = excluded.s3_uri, object_size_bytes = excluded.object_size_bytes"
        )
    };
    client.batch_execute(&upsert("one", "7")).unwrap();
    assert_eq!(texts(&mut client, row), ["pending one t 7"]);
    client.batch_execute("UPDATE landing.raw_blobs_5m SET status = 'loaded', loaded_at = now()").unwrap();
    assert_eq!(texts(&mut client, row), ["loaded one f 7"], "our own statements never set s3_uri");
    client.batch_execute("UPDATE landing.raw_blobs_5m SET s3_uri = 'two'").unwrap();
    assert_eq!(texts(&mut client, row), ["pending two t"], "the size was that of the object before");
    client.batch_execute("UPDATE landing.raw_blobs_5m SET status = 'loaded', loaded_at = now()").unwrap();
    client.batch_execute(&upsert("two", "9")).unwrap();
    assert_eq!(texts(&mut client, row), ["pending two t 9"]);
    let error = client.batch_execute("UPDATE landing.raw_blobs_5m SET status = 'done'").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "23514");
}

#[test]
fn an_embedding_of_the_documented_columns_can_be_inserted() {
    let db = Stand::shared().db();
    let mut client = db.client();
    client
        .batch_execute(
            "INSERT INTO signals.btc_embeddings (bucket, exchange, feature_vector, label_snapshot)
             VALUES (now(), 'binance', array_fill(0.5::real, ARRAY[256])::vector, '{}')",
        )
        .unwrap();
    assert_eq!(texts(&mut client, "SELECT asset FROM signals.btc_embeddings"), ["BTCUSDT"]);
}

#[test]
fn the_settings_have_these_defaults_and_contexts() {
    // Without the stand's own settings.
    let cluster = btc_ingest_tests::Cluster::builder().start();
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
         btc_ingest.history_retention = 90d sighup
         btc_ingest.log_loads = log superuser
         btc_ingest.max_attempts = 9 sighup
         btc_ingest.max_conflict_fraction = 0.1 user
         btc_ingest.max_kept_rejects = 1000 user
         btc_ingest.max_object_size = 16GB superuser
         btc_ingest.memory_limit = 64MB superuser
         btc_ingest.poll_interval = 10s sighup
         btc_ingest.queue_order = oldest sighup
         btc_ingest.retry_backoff = 5s sighup
         btc_ingest.retry_backoff_max = 1h sighup
         btc_ingest.s3_ca_file = empty superuser
         btc_ingest.s3_connect_timeout = 3s superuser
         btc_ingest.s3_endpoint = empty superuser
         btc_ingest.s3_force_path_style = off superuser
         btc_ingest.s3_max_attempts = 4 superuser
         btc_ingest.s3_read_timeout = 20s superuser
         btc_ingest.s3_region = empty superuser
         btc_ingest.workers = 2 sighup",
    );
    let undescribed = "SELECT name FROM pg_settings WHERE name LIKE 'btc\\_ingest.%' AND coalesce(short_desc, '') = ''";
    assert_eq!(texts(&mut client, undescribed), [] as [String; 0]);
    let error = client.batch_execute("SET btc_ingest.alowed_prefixes = 'x'").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42602");
}
