//! doctor() about what loads by itself: workers and the room for them, their last error, a queue that stands still, a
//! pause, failures, a standby. Each is seen failing, and well again.

use btc_ingest_kit::command::run;
use btc_ingest_kit::fixture::{BUCKET, SCHEMA_VERSION, cluster_of, loaded, traces};
use btc_ingest_kit::rows::ticks;
use btc_ingest_kit::sql::{execute, text, wait_until_true};
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{Cluster, ClusterBuilder, Fault, FaultProxy, ParquetFile, S3Server, ServerFixture, When, fixture};
use postgres::Client;

use super::doctor_fixture::{SOON, check, doctor, failing};

/// The database of `btc_ingest.database`.
const DB: &str = "flow";

/// A server whose workers load what is registered, and an S3 of its own.
struct WorkersFixture {
    cluster: Cluster,
    s3: S3Server,
}

impl WorkersFixture {
    fn start(change: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> WorkersFixture {
        let s3 = fixture::server();
        let builder = cluster_of(&s3.endpoint())
            .preload("btc_ingest")
            .setting("btc_ingest.database", DB)
            .setting("btc_ingest.poll_interval", "100ms");
        let cluster = change(builder).start();
        cluster.create_database(DB);
        cluster.install_extension(DB);
        WorkersFixture { cluster, s3 }
    }

    fn client(&self) -> Client {
        self.cluster.client(DB)
    }

    /// Starts a server and waits for a loader.
    fn running(change: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> (WorkersFixture, Client) {
        let fixture = WorkersFixture::start(change);
        let mut client = fixture.client();
        wait_until("a loader", SOON, || check(&mut client, "workers").ok);
        (fixture, client)
    }

    fn put(&self, key: &str, first_id: i64) -> String {
        self.s3.put(BUCKET, key, ParquetFile::new().bytes(&ticks(first_id, 10)))
    }
}

/// Inserts a producer's row of this age.
fn register(client: &mut Client, uri: &str, age: &str) {
    let sql = format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, created_at)
         VALUES ('2024-08-08T12:00:00Z', (SELECT 'A' || count(*)
             FROM landing.raw_blobs_5m), '{uri}', now() - interval '{age}')"
    );
    execute(client, &sql);
}

/// Returns the pids of the loaders of the client's database.
fn loaders(client: &mut Client) -> Vec<i32> {
    let sql = "SELECT pid FROM btc_ingest.workers() WHERE role LIKE 'loader%'";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn signal(name: &str, pid: i32) {
    run(std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()])).unwrap();
}

// ── workers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn workers_that_run_are_counted_and_those_of_another_database_are_not() {
    let (fixture, mut client) = WorkersFixture::running(|builder| builder);
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), [""; 0], "{checks:#?}");
    assert_eq!(checks["workers"].detail, "scheduler running, 1 of 2 loaders");
    assert_eq!(checks["last error of a worker"].detail, "none since the server was started");
    let room = &checks["worker processes"].detail;
    assert!(room.contains("of max_worker_processes = 32 are always taken: 4 by btc_ingest"), "{room}");

    fixture.cluster.create_database("other");
    fixture.cluster.install_extension("other");
    let elsewhere = check(&mut fixture.cluster.client("other"), "workers");
    assert_eq!(elsewhere.detail, "none here: btc_ingest.database is \"flow\"");
    assert!(elsewhere.ok && elsewhere.hint.contains("add_job('btc_ingest.run_sweep'"), "{elsewhere:?}");

    // No worker is wanted: that is reported, and is no failure.
    execute(&mut client, "ALTER SYSTEM SET btc_ingest.workers = 0");
    execute(&mut client, "SELECT pg_reload_conf()");
    wait_until("the loaders' end", SOON, || loaders(&mut client).is_empty());
    // The session itself may read the setting later than they do.
    wait_until("the setting", SOON, || text(&mut client, "SHOW btc_ingest.workers") == "0");
    let none = check(&mut client, "workers");
    assert!(none.ok && none.detail.ends_with("btc_ingest.workers is 0"), "{none:?}");
    assert!(none.hint.contains("ALTER SYSTEM SET btc_ingest.workers = '2';"), "{none:?}");
}

