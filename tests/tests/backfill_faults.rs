//! Backfills that meet damaged objects, a failing S3, and death: of a worker, of the server, of an object's every attempt.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backfill_bench;

use std::time::{Duration, Instant};

use backfill_bench::doomed::{Doomed, loaded};
use backfill_bench::{Bench, MOST_ATTEMPTS, SOON, call, kill, must_hold, try_client, workers};
use btc_ingest_tests::rows::ticks_of;
use btc_ingest_tests::stand::BUCKET;
use btc_ingest_tests::wait::wait_until;
use btc_ingest_tests::{Fault, FaultProxy, ParquetFile, Stand, TestDb, When};

const HISTORY: &str = "SELECT coalesce(string_agg(concat_ws(' ', outcome, sqlstate), ', ' ORDER BY id), '') FROM ingestion.load_history WHERE s3_uri = ";

#[test]
fn a_poisoned_object_is_quarantined_and_holds_up_no_other() {
    let mut bench = Bench::new();
    let all = bench.put_small(12);
    let text_file = bench.put_bytes("Binance/BTCUSDT/2024/08/08/a.parquet", "no parquet, ".repeat(100));
    let empty = bench.put_bytes("Binance/BTCUSDT/2024/08/08/b.parquet", "");
    let called = bench.done(&[bench.prefix("Binance/")], "parallel => 2");
    must_hold(&mut bench.client, &all);
    assert_eq!(bench.status("status, objects_total, objects_done, objects_failed, objects_waiting"), "done 14 12 2 0");
    let failures =
        "SELECT string_agg(concat_ws(' ', uri, status, attempts, sqlstate), ', ') FROM btc_ingest.backfill_failures(1)";
    assert_eq!(bench.text(failures), format!("{text_file} quarantined 1 PQ002, {empty} quarantined 1 PQ001"));
    let warnings = called.of("WARNING");
    assert_eq!(warnings.len(), 2, "{called:#?}");
    assert!(
        warnings[0].starts_with(&format!("{text_file}: ")) && warnings[0].contains("(PQ002, 1 attempts)"),
        "{warnings:?}"
    );
    assert!(
        called.of("NOTICE").last().unwrap().contains("is done: 12 objects loaded, 0 loaded before, 2 failed"),
        "{called:#?}"
    );
    assert_eq!(bench.text(&format!("{HISTORY} '{text_file}'")), "quarantined PQ002");
    bench.must_be_quiet();

    // Mended, it is loaded by the next one.
    let mended = ticks_of("BTCUSDT", 800_000, 10);
    bench.put("Binance/BTCUSDT/2024/08/08/a.parquet", &mended);
    bench.stand.s3.delete(BUCKET, &format!("{}/Binance/BTCUSDT/2024/08/08/b.parquet", bench.db.name()));
    bench.done(&[bench.prefix("Binance/")], "");
    assert_eq!(bench.status("objects_total, objects_known, objects_done, objects_failed"), "13 12 1 0");
    must_hold(&mut bench.client, &[all, mended].concat());
}

#[test]
fn what_passes_is_tried_again_and_every_attempt_is_counted() {
    let mut bench = Bench::new();
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    // The client's own repetitions would hide the fault.
    bench.set("s3_max_attempts", "1");
    let all = bench.put_small(10);
    proxy.on(When::get().key("T1200Z").times(2), Fault::slow_down());
    bench.done(&[bench.prefix("Binance/")], "parallel => 2");
    bench.must_hold(&all);
    let attempts = "SELECT string_agg(attempts::text, ' ' ORDER BY s3_uri) FROM ingestion.objects";
    assert_eq!(bench.text(attempts), "3 1 1 1 1 1 1 1 1 1");
    for (key, outcomes) in [("T1200Z", "failed S3009, failed S3009, loaded"), ("T1205Z", "loaded")] {
        let uri = bench.text(&format!("SELECT s3_uri FROM ingestion.objects WHERE s3_uri LIKE '%{key}%'"));
        assert_eq!(bench.text(&format!("{HISTORY} '{uri}'")), outcomes, "{key}");
    }
    assert_eq!(bench.status("objects_done, objects_failed, objects_waiting, message"), "10 0 0");
}

#[test]
fn a_body_that_is_cut_is_read_again() {
    let mut bench = Bench::new();
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    let all = bench.put_small(10);
    proxy.on(When::get().key("T1200Z").times(3), Fault::CutAfter(700));
    proxy.on(When::get().key("T1225Z").times(1), Fault::Drop);
    bench.done(&[bench.prefix("Binance/")], "");
    bench.must_hold(&all);
}

