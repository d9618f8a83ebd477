//! Sweeps: any session loads what is due, with or without workers beside it.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::{Refusal, Report, load, traces};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{Fault, FaultProxy, ParquetFile, When};
use postgres::{Client, NoTls};

use crate::queue_fixture::{QueueFixture, SOON, Slice, TICKS, number, s3};

/// Makes a server without loaders, so that only a sweep loads.
fn still(proxy: &FaultProxy) -> QueueFixture {
    QueueFixture::through(proxy, &[("workers", "0")])
}

/// Opens a session and returns the warnings that it receives.
fn listening(queue: &QueueFixture) -> (Client, Arc<Mutex<Vec<String>>>) {
    let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = warnings.clone();
    let mut config: postgres::Config = queue.db.connection_string().parse().unwrap();
    config.notice_callback(move |notice| {
        if notice.severity() == "WARNING" {
            heard.lock().unwrap().push(notice.message().to_owned());
        }
    });
    (config.connect(NoTls).unwrap(), warnings)
}

/// Sweeps and returns key and outcome of each report.
fn sweep(client: &mut Client, args: &str) -> Vec<(String, String)> {
    let rows = client.query(&format!("SELECT * FROM btc_ingest.sweep({args})"), &[]).unwrap();
    let key = |report: Report| (report.uri.rsplit('/').next().unwrap().to_owned(), report.outcome);
    rows.into_iter().map(Report::from).map(key).collect()
}

/// Calls `run_sweep` in a session and a thread of its own, and returns the pid of its backend.
fn begin_sweep(queue: &QueueFixture, config: &str) -> (u32, JoinHandle<Result<(), Refusal>>) {
    let mut client = queue.session();
    let pid = backend_pid(&mut client);
    let call = format!("CALL btc_ingest.run_sweep(config => '{config}')");
    (pid, std::thread::spawn(move || client.batch_execute(&call).map_err(Refusal::from)))
}

/// Returns the keys in the order in which they were loaded.
fn order(queue: &mut QueueFixture) -> String {
    queue.text(
        "SELECT coalesce(string_agg(substring(s3_uri FROM '[A-Z]+/\\d+'), ' ' ORDER BY id), '')
                  FROM ingestion.load_history WHERE outcome = 'loaded'",
    )
}

#[test]
fn a_sweep_loads_what_is_due_in_its_callers_transaction() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get().key("00002").times(1), Fault::slow_down());
    let mut queue = still(&proxy);
    let mut slices: Vec<Slice> = (0..4).map(|n| queue.put("BTCUSDT", n)).collect();
    slices.iter().rev().for_each(|slice| queue.register(slice));
    let poisoned = queue.put_bytes("00009.parquet", "no parquet, ".repeat(100));
    queue.register_uri(&poisoned, "BTCUSDT", 9);
    assert_eq!(sweep(&mut queue.client, "0"), []);

    let (mut client, warnings) = listening(&queue);
    client.batch_execute("BEGIN").unwrap();
    let all = [(0, "loaded"), (1, "loaded"), (2, "failed"), (3, "loaded"), (9, "failed")]
        .map(|(n, outcome)| (format!("{n:05}.parquet"), outcome.to_owned()));
    assert_eq!(sweep(&mut client, ""), all);
    let heard = warnings.lock().unwrap().clone();
    assert_eq!(heard.len(), 2, "{heard:#?}");
    assert!(heard[0].starts_with(&slices[2].uri) && heard[0].ends_with("(S3009)"), "{heard:#?}");
    assert!(heard[1].starts_with(&poisoned) && heard[1].ends_with("(PQ002)"), "{heard:#?}");
    client.batch_execute("ROLLBACK").unwrap();
    assert_eq!(traces(&mut queue.client), [("landing.raw_blobs_5m".to_owned(), 5)]);
    assert_eq!(
        queue.number("SELECT count(*) FROM landing.raw_blobs_5m WHERE status = 'pending' AND queued_at IS NULL"),
        5
    );

    assert_eq!(sweep(&mut queue.client, "2"), all[..2]);
    assert_eq!(sweep(&mut queue.client, "max_objects => 1"), [("00002.parquet".to_owned(), "loaded".to_owned())]);
    assert_eq!(sweep(&mut queue.client, "NULL"), all[3..]);
    assert_eq!(sweep(&mut queue.client, ""), []);
    assert_eq!(queue.state(&poisoned), "quarantined quarantined 1");
    queue.must_hold(&slices);
    queue.must_hold_no_claims();
    // A pause holds for sweeps as well.
    queue.run("SELECT btc_ingest.pause_ingest()");
    slices.extend(queue.register_slices("BTCUSDT", 5..6));
    assert_eq!(sweep(&mut queue.client, ""), []);
    queue.run("CALL btc_ingest.run_sweep()");
    queue.run("SELECT btc_ingest.resume_ingest()");
    assert_eq!(sweep(&mut queue.client, "").len(), 1);
    queue.must_hold(&slices);
}

