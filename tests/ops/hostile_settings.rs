//! Settings of the database and the role change how values read as texts and what statements mean. They change nothing
//! that btc_ingest does.

use std::sync::OnceLock;

use btc_ingest_kit::cluster::hostile_settings;
use btc_ingest_kit::fixture::{BUCKET, SCHEMA_VERSION, cluster_of, loaded, server};
use btc_ingest_kit::rows::{START, but, moved, must_hold, ticks, ticks_of};
use btc_ingest_kit::sql::{execute, number, text, texts, wait_until_true};
use btc_ingest_kit::ticks::{BUCKET_US, slice_key, time_text, time_us};
use btc_ingest_kit::{Cluster, ParquetFile, S3Server, TestDb, Tick};
use postgres::Client;

/// The settings by which both databases are compared.
const AS_USUAL: &str = "SET datestyle = 'ISO'; SET timezone = 'UTC'; SET intervalstyle = 'postgres';
    SET extra_float_digits = 1; SET bytea_output = 'hex'; SET quote_all_identifiers = off; SET array_nulls = on";

/// What the tables hold, without what differs from run to run.
const TABLES: &str = "
    SELECT to_jsonb(t) - 'ingested_at' #>> '{}' FROM market_data.btc_ticks t
    UNION ALL SELECT (to_jsonb(o)
                      - '{registered_at, loaded_at, attempt_started_at, queued_at, load_order}'::text[])::text
        FROM ingestion.objects o
    UNION ALL SELECT (to_jsonb(s) - '{loaded_at, first_seen}'::text[])::text FROM ingestion.object_slices s
    UNION ALL SELECT (to_jsonb(b) - '{loaded_at, created_at, queued_at, registered_at}'::text[]
                      || jsonb_build_object('queued', queued_at IS NOT NULL))::text FROM landing.raw_blobs_5m b
    UNION ALL SELECT (to_jsonb(r) - '{id, rejected_at}'::text[])::text FROM landing.rejected_ticks r
    UNION ALL SELECT (to_jsonb(f) - '{updated_at, state}'::text[])::text FROM ingestion.stream_offsets f
    UNION ALL SELECT concat_ws(' ', h.s3_uri, h.outcome, h.rows_read, h.rows_inserted, h.rows_conflicting, h.sqlstate,
        h.message) FROM ingestion.load_history h
    UNION ALL SELECT concat_ws(' ', 'backfill', b.status, b.from_time, b.to_time, b.objects_total, b.objects_known,
        b.objects_done, b.bytes_total, b.rows_inserted) FROM btc_ingest.backfill_status() s
        JOIN ingestion.backfills b USING (id)
    ORDER BY 1";

/// What the views show, without what differs from run to run.
const VIEWS: &str = "
    SELECT concat_ws(' ', 'queue', uri, asset, bucket_5m, status, attempts) FROM btc_ingest.queue
    UNION ALL SELECT concat_ws(' ', 'lag', asset, newest_bucket, waiting, oldest_waiting_bucket) FROM btc_ingest.lag
    UNION ALL SELECT concat_ws(' ', 'failures', uri, status, message, asset, bucket_5m) FROM btc_ingest.failures
    UNION ALL SELECT concat_ws(' ', 'stats', loads, already_loaded, rows_read, errors) FROM btc_ingest.stats
    UNION ALL SELECT concat_ws(' ', 'watches', prefix, enabled, options, last_counts, last_listed_at > now() - interval
        '1 hour') FROM btc_ingest.watches
    UNION ALL SELECT concat_ws(' ', 'doctor', name, ok, CASE WHEN name IN ('times of ticks', 'chunk interval',
        'indexes') THEN concat_ws(': ', detail, hint) END) FROM btc_ingest.doctor()
    ORDER BY 1";

fn s3() -> &'static S3Server {
    static SHARED: OnceLock<S3Server> = OnceLock::new();
    SHARED.get_or_init(server)
}

fn put(key: &str, ticks: &[Tick]) -> String {
    s3().put(BUCKET, &format!("hostile/{key}"), ParquetFile::new().bytes(ticks))
}

/// Makes slices of the symbol's first buckets, with different ids.
fn slices(symbol: &str, count: i64) -> Vec<Vec<Tick>> {
    (0..count).map(|n| ticks_of(symbol, 1 + n * 100, 20).iter().map(|tick| moved(tick, n)).collect()).collect()
}

/// Stores slices under keys that tell their buckets, and returns their uris.
fn put_slices(folder: &str, symbol: &str, slices: &[Vec<Tick>]) -> Vec<String> {
    let bucket = |n: usize| time_us(START) + n as i64 * BUCKET_US;
    let key = |n: usize| slice_key(&format!("hostile/{folder}/Binance"), symbol, bucket(n));
    slices.iter().enumerate().map(|(n, ticks)| s3().put(BUCKET, &key(n), ParquetFile::new().bytes(ticks))).collect()
}

