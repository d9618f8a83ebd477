//! Backfills that meet damaged objects, a failing S3, and death: of a worker, of the server, of an object's every
//! attempt.

use std::time::{Duration, Instant};

use btc_ingest_kit::cluster::{tail, try_client};
use btc_ingest_kit::fixture::backfill::{BackfillFixture, MOST_ATTEMPTS, call, loaded, retry_at_once, workers};
use btc_ingest_kit::fixture::doomed::DoomedFixture;
use btc_ingest_kit::fixture::{BUCKET, must_hold_sums};
use btc_ingest_kit::process::kill;
use btc_ingest_kit::rows::ticks_of;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::wait::{SOON, wait_until};
use btc_ingest_kit::{Fault, FaultProxy, ParquetFile, ServerFixture, TestDb, When};

const HISTORY: &str = "SELECT coalesce(string_agg(concat_ws(' ', outcome, sqlstate), ', ' ORDER BY id), '')
                         FROM ingestion.load_history WHERE s3_uri = ";

#[test]
fn a_poisoned_object_is_quarantined_and_holds_up_no_other() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(12);
    let text_file = fixture.put_bytes("Binance/BTCUSDT/2024/08/08/a.parquet", "no parquet, ".repeat(100));
    let empty = fixture.put_bytes("Binance/BTCUSDT/2024/08/08/b.parquet", "");
    let called = fixture.done(&[fixture.prefix("Binance/")], "parallel => 2");
    must_hold_sums(&mut fixture.client, &all);
    let columns = "status, objects_total, objects_done, objects_failed, objects_waiting";
    assert_eq!(fixture.status(columns), "done 14 12 2 0");
    let failures =
        "SELECT string_agg(concat_ws(' ', uri, status, attempts, sqlstate), ', ') FROM btc_ingest.backfill_failures(1)";
    assert_eq!(fixture.text(failures), format!("{text_file} quarantined 1 PQ002, {empty} quarantined 1 PQ001"));
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
    assert_eq!(fixture.text(&format!("{HISTORY} '{text_file}'")), "quarantined PQ002");
    fixture.must_be_quiet();

    // After it is replaced, the next backfill loads it.
    let replaced = ticks_of("BTCUSDT", 800_000, 10);
    fixture.put("Binance/BTCUSDT/2024/08/08/a.parquet", &replaced);
    fixture.server.s3.delete(BUCKET, &format!("{}/Binance/BTCUSDT/2024/08/08/b.parquet", fixture.db.name()));
    fixture.done(&[fixture.prefix("Binance/")], "");
    assert_eq!(fixture.status("objects_total, objects_known, objects_done, objects_failed"), "13 12 1 0");
    must_hold_sums(&mut fixture.client, &[all, replaced].concat());
}

#[test]
fn what_passes_is_tried_again_and_every_attempt_is_counted() {
    let mut fixture = BackfillFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    // The client's own repetitions would hide the fault.
    fixture.set("s3_max_attempts", "1");
    let all = fixture.put_small(10);
    proxy.on(When::get().key("T1200Z").times(2), Fault::slow_down());
    fixture.done(&[fixture.prefix("Binance/")], "parallel => 2");
    fixture.must_hold(&all);
    let attempts = "SELECT string_agg(attempts::text, ' ' ORDER BY s3_uri) FROM ingestion.objects";
    assert_eq!(fixture.text(attempts), "3 1 1 1 1 1 1 1 1 1");
    for (key, outcomes) in [("T1200Z", "failed S3009, failed S3009, loaded"), ("T1205Z", "loaded")] {
        let uri = fixture.text(&format!("SELECT s3_uri FROM ingestion.objects WHERE s3_uri LIKE '%{key}%'"));
        assert_eq!(fixture.text(&format!("{HISTORY} '{uri}'")), outcomes, "{key}");
    }
    assert_eq!(fixture.status("objects_done, objects_failed, objects_waiting, message"), "10 0 0");
}

#[test]
fn a_body_that_is_cut_is_read_again() {
    let mut fixture = BackfillFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    let all = fixture.put_small(10);
    proxy.on(When::get().key("T1200Z").times(3), Fault::CutAfter(700));
    proxy.on(When::get().key("T1225Z").times(1), Fault::Drop);
    fixture.done(&[fixture.prefix("Binance/")], "");
    fixture.must_hold(&all);
}

