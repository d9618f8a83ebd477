//! doctor() as an alarm calls it: by a role that may do little, again and again, while S3 and other sessions hang.

use std::time::{Duration, Instant};

use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::rows::ticks;
use btc_ingest_kit::sql::{execute, text, wait_until_true};
use btc_ingest_kit::wait::{wait_for, wait_until};
use btc_ingest_kit::{Cluster, ParquetFile, ServerFixture, SilentEndpoint, TestDb};
use postgres::Client;

use super::doctor_fixture::{Check, SOON, failing, lines};
use super::{doctor, session};

/// How long an alarm waits for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

fn named(client: &mut Client, name: &str) -> Vec<Check> {
    lines(client, "").into_iter().filter(|(other, _)| other == name).map(|(_, check)| check).collect()
}

#[test]
fn it_answers_within_five_seconds_also_if_s3_is_silent() {
    let server = ServerFixture::shared();
    let db = server.db();
    let silence = SilentEndpoint::new();
    let allowed = "s3://landing, s3://second, s3://third, s3://fourth, s3://fifth, s3://sixth";
    let mut client = session(&db, &silence.endpoint(), &[("btc_ingest.allowed_prefixes", allowed)]);
    let began = Instant::now();
    let found = named(&mut client, "S3 reachable");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(found.len(), 6, "{found:?}");
    for check in found {
        assert!(!check.ok && check.detail.contains("did not answer within 4000 ms"), "{check:?}");
    }
}

#[test]
fn it_answers_within_five_seconds_also_if_a_session_holds_a_table() {
    let server = ServerFixture::shared();
    let db = server.db();
    let mut holder = db.client();
    execute(&mut holder, "BEGIN; LOCK TABLE ingestion.objects");
    let mut client = db.client();
    let began = Instant::now();
    let checks = doctor(&mut client);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert!(!checks["tables"].ok && checks["tables"].detail.contains("lock timeout"), "{checks:?}");
    execute(&mut holder, "ROLLBACK");
    assert_eq!(failing(&doctor(&mut client)), [""; 0]);
    assert_eq!(text(&mut client, "SHOW lock_timeout"), "0", "the caller's setting stays");
}

#[test]
fn a_read_only_transaction_is_no_finding() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    execute(&mut client, "BEGIN READ ONLY");
    assert_eq!(failing(&doctor(&mut client)), [""; 0]);
}

#[test]
fn every_watch_that_fails_has_a_line_of_its_own() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    execute(
        &mut client,
        "SELECT btc_ingest.watch('s3://landing/' || n || '/') FROM unnest('{a,b,c,d}'::text[]) AS n;
         SELECT btc_ingest.watch('s3://landing/d/', '{\"enabled\": false}');
         UPDATE ingestion.stream_offsets SET state = state || jsonb_build_object('last', jsonb_build_object(
                    'problem', jsonb_build_object('sqlstate', 'S3003', 'message', 'no bucket of ' || source)))
          WHERE source <> 'watch:s3://landing/b/'",
    );
    let details: Vec<String> = named(&mut client, "watches").into_iter().map(|check| check.detail).collect();
    let said = |prefix: &str| format!("{prefix} cannot be listed: no bucket of watch:{prefix} (S3003)");
    assert_eq!(details, [said("s3://landing/a/"), said("s3://landing/c/")], "d is not enabled");
}

#[test]
fn a_watch_whose_pattern_fits_no_key_is_found() {
    let server = ServerFixture::shared();
    let db = server.db();
    let mut client = db.client();
    let name = db.name();
    server.put(&format!("{name}/BTCUSDT/2024/08/08/a.parquet"), ParquetFile::new().bytes(&ticks(1, 5)));
    let patterns =
        [format!("s3://landing/{name}/{{asset}}/{{yyyy}}-{{mm}}/"), format!("s3://landing/{name}/{{asset}}/")];
    // A folder that is empty still, and one of which an object was found.
    let empty = format!("s3://landing/{name}/later/");
    for prefix in patterns.iter().chain([&empty]) {
        execute(&mut client, &format!("SELECT btc_ingest.watch('{prefix}'); SELECT btc_ingest.discover('{prefix}')"));
    }
    let found = named(&mut client, "watches");
    assert_eq!(found.len(), 1, "{found:?}");
    let said = "finds no object: none of its 1 keys matches the pattern and is a Parquet file";
    assert_eq!((found[0].ok, &found[0].detail), (false, &format!("{} {said}", patterns[0])));
    execute(&mut client, &found[0].hint);
    assert_eq!(named(&mut client, "watches")[0].detail, "no listing fails");
}