#[test]
fn a_database_that_does_not_exist_is_found_and_the_hint_names_this_one() {
    let (fixture, mut client) = WorkersFixture::running(|builder| builder);
    execute(&mut client, "ALTER SYSTEM SET btc_ingest.database = 'nosuch'");
    execute(&mut client, "SELECT pg_reload_conf()");
    wait_until("the finding", SOON, || !check(&mut fixture.client(), "workers").ok);
    let found = check(&mut fixture.client(), "workers");
    assert_eq!(found.detail, "none: btc_ingest.database is \"nosuch\", and there is no such database");
    fixture.cluster.psql(DB, &found.hint).unwrap();
    wait_until("the workers", SOON, || check(&mut fixture.client(), "workers").detail.contains("scheduler running"));
}

#[test]
fn a_server_without_room_for_the_workers_says_how_many_processes_it_needs() {
    // The launchers of replication, TimescaleDB and btc_ingest take all slots: the scheduler gets none.
    let fixture = WorkersFixture::start(|builder| builder.setting("max_worker_processes", "3"));
    let mut client = fixture.client();
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["worker processes", "workers"], "{checks:#?}");
    assert!(checks["workers"].detail.starts_with("no scheduler, 0 of 2 loaders"), "{checks:#?}");
    let room = &checks["worker processes"];
    assert!(room.detail.starts_with("7 of max_worker_processes = 3 are always taken"), "{room:?}");
    let (fix, then) = room.hint.split_once(';').unwrap();
    assert_eq!(then, " -- Then restart the server.");
    execute(&mut client, fix);
    fixture.cluster.restart();
    let mut client = fixture.client();
    wait_until("a loader", SOON, || failing(&doctor(&mut client)).is_empty());
}

#[test]
fn the_last_error_of_a_worker_is_shown_until_loads_succeed_again() {
    let (fixture, mut client) = WorkersFixture::running(|builder| builder);
    // A scheduler reports an incompatible library once.
    execute(&mut client, &format!("UPDATE ingestion.schema_version SET version = {}", SCHEMA_VERSION + 1));
    wait_until("the error", SOON, || !check(&mut client, "last error of a worker").ok);
    let found = check(&mut client, "last error of a worker");
    assert!(
        found.detail.contains(&format!("schema version {}", SCHEMA_VERSION + 1)) && found.detail.ends_with("(TK011)"),
        "{found:?}"
    );
    assert!(found.hint.contains("btc_ingest.failures"), "{found:?}");
    execute(&mut client, &format!("UPDATE ingestion.schema_version SET version = {SCHEMA_VERSION}"));
    assert!(!check(&mut client, "last error of a worker").ok, "nothing was loaded since");

    register(&mut client, &fixture.put("a.parquet", 1), "0s");
    wait_until("the load", SOON, || check(&mut client, "last error of a worker").ok);
    let found = check(&mut client, "last error of a worker");
    assert!(found.detail.ends_with("(TK011); loads have succeeded since"), "{found:?}");
}

// ── the queue ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_queue_that_stands_still_although_workers_are_there_is_found() {
    let (fixture, mut client) = WorkersFixture::running(|builder| builder.setting("btc_ingest.workers", "1"));
    assert_eq!(check(&mut client, "queue").detail, "nothing waits");
    let pid = loaders(&mut client)[0];
    signal("STOP", pid);
    // A row that has just come is no reason to complain.
    let uri = fixture.put("a.parquet", 1);
    register(&mut client, &uri, "0s");
    assert!(check(&mut client, "queue").ok);
    execute(&mut client, "UPDATE landing.raw_blobs_5m SET registered_at = now() - interval '1 hour'");
    let stuck = check(&mut client, "queue");
    assert!(!stuck.ok && stuck.detail.starts_with("1 objects wait, for 36"), "{stuck:?}");
    assert!(
        stuck.detail.ends_with("nothing was ever tried") && stuck.hint.contains("btc_ingest.workers()"),
        "{stuck:?}"
    );
    // The hint names the worker that hangs.
    assert!(stuck.hint.contains("pg_terminate_backend"), "{stuck:?}");
    signal("CONT", pid);
    wait_until_true(&mut client, "the load", "SELECT count(*) = 1 FROM ingestion.objects WHERE status = 'loaded'");
    assert_eq!(check(&mut client, "queue").detail, "nothing waits");
}