#[test]
fn what_does_not_pass_is_quarantined_after_max_attempts() {
    let mut fixture = BackfillFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    fixture.set("s3_max_attempts", "1");
    let all = fixture.put_small(6);
    proxy.on(When::get().key("T1210Z"), Fault::slow_down());
    let called = fixture.done(&[fixture.prefix("Binance/")], "parallel => 3");
    let failures =
        "SELECT string_agg(concat_ws(' ', status, attempts, sqlstate), ', ') FROM btc_ingest.backfill_failures(1)";
    assert_eq!(fixture.text(failures), format!("quarantined {MOST_ATTEMPTS} S3009"));
    let uri = fixture.text("SELECT uri FROM btc_ingest.backfill_failures(1)");
    assert_eq!(fixture.text(&format!("{HISTORY} '{uri}'")), "failed S3009, failed S3009, quarantined S3009");
    assert!(called.of("WARNING")[0].contains("(S3009, 3 attempts)"), "{called:#?}");
    let loaded: i64 = fixture.number("SELECT count(*) FROM market_data.btc_ticks");
    assert!(loaded > 0 && loaded < all.len() as i64);
    fixture.must_be_quiet();
    proxy.clear();
    fixture.done(&[fixture.prefix("Binance/")], "");
    fixture.must_hold(&all);
}

#[test]
fn an_object_whose_every_attempt_ended_with_its_backend_is_quarantined_with_a_message() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(4);
    fixture.run("SELECT btc_ingest.pause_ingest()");
    let call = fixture.begin(&[fixture.prefix("Binance/")], "");
    fixture.wait_for("the backfill", "EXISTS (SELECT FROM ingestion.backfills)");
    // As it is when each attempt has killed its backend: all attempts are counted, and it is still pending.
    fixture.run(&format!(
        "INSERT INTO ingestion.objects (s3_uri, backfill, span_from, span_to, attempts, attempt_started_at)
         SELECT 's3://{BUCKET}/{}/other/killer.parquet', max(id), '-infinity', 'infinity', {MOST_ATTEMPTS}, now()
             FROM ingestion.backfills",
        fixture.db.name()
    ));
    fixture.run("SELECT btc_ingest.resume_ingest()");
    let called = call.join().unwrap();
    assert_eq!(called.refusal, None);
    must_hold_sums(&mut fixture.client, &all);
    let failures = "SELECT concat_ws(' ', status, attempts, message) FROM btc_ingest.backfill_failures(1)";
    let found = fixture.text(failures);
    assert!(
        found.starts_with(&format!(
            "quarantined {MOST_ATTEMPTS} the attempt has ended without a result, with its process or \
             its statement; see the server's log"
        )),
        "{found}"
    );
    assert_eq!(called.of("WARNING").len(), 1, "{called:#?}");
}

#[test]
fn a_listing_that_fails_for_a_while_is_waited_for_and_said() {
    let mut fixture = BackfillFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    fixture.set("s3_max_attempts", "1");
    let all = fixture.put_small(4);
    proxy.on(When::list(), Fault::slow_down());
    let call = fixture.begin(&[fixture.prefix("Binance/")], "parallel => 2");
    fixture.wait_for("the note", "SELECT bool_or(sqlstate = 'S3009' AND message IS NOT NULL) FROM ingestion.backfills");
    proxy.clear();
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold(&all);
    assert_eq!(fixture.status("status, sqlstate, message"), "done");
}

#[test]
fn a_bucket_that_is_not_there_stops_a_backfill_and_the_next_call_takes_it_up() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(4);
    let prefixes = [fixture.prefix("Binance/")];
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    proxy.on(When::list(), Fault::access_denied());
    let called = fixture.call(&prefixes, "");
    assert_eq!(called.sqlstate(), "S3005", "{called:#?}");
    let refusal = called.refusal.unwrap();
    assert!(refusal.message.contains("has stopped") && refusal.hint.contains("repeat the CALL"), "{refusal:?}");
    assert_eq!(fixture.status("status, sqlstate"), "stopped S3005");
    fixture.must_be_quiet();
    proxy.clear();
    let called = fixture.done(&prefixes, "");
    assert!(called.of("NOTICE")[0].contains("backfill 1 goes on where it stood"), "{called:#?}");
    assert_eq!(fixture.status("id, status"), "1 done");
    fixture.must_hold(&all);
}