#[test]
fn a_monitor_calls_it_and_reads_the_status_and_nothing_else() {
    let server = ServerFixture::shared();
    let db = server.db();
    let name = format!("alarm_{}", db.name());
    execute(&mut db.client(), &format!("CREATE ROLE {name} LOGIN; GRANT btc_ingest_monitor TO {name}"));
    let mut monitor = db.client_as(&name);
    assert_eq!(failing(&doctor(&mut monitor)), [""; 0]);
    for view in
        ["queue", "lag", "failures", "conflicts", "progress", "stats", "watches", "workers()", "backfill_status()"]
    {
        execute(&mut monitor, &format!("SELECT * FROM btc_ingest.{view}"));
    }
    for denied in [
        "SELECT price FROM market_data.btc_ticks",
        "SELECT row_data FROM landing.rejected_ticks",
        "SELECT FROM signals.btc_embeddings",
        "SELECT btc_ingest.sweep()",
        "SELECT btc_ingest.load_s3_slice('')",
        "SELECT btc_ingest.pause_ingest()",
        "SELECT btc_ingest.migrate()",
        "UPDATE ingestion.objects SET status = 'pending'",
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES (now(), 'A', 's3://landing/a')",
    ] {
        let error = monitor.batch_execute(denied).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{denied}");
    }
    drop(monitor);
    execute(&mut db.client(), &format!("DROP ROLE {name}"));
}

#[test]
fn a_write_ahead_log_that_is_not_archived_is_found() {
    let cluster = Cluster::builder().setting("archive_mode", "on").setting("archive_command", "/bin/false").start();
    let db = TestDb::with_extension(&cluster);
    let mut client = db.client();
    execute(&mut client, "SELECT pg_switch_wal()");
    wait_until("a failed attempt", SOON, || named(&mut client, "WAL archive").iter().any(|check| !check.ok));
    let found = named(&mut client, "WAL archive");
    assert!(found[0].detail.contains("attempts failed") && found[0].hint.contains("archive_command"), "{found:?}");
    execute(&mut client, "ALTER SYSTEM SET archive_command = '/bin/true'");
    execute(&mut client, "SELECT pg_reload_conf()");
    wait_until("the archiver", Duration::from_secs(90), || named(&mut client, "WAL archive")[0].ok);
}

// ── jobs of TimescaleDB ─────────────────────────────────────────────────────────────────────────────────────────────

fn is_community(client: &mut Client) -> bool {
    let community = text(client, "SELECT current_setting('timescaledb.license')") == "timescale";
    if !community {
        println!("skipped: needs the Community edition");
    }
    community
}

/// Starts TimescaleDB's scheduler in the database, and returns the number of a job that sweeps with this config.
fn sweeping(client: &mut Client, config: &str) -> String {
    execute(client, "SELECT _timescaledb_functions.start_background_workers()");
    let add = format!("SELECT add_job('btc_ingest.run_sweep', '1 hour', config => '{config}')::text");
    text(client, &add)
}

#[test]
fn a_job_that_sweeps_loads_and_is_no_finding_although_timescaledb_may_report_it_as_failed() {
    let server = ServerFixture::shared();
    let db = server.db();
    let mut client = db.client();
    if !is_community(&mut client) {
        return;
    }
    let ticks = btc_ingest_kit::rows::ticks(1, 10);
    let uri = server.put(&format!("{}/a.parquet", db.name()), btc_ingest_kit::ParquetFile::new().bytes(&ticks));
    execute(
        &mut client,
        &format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2024-08-08 12:00+00', 'A', '{uri}')"
        ),
    );
    let job = sweeping(&mut client, "{}");
    wait_until_true(&mut client, "the load", "SELECT count(*) = 1 FROM ingestion.objects WHERE status = 'loaded'");
    let ended = format!(
        "SELECT count(*) = 1 FROM timescaledb_information.job_stats
          WHERE job_id = {job} AND last_run_status IS NOT NULL"
    );
    wait_until_true(&mut client, "the end of the run", &ended);
    let found = named(&mut client, "jobs");
    println!("{found:?}");
    assert!(found.iter().all(|check| check.ok), "{found:?}");
}