#[test]
fn what_does_not_pass_is_quarantined_after_max_attempts() {
    let mut bench = Bench::new();
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    bench.set("s3_max_attempts", "1");
    let all = bench.put_small(6);
    proxy.on(When::get().key("T1210Z"), Fault::slow_down());
    let called = bench.done(&[bench.prefix("Binance/")], "parallel => 3");
    let failures =
        "SELECT string_agg(concat_ws(' ', status, attempts, sqlstate), ', ') FROM btc_ingest.backfill_failures(1)";
    assert_eq!(bench.text(failures), format!("quarantined {MOST_ATTEMPTS} S3009"));
    let uri = bench.text("SELECT uri FROM btc_ingest.backfill_failures(1)");
    assert_eq!(bench.text(&format!("{HISTORY} '{uri}'")), "failed S3009, failed S3009, quarantined S3009");
    assert!(called.of("WARNING")[0].contains("(S3009, 3 attempts)"), "{called:#?}");
    let loaded: i64 = bench.number("SELECT count(*) FROM market_data.btc_ticks");
    assert!(loaded > 0 && loaded < all.len() as i64);
    bench.must_be_quiet();
    proxy.clear();
    bench.done(&[bench.prefix("Binance/")], "");
    bench.must_hold(&all);
}

#[test]
fn an_object_whose_every_attempt_ended_with_its_backend_is_quarantined_with_a_message() {
    let mut bench = Bench::new();
    let all = bench.put_small(4);
    bench.run("SELECT btc_ingest.pause_ingest()");
    let call = bench.begin(&[bench.prefix("Binance/")], "");
    bench.wait_for("the backfill", "EXISTS (SELECT FROM ingestion.backfills)");
    // As it stands when each attempt has killed its backend: burnt, and still pending.
    bench.run(&format!(
        "INSERT INTO ingestion.objects (s3_uri, backfill, span_from, span_to, attempts, attempt_started_at)
         SELECT 's3://{BUCKET}/{}/other/killer.parquet', max(id), '-infinity', 'infinity', {MOST_ATTEMPTS}, now() FROM ingestion.backfills",
        bench.db.name()
    ));
    bench.run("SELECT btc_ingest.resume_ingest()");
    let called = call.join().unwrap();
    assert_eq!(called.refusal, None);
    must_hold(&mut bench.client, &all);
    let failures = "SELECT concat_ws(' ', status, attempts, message) FROM btc_ingest.backfill_failures(1)";
    let found = bench.text(failures);
    assert!(
        found.starts_with(&format!(
            "quarantined {MOST_ATTEMPTS} the attempt has ended without a result, with its process or its statement; see the server's log"
        )),
        "{found}"
    );
    assert_eq!(called.of("WARNING").len(), 1, "{called:#?}");
}

#[test]
fn a_listing_that_fails_for_a_while_is_waited_for_and_said() {
    let mut bench = Bench::new();
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    bench.set("s3_max_attempts", "1");
    let all = bench.put_small(4);
    proxy.on(When::list(), Fault::slow_down());
    let call = bench.begin(&[bench.prefix("Binance/")], "parallel => 2");
    bench.wait_for("the note", "SELECT bool_or(sqlstate = 'S3009' AND message IS NOT NULL) FROM ingestion.backfills");
    proxy.clear();
    assert_eq!(call.join().unwrap().refusal, None);
    bench.must_hold(&all);
    assert_eq!(bench.status("status, sqlstate, message"), "done");
}

#[test]
fn a_bucket_that_is_not_there_stops_a_backfill_and_the_next_call_takes_it_up() {
    let mut bench = Bench::new();
    let all = bench.put_small(4);
    let prefixes = [bench.prefix("Binance/")];
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    proxy.on(When::list(), Fault::access_denied());
    let called = bench.call(&prefixes, "");
    assert_eq!(called.sqlstate(), "S3005", "{called:#?}");
    let refusal = called.refusal.unwrap();
    assert!(refusal.message.contains("has stopped") && refusal.hint.contains("CALL it again"), "{refusal:?}");
    assert_eq!(bench.status("status, sqlstate"), "stopped S3005");
    bench.must_be_quiet();
    proxy.clear();
    let called = bench.done(&prefixes, "");
    assert!(called.of("NOTICE")[0].contains("backfill 1 goes on where it stood"), "{called:#?}");
    assert_eq!(bench.status("id, status"), "1 done");
    bench.must_hold(&all);
}

#[test]
fn a_load_by_hand_of_an_object_of_the_queue_is_waited_for_without_haste() {
    let mut bench = Bench::new();
    let all = bench.put_small(3);
    let held = FaultProxy::before(&bench.stand.s3);
    held.on(When::get(), Fault::StallAfter(500));
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    let uri = format!("{}BTCUSDT/2024/08/08/BTCUSDT_20240808T1205Z.parquet", bench.prefix("Binance/"));
    let mut hand = btc_ingest_tests::stand::session(&bench.db, &held.endpoint(), &[]);
    let hand = std::thread::spawn(move || btc_ingest_tests::stand::loaded(&mut hand, &uri, "").inserted);
    held.wait_until_stalled(SOON);
    let call = bench.begin(&[bench.prefix("Binance/")], "parallel => 1");
    wait_until("the other two", SOON, || bench.loaded() == 2);
    // As long as it is held, the worker may look again now and then.
    let begun = Instant::now();
    let asked = proxy.requests().len();
    wait_until("a second", SOON, || begun.elapsed() > Duration::from_secs(1));
    let asked = proxy.requests().len() - asked;
    held.release();
    assert!(hand.join().unwrap() > 0);
    assert_eq!(call.join().unwrap().refusal, None);
    bench.must_hold(&all);
    assert!(asked < 30, "{asked} requests in a second for an object that somebody else loads");
    assert_eq!(bench.text("SELECT max(attempts)::text FROM ingestion.objects"), "1");
}