#[test]
fn a_listing_that_is_denied_after_its_first_page_waits_and_goes_on_by_itself() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(4);
    // More keys than a page holds, before those of the objects.
    (0..1100).for_each(|n| drop(fixture.put_bytes(&format!("Binance/AAA/{n}.txt"), "no object")));
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    let denied = proxy.on(When::list().from(2), Fault::access_denied());
    let call = fixture.begin(&[fixture.prefix("Binance/")], "");
    wait_until("more listings", SOON, || proxy.acted(denied) > 3);
    assert_eq!(fixture.status("status, sqlstate"), "listing S3005");
    let passed_over = "SELECT (state ->> 'passed_over')::bigint FROM ingestion.backfills";
    assert_eq!(fixture.number(passed_over), 1000, "what was listed is kept");
    let doctor = "SELECT concat_ws(' ', ok, detail LIKE 'backfill 1 cannot go on listing: %(S3005)',
                                   hint LIKE 'SELECT * FROM btc_ingest.backfill_status(1);%by itself%')
                    FROM btc_ingest.doctor() WHERE name = 'backfills'";
    assert_eq!(fixture.text(doctor), "f t t");
    proxy.clear();
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold(&all);
    assert_eq!(fixture.status("status, sqlstate, message"), "done");
    assert_eq!(fixture.number(passed_over), 1100);
}

#[test]
fn a_load_by_hand_of_an_object_of_the_queue_is_waited_for_without_haste() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(3);
    let held = FaultProxy::before(&fixture.server.s3);
    held.on(When::get(), Fault::StallAfter(500));
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    let uri = format!("{}BTCUSDT/2024/08/08/BTCUSDT_20240808T1205Z.parquet", fixture.prefix("Binance/"));
    let mut hand = btc_ingest_kit::fixture::session(&fixture.db, &held.endpoint(), &[]);
    let hand = std::thread::spawn(move || btc_ingest_kit::fixture::loaded(&mut hand, &uri, "").inserted);
    held.wait_until_stalled(SOON);
    let call = fixture.begin(&[fixture.prefix("Binance/")], "parallel => 1");
    wait_until("the other two", SOON, || fixture.loaded() == 2);
    // While the lock is held, the worker may look again from time to time.
    let begun = Instant::now();
    let asked = proxy.requests().len();
    wait_until("a second", SOON, || begun.elapsed() > Duration::from_secs(1));
    let asked = proxy.requests().len() - asked;
    held.release();
    assert!(hand.join().unwrap() > 0);
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold(&all);
    assert!(asked < 30, "{asked} requests in a second for an object that another session loads");
    assert_eq!(fixture.text("SELECT max(attempts)::text FROM ingestion.objects"), "1");
}

#[test]
fn a_killed_worker_takes_the_server_with_it_and_the_next_call_ends_the_work() {
    let doomed = DoomedFixture::new("killed-worker", false);
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
    let doomed = DoomedFixture::new("left-alone", false);
    let first = doomed.begin();
    kill(workers(&mut doomed.client())[0]);
    assert_eq!(first.join().unwrap().sqlstate(), "08006");
    // No session calls.
    doomed.wait_for_the_end();
    doomed.must_be_whole(2);
}

#[test]
fn after_a_crash_of_the_server_the_next_call_ends_the_work() {
    let doomed = DoomedFixture::new("crashed", false);
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
    let doomed = DoomedFixture::new("preloaded", true);
    let first = doomed.begin();
    doomed.cluster.crash();
    first.join().unwrap();
    doomed.wait_for_the_end();
    doomed.must_be_whole(2);
}