fn pattern(folder: &str) -> String {
    format!(
        "s3://{BUCKET}/hostile/{folder}/{{exchange}}/{{asset}}/{{yyyy}}/{{mm}}/{{dd}}/{{asset}}_{{yyyy}}{{mm}}{{dd}}T\
         {{hh}}{{mi}}Z.parquet"
    )
}

fn bucket(n: usize) -> String {
    time_text(time_us(START) + n as i64 * BUCKET_US, "%Y-%m-%dT%H:%M:%SZ")
}

fn register(client: &mut Client, symbol: &str, n: usize, uri: &str) {
    let sql = format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('{}', '{symbol}', '{uri}')",
        bucket(n)
    );
    execute(client, &sql);
}

/// The slices that all databases of this module load.
struct Slices {
    swept: (Vec<Vec<Tick>>, Vec<String>),
    discovered: (Vec<Vec<Tick>>, Vec<String>),
    backfilled: (Vec<Vec<Tick>>, Vec<String>),
}

impl Slices {
    fn shared() -> &'static Slices {
        static SHARED: OnceLock<Slices> = OnceLock::new();
        SHARED.get_or_init(|| {
            let of = |folder, symbol, count| {
                let slices = slices(symbol, count);
                let uris = put_slices(folder, symbol, &slices);
                (slices, uris)
            };
            Slices {
                swept: of("swept", "SWEPT", 6),
                discovered: of("discovered", "FOUND", 4),
                backfilled: of("backfilled", "FILLED", 12),
            }
        })
    }
}

/// Loads, sweeps, discovers and backfills. Returns what tables and views hold then.
fn everything(db: &TestDb<'_>) -> Vec<String> {
    let client = &mut db.client();
    let version = format!("schema version {SCHEMA_VERSION}; nothing was missing");
    assert_eq!(text(client, "SELECT btc_ingest.migrate()"), version);
    load_conflicts(client);
    sweep(client);
    discover(client);
    backfill(client, db);
    commands(client);
    execute(client, AS_USUAL);
    let (mut found, views) = (texts(client, TABLES), texts(client, VIEWS));
    found.extend(views);
    found
}

/// Loads objects whose ticks conflict, are misplaced, or are no ticks: the reasons that are stored name times.
fn load_conflicts(client: &mut Client) {
    let first = ticks(1, 30);
    let mut second: Vec<Tick> = first[..10].iter().map(|tick| but(tick, |tick| tick.price += 1)).collect();
    second.extend(first[20..25].iter().map(|tick| moved(tick, 1)));
    let uris = [put("first.parquet", &first), put("second.parquet", &second)];
    execute(client, "SET btc_ingest.max_conflict_fraction = 1");
    for uri in &uris {
        loaded(client, uri, "on_bad_row => 'reject'");
    }
    let sql = "SELECT concat_ws(' ', extract(epoch FROM time_from), extract(epoch FROM time_to), columns, problem)
                 FROM btc_ingest.inspect_s3($1)";
    let inspected: String = client.query_one(sql, &[&uris[0]]).unwrap().get(0);
    assert!(inspected.starts_with("1723118400.000001 1723118429.000001"), "{inspected}");
}

fn sweep(client: &mut Client) {
    let (slices, uris) = &Slices::shared().swept;
    for (n, uri) in uris.iter().enumerate().take(3) {
        register(client, "SWEPT", n, uri);
    }
    let sql = "SELECT extract(epoch FROM registered_bucket)::bigint FROM btc_ingest.register_s3_slice($1, 'SWEPT')";
    assert_eq!(client.query_one(sql, &[&uris[3]]).unwrap().get::<_, i64>(0), 1_723_118_400 + 3 * 300);
    assert_eq!(number(client, "SELECT count(*) FROM btc_ingest.sweep()"), 4);
    register(client, "SWEPT", 4, &uris[4]);
    execute(client, "CALL btc_ingest.run_sweep(config => '{\"max_runtime\": \"4 minutes\", \"order\": \"newest\"}')");
    // An object that is enqueued once is not enqueued again.
    assert_eq!(number(client, "SELECT count(*) FROM btc_ingest.sweep()"), 0);
    let sql = "SELECT count(*) FROM landing.raw_blobs_5m WHERE asset = 'SWEPT' AND queued_at IS NULL";
    assert_eq!(number(client, sql), 0);
    assert_eq!(number(client, "SELECT count(*) FROM market_data.btc_ticks WHERE symbol = 'SWEPT'"), 5 * 20);
    assert_eq!(slices[5].len(), 20);
}

fn discover(client: &mut Client) {
    let (_, uris) = &Slices::shared().discovered;
    let pattern = pattern("discovered");
    execute(client, &format!("SELECT btc_ingest.watch('{pattern}', '{{\"interval\": \"90 seconds\"}}')"));
    assert_eq!(number(client, "SELECT sum(registered_new)::bigint FROM btc_ingest.discover()"), uris.len() as i64);
    assert_eq!(number(client, "SELECT count(*) FROM btc_ingest.sweep()"), uris.len() as i64);
}