#[test]
fn a_job_that_fails_is_found_until_it_succeeds() {
    let server = ServerFixture::shared();
    let db = server.db();
    let mut client = db.client();
    if !is_community(&mut client) {
        return;
    }
    let job = sweeping(&mut client, r#"{"typo": 1}"#);
    wait_until("the failure", SOON, || named(&mut client, "jobs").iter().any(|check| !check.ok));
    let found = named(&mut client, "jobs");
    assert!(found[0].detail.contains("unknown keys in config: typo"), "{found:?}");
    execute(&mut client, &format!("SELECT alter_job({job}, config => '{{}}')"));
    let fix = found[0].hint.clone();
    wait_until("a run that succeeds", SOON, || {
        execute(&mut client, &fix);
        named(&mut client, "jobs").iter().all(|check| check.ok)
    });
}

#[test]
fn a_policy_that_is_wanted_and_absent_is_found() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    execute(
        &mut client,
        "INSERT INTO ops.retention_jobs (job_name, hypertable, policy)
         VALUES ('keep', 'market_data.btc_ticks', '{\"drop_after\": \"90 days\", \"compress_after\": \"30 days\"}')",
    );
    let community = is_community(&mut client);
    let found = named(&mut client, "jobs");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].detail.contains("(keep) wants to drop chunks after 90 days"), "{found:?}");
    assert!(found.iter().all(|check| check.ok != community), "nothing to do with the Apache edition: {found:?}");
    if community {
        found.iter().for_each(|check| execute(&mut client, &check.hint));
        assert!(named(&mut client, "jobs").iter().all(|check| check.ok));
    }
}

/// Returns the line about locks of other sessions, with a patience of a second.
fn holders(client: &mut Client) -> Check {
    execute(client, "SET btc_ingest.s3_read_timeout = '500ms'");
    named(client, "locks of other sessions").pop().expect("the line")
}

#[test]
fn a_session_that_holds_a_load_in_an_idle_transaction_is_named_with_object_and_role() {
    let server = ServerFixture::shared();
    let db = server.db();
    let uri = server.put(&format!("{}/held.parquet", db.name()), ParquetFile::new().bytes(&super::ticks(1)));
    let (mut client, mut holder) = (db.client(), db.client());
    execute(&mut client, &format!("SELECT btc_ingest.register_s3_slice('{uri}', 'BTCUSDT')"));
    assert!(holders(&mut client).ok);
    execute(&mut holder, "BEGIN");
    loaded(&mut holder, &uri, "");
    let pid = backend_pid(&mut holder);
    let found = wait_for("the finding", SOON, || Some(holders(&mut client)).filter(|check| !check.ok));
    let begin =
        format!("process {pid} (client backend of postgres), which does nothing in its transaction, has held for");
    assert!(found.detail.starts_with(&begin), "{found:?}");
    assert!(found.detail.contains(&format!("the load of an object: {uri}")), "{found:?}");
    assert!(found.hint.contains(&format!("pid IN ({pid})")), "{found:?}");
    execute(&mut holder, "COMMIT");
    assert!(holders(&mut client).ok);
}

#[test]
fn a_session_that_has_locked_a_table_against_writers_is_named_with_the_table() {
    let db = ServerFixture::shared().db();
    let (mut client, mut holder) = (db.client(), db.client());
    execute(&mut holder, "BEGIN; LOCK TABLE landing.raw_blobs_5m IN SHARE MODE");
    let pid = backend_pid(&mut holder);
    let found = wait_for("the finding", SOON, || Some(holders(&mut client)).filter(|check| !check.ok));
    assert!(found.detail.contains(&format!("process {pid} ")), "{found:?}");
    assert!(found.detail.contains("landing.raw_blobs_5m against writers"), "{found:?}");
    execute(&mut holder, "ROLLBACK; BEGIN; SELECT count(*) FROM landing.raw_blobs_5m");
    assert!(holders(&mut client).ok, "a reader keeps no load out");
}

#[test]
fn a_statement_that_still_runs_is_named_and_no_fault() {
    let db = ServerFixture::shared().db();
    let (mut client, mut holder) = (db.client(), db.client());
    let pid = backend_pid(&mut holder);
    let cancel = holder.cancel_token();
    std::thread::scope(|scope| {
        let runs = scope.spawn(|| {
            // One statement string: the transaction does something all the time.
            holder.batch_execute("BEGIN; LOCK TABLE landing.rejected_ticks IN SHARE MODE; SELECT pg_sleep(600)")
        });
        let named = |check: &Check| check.detail.contains("landing.rejected_ticks against writers");
        let found = wait_for("the finding", SOON, || Some(holders(&mut client)).filter(named));
        assert!(found.ok && found.detail.contains(&format!("process {pid} ")), "{found:?}");
        cancel.cancel_query(postgres::NoTls).unwrap();
        assert!(runs.join().unwrap().is_err());
    });
}