#[test]
fn a_load_that_takes_its_time_is_no_standstill() {
    let (fixture, mut client) = WorkersFixture::running(|builder| builder);
    let proxy = FaultProxy::before(&fixture.s3);
    proxy.on(When::get().key("a.parquet"), Fault::StallAfter(100));
    execute(&mut client, &format!("ALTER SYSTEM SET btc_ingest.s3_endpoint = '{}'", proxy.endpoint()));
    execute(&mut client, "SELECT pg_reload_conf()");
    wait_until_true(
        &mut client,
        "the endpoint",
        &format!("SELECT current_setting('btc_ingest.s3_endpoint') = '{}'", proxy.endpoint()),
    );
    register(&mut client, &fixture.put("a.parquet", 1), "1 hour");
    proxy.wait_until_stalled(SOON);
    execute(&mut client, "UPDATE ingestion.objects SET queued_at = now() - interval '1 hour'");
    let found = check(&mut client, "queue");
    assert!(found.ok && found.detail.ends_with("being loaded"), "{found:?}");
    proxy.release();
    wait_until_true(&mut client, "the load", "SELECT count(*) = 1 FROM ingestion.objects WHERE status = 'loaded'");
}

#[test]
fn what_waits_without_a_worker_to_load_it_is_found_and_a_sweep_or_a_job_fixes_it() {
    let server = ServerFixture::shared();
    let db = server.db();
    let mut client = db.client();
    let workers = check(&mut client, "workers");
    assert!(workers.ok && workers.detail == "none: btc_ingest is not preloaded", "{workers:?}");
    let uri = server.put("unattended/a.parquet", ParquetFile::new().bytes(&ticks(1, 10)));
    register(&mut client, &uri, "0s");
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["queue"]);
    assert!(checks["queue"].detail.ends_with("and no worker or job is there to load them"), "{checks:?}");
    for way in ["btc_ingest.sweep()", "shared_preload_libraries", "add_job('btc_ingest.run_sweep', '5 minutes')"] {
        assert!(checks["queue"].hint.contains(way), "{way}: {checks:?}");
    }
    execute(&mut client, "SELECT btc_ingest.sweep()");
    assert_eq!(check(&mut client, "queue").detail, "nothing waits");

    // A client that swept within the hour may sweep again.
    let uri = server.put("unattended/b.parquet", ParquetFile::new().bytes(&ticks(11, 10)));
    register(&mut client, &uri, "10 minutes");
    assert!(check(&mut client, "queue").ok);
    execute(&mut client, "UPDATE ingestion.load_history SET finished_at = finished_at - interval '2 hours'");
    assert!(!check(&mut client, "queue").ok);

    let community: bool =
        client.query_one("SELECT current_setting('timescaledb.license') = 'timescale'", &[]).unwrap().get(0);
    if !community {
        println!("skipped: needs the Community edition");
        return;
    }
    // A job counts as a worker, until it has missed three of its runs.
    execute(
        &mut client,
        "SELECT add_job('btc_ingest.run_sweep', '5 minutes', initial_start => now() + interval '1 day')",
    );
    assert!(check(&mut client, "queue").ok);
    execute(
        &mut client,
        "UPDATE landing.raw_blobs_5m SET registered_at = now() - interval '16 minutes' WHERE status = 'pending'",
    );
    assert!(!check(&mut client, "queue").ok);
}