#[test]
fn run_sweep_commits_after_every_object_and_records_what_fails() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get().key("00001"), Fault::access_denied());
    proxy.on(When::get().key("00003"), Fault::StallAfter(300));
    let mut queue = still(&proxy);
    let slices = queue.register_slices("BTCUSDT", 0..5);
    let (pid, call) = begin_sweep(&queue, "{}");
    proxy.wait_until_stalled(SOON);
    let states = "SELECT string_agg(concat_ws(' ', status, attempts), ', ' ORDER BY s3_uri) FROM ingestion.objects";
    assert_eq!(queue.text(states), "loaded 1, quarantined 1, loaded 1, pending 1, pending 0");
    assert_eq!(queue.number("SELECT count(*) FROM market_data.btc_ticks"), 2 * TICKS as i64);
    assert_eq!(
        queue.text(&format!("SELECT concat_ws(' ', phase, worker IS NULL) FROM btc_ingest.progress WHERE pid = {pid}")),
        "opening t"
    );

    // A sweep that is cancelled in the middle leaves only the attempt.
    queue.client.execute("SELECT pg_cancel_backend($1)", &[&(pid as i32)]).unwrap();
    assert_eq!(call.join().unwrap().expect_err("a cancelled sweep goes on").sqlstate, "57014");
    queue.must_hold_no_claims();
    proxy.clear();
    proxy.release();
    wait_until("its next attempt", SOON, || {
        queue.run("CALL btc_ingest.run_sweep()");
        queue.number("SELECT count(*) FROM ingestion.objects WHERE status = 'loaded'") == 4
    });
    assert_eq!(queue.history(&slices[3].uri), "failed 57P02, loaded");
    assert_eq!(queue.text(states), "loaded 1, quarantined 1, loaded 1, loaded 2, loaded 1");
    queue.must_hold(&[&slices[..1], &slices[2..]].concat());
}

#[test]
fn run_sweep_does_what_its_config_says() {
    let proxy = FaultProxy::before(s3());
    let mut queue = still(&proxy);
    queue.register_slices("BTCUSDT", 0..4);
    queue.register_slices("ETHUSDT", 2..6);
    let call = |queue: &mut QueueFixture, config: &str| {
        queue.run(&format!(
            "CALL btc_ingest.run_sweep(NULL,
                                                                                   '{config}')"
        ))
    };
    call(&mut queue, r#"{"max_objects": 0}"#);
    assert_eq!(order(&mut queue), "");
    call(&mut queue, r#"{"assets": []}"#);
    assert_eq!(order(&mut queue), "");
    call(&mut queue, r#"{"max_objects": 2}"#);
    assert_eq!(order(&mut queue), "BTCUSDT/00000 BTCUSDT/00001");
    call(&mut queue, r#"{"max_objects": 2, "assets": ["ETHUSDT", "SOLUSDT"], "order": "newest"}"#);
    assert_eq!(order(&mut queue), "BTCUSDT/00000 BTCUSDT/00001 ETHUSDT/00005 ETHUSDT/00004");
    // The object in work is loaded to its end.
    proxy.on(When::get(), Fault::Latency(Duration::from_millis(300)));
    let began = Instant::now();
    call(&mut queue, r#"{"max_runtime": "100 ms"}"#);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let done = order(&mut queue).split(' ').count();
    assert!((5..=6).contains(&done), "{done} loads within the time of one");
    proxy.clear();
    queue.run("CALL btc_ingest.run_sweep(config => NULL)");
    assert_eq!(order(&mut queue).split(' ').count(), 8);
}

#[test]
fn a_sweep_that_ends_while_it_claims_keeps_no_object_from_others() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    let slices = queue.register_slices("BTCUSDT", 0..2);
    queue.run(
        "CREATE FUNCTION public.spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'spoilt'; END $$;
         CREATE TRIGGER spoil BEFORE UPDATE OF attempts ON ingestion.objects FOR EACH ROW
         WHEN (NEW.attempts > OLD.attempts) EXECUTE FUNCTION public.spoil()",
    );
    let mut session = queue.session();
    let error = session.batch_execute("CALL btc_ingest.run_sweep()").unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "spoilt");
    // The session lives on, and so would its locks.
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    assert_eq!(number(&mut session, held), 0);
    queue.run("DROP TRIGGER spoil ON ingestion.objects");
    queue.run("CALL btc_ingest.run_sweep()");
    queue.must_hold(&slices);
}

#[test]
fn a_config_that_cannot_be_meant_is_refused_before_anything_is_loaded() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    queue.register_slices("BTCUSDT", 0..1);
    for config in [
        r#"{"slices": 1}"#,
        r#"{"order": "sideways"}"#,
        r#"{"max_objects": "many"}"#,
        r#"{"max_objects": 1.5}"#,
        r#"{"max_runtime": "soon"}"#,
        r#"{"assets": "BTCUSDT"}"#,
        r#"{"assets": {"a": 1}}"#,
        "[1]",
        "7",
    ] {
        let refusal = Refusal::from(
            queue.client.batch_execute(&format!("CALL btc_ingest.run_sweep(config => '{config}')")).unwrap_err(),
        );
        assert_eq!(refusal.sqlstate, "TK002", "{config}: {refusal:?}");
        assert!(!refusal.message.is_empty() && !refusal.hint.is_empty(), "{config}: {refusal:?}");
    }
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects"), 0);
}

#[test]
fn run_sweep_is_refused_where_it_could_not_commit_and_claims_nothing() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    let slices = queue.register_slices("BTCUSDT", 0..2);
    let refusal = Refusal::from(queue.client.batch_execute("BEGIN; CALL btc_ingest.run_sweep()").unwrap_err());
    assert_eq!(refusal.sqlstate, "2D000", "{refusal:?}");
    queue.run("ROLLBACK");
    // Also if the refusal is caught and the transaction goes on.
    queue.run(
        "DO $$ BEGIN CALL btc_ingest.run_sweep(); EXCEPTION WHEN invalid_transaction_termination THEN NULL; END $$",
    );
    assert_eq!(queue.number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0);
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects"), 0);
    queue.run("CALL btc_ingest.run_sweep()");
    queue.must_hold(&slices);
}