#[test]
fn a_terminated_worker_comes_back_by_itself() {
    let mut fixture = BackfillFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    let all = fixture.put_small(30);
    proxy.on(When::get().key("Binance/BTC"), Fault::Latency(Duration::from_millis(60)));
    let call = fixture.begin(&[fixture.prefix("Binance/")], "parallel => 1");
    wait_until("the middle", SOON, || fixture.loaded() >= 5);
    let pid = fixture.workers()[0] as i32;
    fixture.client.query_one("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold(&all);
    // A worker that is asked to end may release its attempt, or this one counts.
    let attempts = fixture.number("SELECT sum(attempts) FROM ingestion.objects");
    assert!((30..=31).contains(&attempts), "{attempts}");
}

#[test]
fn a_cancelled_statement_of_a_worker_is_an_attempt_that_is_tried_again() {
    let mut fixture = BackfillFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    let all = fixture.put_small(5);
    proxy.on(When::get().key("T1200Z").times(1), Fault::StallAfter(300));
    let call = fixture.begin(&[fixture.prefix("Binance/")], "parallel => 1");
    proxy.wait_until_stalled(SOON);
    fixture.wait_for(
        "the worker",
        "SELECT count(*) = 1 FROM pg_stat_activity
                                     WHERE backend_type = 'btc_ingest backfill' AND datname = current_database()
                                         AND query LIKE 'loading %T1200Z%' AND wait_event = 'Extension'",
    );
    let pid = fixture.workers()[0] as i32;
    fixture.client.query_one("SELECT pg_cancel_backend($1)", &[&pid]).unwrap();
    assert_eq!(call.join().unwrap().refusal, None);
    proxy.release();
    fixture.must_hold(&all);
    assert_eq!(
        fixture.text("SELECT string_agg(attempts::text, ' ' ORDER BY s3_uri) FROM ingestion.objects"),
        "2 1 1 1 1"
    );
}

#[test]
fn workers_of_a_dropped_database_are_not_started_again_and_again() {
    let server = ServerFixture::start();
    let db = TestDb::with_extension(&server.cluster);
    let name = db.name().to_owned();
    server.put("dropped/a.parquet", ParquetFile::new().bytes(&ticks_of("BTCUSDT", 1, 5)));
    let mut client = db.client();
    client.batch_execute("SELECT btc_ingest.pause_ingest()").unwrap();
    let connection = db.connection_string();
    let watching = std::thread::spawn(move || call(&connection, &[format!("s3://{BUCKET}/dropped/")], "parallel => 2"));
    wait_until("the workers", SOON, || workers(&mut client).len() == 2);
    drop(client);
    drop(db);
    watching.join().unwrap();
    assert!(try_client(&server.cluster.connection_string(&name)).is_none(), "the database is gone");
    // The postmaster restarts a failed worker after five seconds.
    let begun = Instant::now();
    wait_until("twelve seconds", SOON, || begun.elapsed() > Duration::from_secs(12));
    let failed = server.cluster.log().matches("does not exist").count();
    assert!(failed <= 2, "{failed} vain starts in twelve seconds");
}

#[test]
fn a_worker_that_meets_a_transient_error_outside_of_any_object_waits_and_continues() {
    // A server of its own, because the setting is that of the whole cluster.
    let server: &'static ServerFixture = Box::leak(Box::new(ServerFixture::start()));
    retry_at_once(&server.cluster);
    let mut fixture = BackfillFixture::of(server);
    let all = fixture.put_small(6);
    // Started without a CALL, which would start a worker again that has ended.
    fixture.run("SELECT btc_ingest.pause_ingest()");
    let prefix = fixture.prefix("Binance/");
    let start = "SELECT btc_ingest_internal.start_backfill";
    fixture.run(&format!("{start}(ARRAY['{prefix}'], NULL, NULL, 1, 'object')"));
    fixture.run(&format!("{start}_workers(1)"));
    wait_until("the worker", SOON, || workers(&mut fixture.client).len() == 1);
    let worker = workers(&mut fixture.client);
    let reload = "SELECT pg_reload_conf()";
    fixture.run("ALTER SYSTEM SET default_transaction_read_only = on");
    fixture.run(reload);
    wait_until("the error in the log", SOON, || server.cluster.log().contains("btc_ingest backfill 1: "));
    assert!(server.cluster.log().contains("(25006)"), "{}", tail(&server.cluster.log(), 20));
    fixture.run("ALTER SYSTEM RESET default_transaction_read_only");
    fixture.run(reload);
    let resume = "SET default_transaction_read_only = off; UPDATE ingestion.control SET paused = false";
    fixture.db.psql(resume).unwrap();
    wait_until("the end of the backfill", SOON, || fixture.status("status") == "done");
    must_hold_sums(&mut fixture.client, &all);
    assert!(worker.len() == 1 && !server.cluster.log().contains("XX000"), "{}", tail(&server.cluster.log(), 20));
}

#[test]
fn a_backfill_waits_for_s3_without_an_attempt_and_goes_on_by_itself() {
    let mut fixture = BackfillFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    fixture.set("s3_max_attempts", "1");
    let all = fixture.put_small(30);
    // The prefix is listed once, and then nothing can be read any more.
    proxy.on(When::list().from(2), Fault::access_denied());
    proxy.on(When::any().key(".parquet"), Fault::access_denied());
    let call = fixture.begin(&[fixture.prefix("Binance/")], "parallel => 3");
    fixture.wait_for("looks at S3", "EXISTS (SELECT FROM btc_ingest.outages WHERE probes > 10)");
    let status = "SELECT concat_ws(' ', status, sqlstate, message LIKE '%until S3 answers%', objects_failed)
                    FROM btc_ingest.backfill_status()";
    assert_eq!(fixture.text(status), "loading S3005 t 0");
    assert_eq!(fixture.text("SELECT concat_ws(' ', paused) FROM ingestion.control"), "f");
    proxy.clear();
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold(&all);
    let attempts = "SELECT concat_ws(' ', count(*), min(attempts), max(attempts)) FROM ingestion.objects";
    assert_eq!(fixture.text(attempts), "30 1 1");
    assert_eq!(fixture.status("status, sqlstate, message, objects_done"), "done 30");
    assert_eq!(fixture.number("SELECT count(*) FROM btc_ingest.outages"), 0);
}