#[test]
fn a_pause_is_found_with_who_has_ordered_it() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    execute(&mut client, "SELECT btc_ingest.pause_ingest()");
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["queue"]);
    assert!(checks["queue"].detail.starts_with("paused by postgres since "), "{checks:?}");
    assert_eq!(checks["queue"].hint, "SELECT btc_ingest.resume_ingest();");
    super::doctor_fixture::follow(&mut client, &checks["queue"].hint);
    assert_eq!(failing(&doctor(&mut client)), [""; 0]);
}

#[test]
fn failures_are_counted_with_their_causes_until_they_are_decided() {
    let server = ServerFixture::shared();
    let db = server.db();
    let mut client = db.client();
    let (bad, gone) =
        (server.put("failures/bad.parquet", "no parquet at all"), format!("s3://{BUCKET}/failures/gone.parquet"));
    register(&mut client, &bad, "0s");
    register(&mut client, &gone, "0s");
    execute(&mut client, "SET client_min_messages = error; SELECT btc_ingest.sweep()");
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["quarantined"]);
    let seen: i64 = client.query_one("SELECT count(*) FROM btc_ingest.failures", &[]).unwrap().get(0);
    assert_eq!(seen, 2);

    // An object that will be tried again is no failure yet.
    execute(&mut client, "UPDATE ingestion.objects SET status = 'failed', next_attempt_at = now() + interval '1 hour'");
    let failures = check(&mut client, "failures");
    assert!(
        failures.ok && failures.detail.starts_with("2 objects have failed and will be tried again (PQ00"),
        "{failures:?}"
    );
    // It counts as waiting when its next attempt is due.
    execute(&mut client, "UPDATE ingestion.objects SET next_attempt_at = now() - interval '2 hours'");
    execute(&mut client, "UPDATE ingestion.load_history SET finished_at = now() - interval '2 hours'");
    assert!(!check(&mut client, "queue").ok);
    execute(&mut client, "SELECT btc_ingest.skip(older_than => '-1 hour')");
    assert_eq!(failing(&doctor(&mut client)), [""; 0]);
}

// ── a standby ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_standby_is_well_says_what_it_is_and_loads_when_it_is_promoted() {
    let (fixture, mut client) = WorkersFixture::running(|builder| builder);
    let uri = fixture.put("a.parquet", 1);
    assert_eq!(loaded(&mut client, &uri, "").inserted, 10);
    let standby = fixture.cluster.standby();
    let mut there = standby.client(DB);
    let checks = doctor(&mut there);
    assert_eq!(failing(&checks), [""; 0], "{checks:#?}");
    assert_eq!(checks["standby"].detail, "in recovery: nothing is loaded here");
    assert!(checks["standby"].hint.contains("primary"), "{checks:?}");
    assert_eq!(checks["workers"].detail, "none on a standby: they start when it is promoted");
    assert_eq!(checks["tables"].detail, format!("schema version {SCHEMA_VERSION}"));
    assert!(checks["S3 reachable"].ok && !checks.contains_key("queue"), "{checks:#?}");
    // The checks of the tables run there as well.
    execute(&mut client, "DROP INDEX market_data.btc_ticks_bucket_5m_idx");
    wait_until("the replay", SOON, || failing(&doctor(&mut there)) == ["indexes"]);

    fixture.cluster.stop();
    standby.promote();
    let mut there = standby.client(DB);
    wait_until("a loader", SOON, || check(&mut there, "workers").detail == "scheduler running, 1 of 2 loaders");
    assert_eq!(check(&mut there, "standby").detail, "no: this server takes writes");
    register(&mut there, &fixture.put("b.parquet", 11), "0s");
    wait_until_true(&mut there, "the load", "SELECT count(*) = 2 FROM ingestion.objects WHERE status = 'loaded'");
    assert!(traces(&mut there).contains(&("market_data.btc_ticks".to_owned(), 20)));
}