#[test]
fn what_stands_behind_many_objects_that_others_have_claimed_is_found() {
    let proxy = FaultProxy::before(s3());
    let mut queue = still(&proxy);
    for n in 0..40 {
        queue.register_uri(&format!("s3://landing/taken/{n}.parquet"), "BTCUSDT", n);
    }
    queue.run(
        "INSERT INTO ingestion.objects (s3_uri, span_from, span_to)
         SELECT s3_uri, bucket_5m, bucket_5m + interval '5 minutes' FROM landing.raw_blobs_5m;
         UPDATE landing.raw_blobs_5m SET queued_at = now()",
    );
    // A sweep claims objects until its transaction ends.
    let mut others = queue.session();
    others.batch_execute("BEGIN; SELECT btc_ingest.sweep(40)").unwrap();
    let slices = queue.register_slices("BTCUSDT", 40..42);
    assert_eq!(sweep(&mut queue.client, "1"), [("00040.parquet".to_owned(), "loaded".to_owned())]);
    queue.run("CALL btc_ingest.run_sweep()");
    queue.must_hold(&slices);
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects WHERE status = 'pending' AND attempts = 0"), 40);
}

#[test]
fn a_lock_of_another_session_costs_a_sweep_a_second_and_no_attempt() {
    let proxy = FaultProxy::before(s3());
    let mut queue = still(&proxy);
    let first = queue.register_slices("SOLUSDT", 0..1);
    queue.run("CALL btc_ingest.run_sweep()");
    let slice = queue.put("BTCUSDT", 0);
    let copy = queue.put_bytes("copy.parquet", ParquetFile::new().bytes(&slice.ticks));
    queue.register(&slice);
    let mut holder = queue.session();
    holder.batch_execute("BEGIN").unwrap();
    // Its ticks, and the offset of their source.
    load(&mut holder, &copy, "").unwrap();
    let others = queue.register_slices("BTCUSDT", 1..4);
    let (_, call) = begin_sweep(&queue, "{}");
    queue.wait_loaded(&others);
    call.join().unwrap().unwrap();
    // On a busy machine, the last step of the sweep may find it due again.
    let state = queue.state(&slice.uri);
    assert!(["failed failed 0", "pending failed 0"].contains(&state.as_str()), "{state}");
    holder.batch_execute("COMMIT").unwrap();
    wait_until("its next attempt", SOON, || {
        queue.run("CALL btc_ingest.run_sweep()");
        queue.state(&slice.uri) == "loaded loaded 1"
    });
    queue.must_hold(&[first, vec![slice], others].concat());
}