#[test]
fn a_killed_worker_takes_the_server_with_it_and_the_next_call_ends_the_work() {
    let doomed = Doomed::new("killed-worker", false);
    let first = doomed.begin();
    kill(workers(&mut doomed.client())[0]);
    assert_eq!(first.join().unwrap().sqlstate(), "08006");
    drop(doomed.client());
    let called = doomed.call("parallel => 2").join().unwrap();
    assert_eq!(called.refusal, None, "{called:#?}");
    doomed.must_be_whole(2);
}

#[test]
fn a_killed_worker_is_started_again_by_the_postmaster() {
    let doomed = Doomed::new("left-alone", false);
    let first = doomed.begin();
    kill(workers(&mut doomed.client())[0]);
    assert_eq!(first.join().unwrap().sqlstate(), "08006");
    // Nobody calls.
    doomed.wait_for_the_end();
    doomed.must_be_whole(2);
}

#[test]
fn after_a_crash_of_the_server_the_next_call_ends_the_work() {
    let doomed = Doomed::new("crashed", false);
    let first = doomed.begin();
    doomed.cluster.crash();
    first.join().unwrap();
    let mut client = doomed.client();
    let before = loaded(&mut client);
    assert!((8..40).contains(&before), "{before}");
    assert!(workers(&mut client).is_empty());
    let called = doomed.call("parallel => 3").join().unwrap();
    assert_eq!(called.refusal, None, "{called:#?}");
    assert!(called.of("NOTICE")[0].contains("backfill 1 goes on where it stood"), "{called:#?}");
    doomed.must_be_whole(2);
}

#[test]
fn a_preloaded_library_goes_on_by_itself_after_a_crash() {
    let doomed = Doomed::new("preloaded", true);
    let first = doomed.begin();
    doomed.cluster.crash();
    first.join().unwrap();
    doomed.wait_for_the_end();
    doomed.must_be_whole(2);
}

#[test]
fn a_terminated_worker_comes_back_by_itself() {
    let mut bench = Bench::new();
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    let all = bench.put_small(30);
    proxy.on(When::get().key("Binance/BTC"), Fault::Latency(Duration::from_millis(60)));
    let call = bench.begin(&[bench.prefix("Binance/")], "parallel => 1");
    wait_until("the middle", SOON, || bench.loaded() >= 5);
    let pid = bench.workers()[0] as i32;
    bench.client.query_one("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    assert_eq!(call.join().unwrap().refusal, None);
    bench.must_hold(&all);
    // A worker that is asked to go has time to give its attempt back, or burns this one.
    let attempts = bench.number("SELECT sum(attempts) FROM ingestion.objects");
    assert!((30..=31).contains(&attempts), "{attempts}");
}

#[test]
fn a_cancelled_statement_of_a_worker_is_an_attempt_that_is_tried_again() {
    let mut bench = Bench::new();
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    let all = bench.put_small(5);
    proxy.on(When::get().key("T1200Z").times(1), Fault::StallAfter(300));
    let call = bench.begin(&[bench.prefix("Binance/")], "parallel => 1");
    proxy.wait_until_stalled(SOON);
    bench.wait_for("the worker", "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'btc_ingest backfill' AND datname = current_database() AND query LIKE 'loading %T1200Z%' AND wait_event = 'Extension'");
    let pid = bench.workers()[0] as i32;
    bench.client.query_one("SELECT pg_cancel_backend($1)", &[&pid]).unwrap();
    assert_eq!(call.join().unwrap().refusal, None);
    proxy.release();
    bench.must_hold(&all);
    assert_eq!(
        bench.text("SELECT string_agg(attempts::text, ' ' ORDER BY s3_uri) FROM ingestion.objects"),
        "2 1 1 1 1"
    );
}

#[test]
fn workers_of_a_dropped_database_are_not_started_again_and_again() {
    let stand = Stand::start();
    let db = TestDb::with_extension(&stand.cluster);
    let name = db.name().to_owned();
    stand.put("dropped/a.parquet", ParquetFile::new().bytes(&ticks_of("BTCUSDT", 1, 5)));
    let mut client = db.client();
    client.batch_execute("SELECT btc_ingest.pause_ingest()").unwrap();
    let connection = db.connection_string();
    let watching = std::thread::spawn(move || call(&connection, &[format!("s3://{BUCKET}/dropped/")], "parallel => 2"));
    wait_until("the workers", SOON, || workers(&mut client).len() == 2);
    drop(client);
    drop(db);
    watching.join().unwrap();
    assert!(try_client(&stand.cluster.connection_string(&name)).is_none(), "the database is gone");
    // Five seconds is when the postmaster starts a worker again that has failed.
    let begun = Instant::now();
    wait_until("twelve seconds", SOON, || begun.elapsed() > Duration::from_secs(12));
    let failed = stand.cluster.log().matches("does not exist").count();
    assert!(failed <= 2, "{failed} vain starts in twelve seconds");
}