/// Backfills all slices but the first and the last one, by the times of their keys.
fn backfill(client: &mut Client, db: &TestDb<'_>) {
    let (_, uris) = &Slices::shared().backfilled;
    let (from, to) = (bucket(1), bucket(uris.len() - 1));
    let sql = format!(
        "CALL btc_ingest.backfill(ARRAY['{}'], \"from\" => '{from}', \"to\" => '{to}', parallel => 2);",
        pattern("backfilled")
    );
    db.psql(&sql).unwrap();
    let sql = "SELECT count(*) FROM market_data.btc_ticks WHERE symbol = 'FILLED'";
    assert_eq!(number(client, sql), 20 * (uris.len() as i64 - 2));
}

fn commands(client: &mut Client) {
    let (_, uris) = &Slices::shared().swept;
    execute(client, &format!("SELECT btc_ingest.register_s3_slice('{}', 'SWEPT')", uris[5]));
    let bucket = |n| format!("asset => 'SWEPT', bucket_5m => timestamptz '{}'", bucket(n));
    assert_eq!(number(client, &format!("SELECT count(*) FROM btc_ingest.reload_slice({})", bucket(2))), 1);
    assert_eq!(number(client, &format!("SELECT count(*) FROM btc_ingest.skip({})", bucket(5))), 1);
    assert_eq!(number(client, "SELECT count(*) FROM btc_ingest.requeue_failed(older_than => '1 hour')"), 0);
    register(client, "SWEPT", 6, &format!("s3://{BUCKET}/hostile/notes.txt"));
    execute(client, "SELECT btc_ingest.sweep()");
}

#[test]
fn settings_of_database_and_role_change_nothing_that_is_stored_or_shown() {
    let plain = cluster_of(&s3().endpoint()).start();
    let hostile = cluster_of(&s3().endpoint()).hostile_settings().start();
    let of = |cluster: &Cluster| everything(&TestDb::with_extension(cluster));
    let (wanted, found) = (of(&plain), of(&hostile));
    let missing: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).collect();
    let extra: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "only as usual {missing:#?}, only under them {extra:#?}");
    assert!(wanted.len() > 400, "{}", wanted.len());
}

#[test]
fn workers_load_discover_and_backfill_under_all_settings_of_the_database() {
    let cluster = cluster_of(&s3().endpoint())
        .preload("btc_ingest")
        .setting("btc_ingest.database", "postgres")
        .setting("btc_ingest.poll_interval", "1h")
        .hostile_settings()
        .start();
    cluster.install_extension("postgres");
    hostile_settings::against_workers(&mut cluster.client("postgres"), "postgres");
    cluster.restart();
    let mut client = hostile_settings::session_without_them(&cluster.connection_string("postgres"));
    let Slices { swept, discovered, backfilled } = Slices::shared();
    for (n, uri) in swept.1.iter().enumerate() {
        register(&mut client, "SWEPT", n, uri);
    }
    execute(&mut client, &format!("SELECT btc_ingest.watch('{}')", pattern("discovered")));
    let sql = format!("CALL btc_ingest.backfill(ARRAY['{}'], parallel => 2)", pattern("backfilled"));
    execute(&mut client, &sql);
    let all = swept.0.iter().chain(&discovered.0).chain(&backfilled.0).flatten().collect::<Vec<_>>();
    let count = format!("(SELECT count(*) FROM market_data.btc_ticks) >= {}", all.len());
    wait_until_true(&mut client, "all ticks", &count);
    must_hold(&mut client, all);
    let sql = "SELECT count(*) FROM ingestion.load_history WHERE outcome <> 'loaded'";
    assert_eq!(number(&mut client, sql), 0);
}

#[test]
fn triggers_fire_in_a_load_of_a_session_that_fires_none() {
    let cluster = cluster_of(&s3().endpoint()).start();
    let db = TestDb::with_extension(&cluster);
    let mut client = db.client();
    // A trigger that fires for a session, and not for a replica: TimescaleDB's own are of this kind.
    execute(
        &mut client,
        "CREATE TABLE fired (asset text);
         CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
             AS 'BEGIN INSERT INTO public.fired VALUES (NEW.asset); RETURN NEW; END';
         CREATE TRIGGER fired AFTER INSERT ON landing.raw_blobs_5m FOR EACH ROW EXECUTE FUNCTION fired();
         SET session_replication_role = replica",
    );
    loaded(&mut client, &Slices::shared().swept.1[0], "");
    assert_eq!(texts(&mut client, "SELECT asset FROM fired"), ["SWEPT"]);
    assert_eq!(text(&mut client, "SHOW session_replication_role"), "replica");
}