#[test]
fn sweeps_workers_a_backfill_and_a_hand_load_every_object_exactly_once() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get(), Fault::Latency(Duration::from_millis(5)));
    let mut queue = QueueFixture::through(&proxy, &[("poll_interval", "200ms")]);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let assets = ["BTCUSDT", "ETHUSDT", "SOLUSDT"];
    let slices: Vec<Slice> =
        assets.iter().flat_map(|asset| (0..20).map(|n| queue.put(asset, n)).collect::<Vec<_>>()).collect();
    // Registered in no order, five at a time.
    let mut shuffled: Vec<&Slice> = slices.iter().collect();
    shuffled.sort_by_key(|slice| {
        slice
            .bucket
            .bytes()
            .chain(slice.asset.bytes())
            .fold(7_u64, |hash, byte| hash.wrapping_mul(1_000_003) ^ u64::from(byte))
    });
    shuffled[..45].iter().for_each(|slice| queue.register(slice));
    let prefix = format!("s3://landing/{}/", queue.db.name());
    let mut calling = queue.session();
    let backfill = std::thread::spawn(move || {
        calling
            .batch_execute(&format!("CALL btc_ingest.backfill(ARRAY['{prefix}'], parallel => 1)"))
            .map_err(Refusal::from)
    });
    queue.wait_for("the backfill", "EXISTS (SELECT FROM ingestion.backfills)");
    let uris: Vec<String> = shuffled.iter().step_by(6).map(|slice| slice.uri.clone()).collect();
    queue.run("SELECT btc_ingest.resume_ingest()");
    let sweeps = [
        begin_sweep(&queue, "{}").1,
        begin_sweep(&queue, r#"{"order": "newest"}"#).1,
        begin_sweep(&queue, r#"{"assets": ["ETHUSDT"]}"#).1,
    ];
    let mut hand = queue.session();
    let hand = std::thread::spawn(move || uris.iter().try_for_each(|uri| load(&mut hand, uri, "").map(drop)));
    shuffled[45..].iter().for_each(|slice| queue.register(slice));
    for sweep in sweeps {
        sweep.join().unwrap().unwrap();
    }
    hand.join().unwrap().unwrap();
    backfill.join().unwrap().unwrap();
    queue.wait_loaded(&slices);
    queue.must_hold(&slices);
    let twice = "SELECT coalesce(string_agg(concat_ws(' ', s3_uri, n), ', '), '') FROM (
                   SELECT s3_uri, count(*) AS n FROM ingestion.load_history WHERE outcome = 'loaded'
                       GROUP BY s3_uri) AS h WHERE n <> 1";
    assert_eq!(queue.text(twice), "");
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history WHERE outcome = 'loaded'"), 60);
    assert_eq!(
        queue.text(
            "SELECT coalesce(string_agg(DISTINCT concat_ws(' ', sqlstate, message), ', '), '')
                             FROM ingestion.load_history WHERE outcome IN ('failed', 'quarantined')"
        ),
        ""
    );
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects WHERE attempts > 1"), 0);
    queue.wait_for("every row", "SELECT bool_and(status = 'loaded') FROM landing.raw_blobs_5m");
    queue.must_hold_no_claims();
}

#[test]
fn a_job_of_timescaledb_sweeps() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    if queue.text("SHOW timescaledb.license") != "timescale" {
        println!("skipped: needs the Community edition");
        return;
    }
    let slices = queue.register_slices("BTCUSDT", 0..5);
    let job = queue.text(r#"SELECT add_job('btc_ingest.run_sweep', '1 second', config => '{"max_objects": 3}')::text"#);
    queue.wait_loaded(&slices);
    queue.must_hold(&slices);
    // Registered while the job exists.
    let more = queue.register_slices("BTCUSDT", 5..6);
    queue.wait_loaded(&more);
    queue.wait_for(
        "a few runs",
        &format!(
            "coalesce((SELECT total_runs > 2 FROM timescaledb_information.job_stats WHERE job_id = {job}), false)"
        ),
    );
    // PostgreSQL 15.20 reports every job of TimescaleDB 2.28.3 as failed, after its last commit.
    let errors = format!(
        "SELECT count(*) FROM timescaledb_information.job_errors
          WHERE job_id = {job} AND err_message NOT LIKE 'cannot drop portal%being set up'"
    );
    assert_eq!(queue.number(&errors), 0);
    let ours = "SELECT count(*) FROM ingestion.load_history WHERE outcome = 'loaded'";
    assert_eq!(queue.number(ours), 6);
}
