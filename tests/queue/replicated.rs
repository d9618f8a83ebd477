//! Registry rows that arrive by replication are noticed like those of a producer, when they are new and when they are
//! registered again.

use btc_ingest_kit::fixture::{self, ServerFixture, cluster_of};
use btc_ingest_kit::rows::{moved, must_hold, ticks_of};
use btc_ingest_kit::sql::{Session, execute, text, wait_until_true};
use btc_ingest_kit::{ParquetFile, Tick};
use postgres::Client;

use crate::queue_fixture::QueueFixture;

/// The versions of one object: the second adds ticks to the first.
fn versions() -> [Vec<Tick>; 2] {
    let all = ticks_of("BTCUSDT", 1, 40);
    [all[..20].to_vec(), all]
}

fn file(ticks: &[Tick]) -> bytes::Bytes {
    ParquetFile::new().bytes(ticks)
}

#[test]
fn a_row_that_is_registered_again_in_a_replicas_session_is_loaded_again() {
    let mut queue = QueueFixture::new();
    let [first, second] = versions();
    let uri = queue.put_bytes("a.parquet", file(&first));
    let mut replica = queue.session();
    let upsert = format!(
        "SET session_replication_role = replica;
         INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
         VALUES ('2024-08-08 12:00+00', 'BTCUSDT', '{uri}')
         ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri"
    );
    replica.batch_execute(&upsert).unwrap();
    queue.wait_status(&uri, "loaded");
    queue.put_bytes("a.parquet", file(&second));
    replica.batch_execute(&upsert).unwrap();
    queue.wait_for("the second load", "(SELECT count(*) = 2 FROM ingestion.load_history WHERE outcome = 'loaded')");
    must_hold(&mut queue.client, &second);

    // A publisher that loads the object itself records that. It says nothing about the ticks here.
    replica
        .batch_execute("UPDATE landing.raw_blobs_5m SET s3_uri = s3_uri, status = 'failed', queued_at = now()")
        .unwrap();
    assert_eq!(queue.state(&uri), "loaded loaded 1");
    assert_eq!(queue.number("SELECT count(*) FROM landing.raw_blobs_5m WHERE loaded_at IS NOT NULL"), 1);
}

#[test]
fn doctor_names_triggers_that_ignore_replicated_rows_and_migrate_enables_them() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    let check = "SELECT concat_ws(' ', ok, detail, hint) FROM btc_ingest.doctor() WHERE name = 'triggers'";
    assert!(queue.text(check).starts_with("t "));
    // As tables of an earlier version have them.
    queue.run("ALTER TABLE landing.raw_blobs_5m ENABLE TRIGGER registry_pending");
    let told = queue.text(check);
    assert!(told.starts_with("f ") && told.contains("ENABLE ALWAYS TRIGGER registry_pending;"), "{told}");
    queue.run("SELECT btc_ingest.migrate()");
    assert!(queue.text(check).starts_with("t "));
}

/// A cluster with a database in which producers register, and one that subscribes to it and loads.
struct Replicated {
    server: ServerFixture,
    publisher: Client,
    subscriber: Client,
}

impl Replicated {
    /// `columns` are the columns of the producers' table.
    fn new(columns: &str) -> Self {
        let s3 = fixture::server();
        let cluster = cluster_of(&s3.endpoint())
            .preload("btc_ingest")
            .setting("wal_level", "logical")
            .setting("btc_ingest.database", "loads")
            .setting("btc_ingest.poll_interval", "1h")
            .start();
        for database in ["produces", "loads"] {
            cluster.create_database(database);
        }
        cluster.install_extension("loads");
        let mut publisher = cluster.client("produces");
        execute(
            &mut publisher,
            &format!(
                "CREATE SCHEMA landing;
                 CREATE TABLE landing.raw_blobs_5m ({columns}, PRIMARY KEY (bucket_5m, asset));
                 CREATE PUBLICATION registry FOR TABLE landing.raw_blobs_5m"
            ),
        );
        execute(&mut publisher, "SELECT pg_create_logical_replication_slot('registry', 'pgoutput')");
        let mut subscriber = cluster.client("loads");
        // CREATE SUBSCRIPTION cannot make the slot in its own cluster: it would wait for itself.
        execute(
            &mut subscriber,
            &format!(
                "CREATE SUBSCRIPTION registry CONNECTION '{}' PUBLICATION registry
                 WITH (create_slot = false, slot_name = 'registry')",
                cluster.connection_string("produces")
            ),
        );
        Self { server: ServerFixture { cluster, s3 }, publisher, subscriber }
    }

    /// Registers an object in the producers' database.
    fn register(&mut self, uri: &str) {
        execute(
            &mut self.publisher,
            &format!(
                "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
                 VALUES ('2024-08-08 12:00+00', 'BTCUSDT', '{uri}')
                 ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri"
            ),
        );
    }

    /// Waits until so many loads have stored ticks.
    #[track_caller]
    fn wait_loads(&mut self, loads: usize) {
        let sql = format!("(SELECT count(*) = {loads} FROM ingestion.load_history WHERE outcome = 'loaded')");
        wait_until_true(&mut self.subscriber, "the load", &sql);
    }
}

/// The columns that a producer writes, and those with the state of loads as well.
const PRODUCED: &str = "bucket_5m timestamptz, asset text, s3_uri text NOT NULL";
const RECORDED: &str =
    "bucket_5m timestamptz, asset text, s3_uri text NOT NULL, status text NOT NULL DEFAULT 'pending',
                        loaded_at timestamptz, queued_at timestamptz";

#[test]
fn what_producers_register_and_register_again_arrives_by_logical_replication_and_is_loaded() {
    for columns in [PRODUCED, RECORDED] {
        let mut replicated = Replicated::new(columns);
        let [first, second] = versions();
        let uri = replicated.server.put("a.parquet", file(&first));
        replicated.register(&uri);
        replicated.wait_loads(1);
        replicated.server.put("a.parquet", file(&second));
        replicated.register(&uri);
        replicated.wait_loads(2);
        must_hold(&mut replicated.subscriber, &second);
    }
}

#[test]
fn a_replicated_row_beyond_the_limits_is_quarantined_and_does_not_stop_the_replication() {
    let mut replicated = Replicated::new(PRODUCED);
    replicated.register(&format!("s3://landing/{}", "k".repeat(1200)));
    let good: Vec<Tick> = ticks_of("BTCUSDT", 1, 20).iter().map(|tick| moved(tick, 1)).collect();
    let uri = replicated.server.put("b.parquet", file(&good));
    execute(
        &mut replicated.publisher,
        &format!("INSERT INTO landing.raw_blobs_5m VALUES ('2024-08-08 12:05+00', 'BTCUSDT', '{uri}')"),
    );
    replicated.wait_loads(1);
    let statuses = "SELECT string_agg(status, ' ' ORDER BY bucket_5m) FROM landing.raw_blobs_5m";
    assert_eq!(text(&mut replicated.subscriber, statuses), "quarantined loaded");
    must_hold(&mut replicated.subscriber, &good);
}
