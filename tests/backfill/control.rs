//! Who may begin, watch, pause and end a backfill, and what that does to the work.

use std::time::{Duration, Instant};

use btc_ingest_kit::fixture::backfill::{BackfillFixture, Called, call, say, statement};
use btc_ingest_kit::fixture::{BUCKET, cluster_of, must_hold_sums, traces};
use btc_ingest_kit::sql::{Session, text};
use btc_ingest_kit::wait::{SOON, wait_until};
use btc_ingest_kit::{Fault, FaultProxy, Tick, When};

/// Begins a backfill of forty objects that takes seconds, and returns its proxy.
fn slow() -> (BackfillFixture, FaultProxy, Vec<Tick>, Vec<String>) {
    let mut fixture = BackfillFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    let all = fixture.put_small(40);
    proxy.on(When::get().key("Binance/BTC"), Fault::Latency(Duration::from_millis(60)));
    let prefixes = vec![fixture.prefix("Binance/")];
    (fixture, proxy, all, prefixes)
}

#[test]
fn closing_the_connection_does_not_stop_the_work_and_the_same_call_watches_the_same_backfill() {
    let (mut fixture, _proxy, all, prefixes) = slow();
    let first = fixture.begin(&prefixes, "parallel => 2");
    wait_until("the first objects", SOON, || fixture.loaded() >= 3);
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE query LIKE 'CALL btc_ingest.backfill%' AND datname = current_database()";
    assert_eq!(fixture.number(end), 1);
    first.join().unwrap().refusal.expect("the session is closed");
    let then = fixture.loaded();
    wait_until("more objects", SOON, || fixture.loaded() > then);
    let called = fixture.done(&prefixes, "parallel => 2");
    assert!(called.of("NOTICE")[0].contains("backfill 1 goes on where it stood"), "{called:#?}");
    fixture.must_hold(&all);
    assert_eq!(fixture.status("id, objects_total, objects_done"), "1 40 40");
    assert_eq!(fixture.number("SELECT count(*) FROM ingestion.load_history"), 40);
}

#[test]
fn a_statement_timeout_ends_the_watching_and_not_the_work() {
    let (mut fixture, proxy, all, prefixes) = slow();
    proxy.on(When::get().key("T1300Z"), Fault::Hang);
    // psql runs it as a script, because several statements in one message form a transaction block.
    let script = format!("\\set VERBOSITY verbose\nSET statement_timeout = '400ms';\n{};", statement(&prefixes, ""));
    let answer = fixture.db.psql(&script).unwrap_err();
    assert!(answer.contains("57014") && answer.contains("statement timeout"), "{answer}");
    assert!(answer.contains("goes on without this session"), "{answer}");
    proxy.release();
    fixture.wait_for("the end", "SELECT status = 'done' FROM btc_ingest.backfill_status(1)");
    fixture.must_hold(&all);
}

#[test]
fn a_pause_stops_the_work_until_it_is_resumed_and_costs_no_attempt() {
    let (mut fixture, _proxy, all, prefixes) = slow();
    let call = fixture.begin(&prefixes, "parallel => 2");
    for at in [3, 12, 20] {
        wait_until("some objects", SOON, || fixture.loaded() >= at);
        assert!(fixture.text("SELECT btc_ingest.pause_ingest()").starts_with("paused"));
        fixture.wait_for(
            "the workers to pause",
            "SELECT count(*) = 2 FROM pg_stat_activity
              WHERE backend_type = 'btc_ingest backfill' AND datname = current_database() AND query = 'paused'",
        );
        let then = fixture.loaded();
        assert_eq!(fixture.status("paused, status"), "t loading");
        let begun = Instant::now();
        wait_until("a while", SOON, || begun.elapsed() > Duration::from_millis(400));
        assert_eq!(fixture.loaded(), then, "loaded while paused");
        let locks = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                      WHERE datname = current_database() AND locktype = 'advisory'";
        assert_eq!(fixture.number(locks), 2, "a worker that pauses keeps nothing but its slot");
        assert!(fixture.text("SELECT btc_ingest.resume_ingest()").starts_with("resumed"));
    }
    assert_eq!(fixture.text("SELECT btc_ingest.resume_ingest()"), "was not paused");
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold(&all);
    assert_eq!(fixture.text("SELECT string_agg(DISTINCT attempts::text, ' ') FROM ingestion.objects"), "1");
}

#[test]
fn a_cancelled_backfill_leaves_nothing_at_work_and_a_later_one_loads_the_rest() {
    let (mut fixture, proxy, all, prefixes) = slow();
    let call = fixture.begin(&prefixes, "parallel => 2");
    wait_until("some objects", SOON, || fixture.loaded() >= 5);
    let answer = fixture.text("SELECT btc_ingest.cancel_backfill(1)");
    assert!(answer.starts_with("backfill 1 is cancelled; what was loaded stays, 2 workers were ended"), "{answer}");
    let called = call.join().unwrap();
    assert_eq!(called.refusal, None, "{called:#?}");
    assert!(called.of("NOTICE").last().unwrap().contains("backfill 1 is cancelled"), "{called:#?}");
    fixture.must_be_quiet();
    let then = fixture.loaded();
    assert!((5..40).contains(&then));
    // Longer than the postmaster waits before it starts a worker again.
    let asked = proxy.requests().len();
    let begun = Instant::now();
    wait_until("six seconds", SOON, || begun.elapsed() > Duration::from_secs(6));
    fixture.must_be_quiet();
    assert_eq!((fixture.loaded(), proxy.requests().len()), (then, asked));
    assert_eq!(fixture.text("SELECT btc_ingest.cancel_backfill(1)"), "backfill 1 is cancelled already");

    let called = fixture.done(&prefixes, "parallel => 2");
    assert!(called.of("NOTICE")[0].contains("backfill 2 has begun"), "{called:#?}");
    fixture.must_hold(&all);
    assert_eq!(fixture.status("id, objects_total, objects_known, objects_done"), format!("2 40 {then} {}", 40 - then));
    let unknown = say(&fixture.db.connection_string(), "SELECT btc_ingest.cancel_backfill(77)");
    assert_eq!(unknown.sqlstate(), "TK013");
}

#[test]
fn many_workers_that_are_ended_at_any_moment_take_no_process_with_them_and_cost_no_attempt() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(300);
    let prefixes = [fixture.prefix("Binance/")];
    // Twelve processes in all phases of a load, twice: each new one plans all its statements anew.
    for round in 1..=2 {
        let then = fixture.loaded();
        let call = fixture.begin(&prefixes, "parallel => 12");
        wait_until("more objects", SOON, || fixture.loaded() > then + 20);
        fixture.run(&format!("SELECT btc_ingest.cancel_backfill({round})"));
        let called = call.join().unwrap();
        assert_eq!(called.refusal, None, "{called:#?}");
        fixture.must_be_quiet();
    }
    fixture.done(&prefixes, "parallel => 2");
    fixture.must_hold(&all);
    assert_eq!(fixture.text("SELECT string_agg(DISTINCT attempts::text, ' ') FROM ingestion.objects"), "1");
}

const NO_ARGUMENTS: [&str; 6] = [
    "parallel => 0",
    "parallel => -1",
    "parallel => 65",
    "mode => 'whole'",
    "\"from\" => '2024-02-01', \"to\" => '2024-01-01'",
    "\"from\" => '2024-02-01', \"to\" => '2024-02-01'",
];

#[test]
fn a_dry_run_reads_nothing_that_may_not_be_read() {
    let mut fixture = BackfillFixture::new();
    fixture.put_small(3);
    let secret = fixture.put_bytes("Secret/x.parquet", "not to be read");
    let allowed = fixture.prefix("Binance");
    fixture.set("allowed_prefixes", &allowed);
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    // A prefix above the allowed one: the listing shows both folders.
    let above = fixture.prefix("");
    let sql = format!(
        "SELECT concat_ws(' ', objects, passed_over) FROM btc_ingest_internal.survey_backfill(ARRAY['{above}'])"
    );
    assert_eq!(fixture.text(&sql), "3 1");
    let asked: Vec<String> = proxy.requests().into_iter().map(|seen| seen.path).collect();
    assert!(asked.iter().any(|path| path.contains("Binance")), "{asked:?}");
    assert!(!asked.iter().any(|path| path.contains("Secret")), "{secret}: {asked:?}");
}

#[test]
fn a_dry_run_refuses_what_a_backfill_refuses() {
    let fixture = BackfillFixture::new();
    let good = [fixture.prefix("Binance/")];
    for args in NO_ARGUMENTS {
        let called = fixture.call(&good, &format!("dry_run => true, {args}"));
        assert_eq!(called.sqlstate(), "TK013", "{args}: {called:#?}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_written() {
    let mut fixture = BackfillFixture::new();
    fixture.put_small(1);
    let good = [fixture.prefix("Binance/")];
    let connection = fixture.db.connection_string();
    let refused = |sql: &str, sqlstate: &str| {
        let called = say(&connection, sql);
        assert_eq!(called.sqlstate(), sqlstate, "{sql}: {called:#?}");
    };
    refused(&format!("BEGIN; {}", statement(&good, "")), "25001");
    for args in NO_ARGUMENTS {
        refused(&statement(&good, args), "TK013");
    }
    for dry in ["", "dry_run => true"] {
        for (prefix, sqlstate) in [
            ("s3://landing/{year}/", "S3015"),
            ("s3://landing/{yyyy", "S3015"),
            ("s3://landing/{mm}/", "S3015"),
            ("s3://landing/{asset}{yyyy}", "S3015"),
            ("landing/x/", "S3015"),
            ("", "S3015"),
            ("s3://elsewhere/x/", "S3002"),
            ("s3://landing2/x/", "S3002"),
        ] {
            refused(&statement(&[good[0].clone(), prefix.to_owned()], dry), sqlstate);
        }
        refused(&statement(&[], dry), "TK013");
        let comma = if dry.is_empty() { "" } else { ", " };
        refused(&format!("CALL btc_ingest.backfill(NULL{comma}{dry})"), "TK013");
        refused(&format!("CALL btc_ingest.backfill(ARRAY[NULL, 's3://landing/x/']{comma}{dry})"), "S3015");
    }
    assert_eq!(traces(&mut fixture.client), []);
    assert_eq!(fixture.number("SELECT count(*) FROM ingestion.backfills"), 0);
}

#[test]
fn a_loader_may_call_an_admin_may_pause_and_cancel_and_other_roles_may_do_nothing() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(3);
    let name = fixture.db.name().to_owned();
    fixture.run(&format!(
        "CREATE ROLE {name}_none LOGIN; CREATE ROLE {name}_reader LOGIN IN ROLE btc_ingest_reader;
         CREATE ROLE {name}_loader LOGIN IN ROLE btc_ingest_loader;
         CREATE ROLE {name}_admin LOGIN IN ROLE btc_ingest_admin"
    ));
    let prefixes = [fixture.prefix("Binance/")];
    let answer =
        |who: &str, sql: &str| say(&fixture.db.cluster().connection_string_as(&name, &format!("{name}_{who}")), sql);
    let calls = statement(&prefixes, "");
    let dry = statement(&prefixes, "dry_run => true");
    let status = "SELECT * FROM btc_ingest.backfill_status()";
    let failures = "SELECT * FROM btc_ingest.backfill_failures(1)";
    let pause = "SELECT btc_ingest.pause_ingest()";
    let resume = "SELECT btc_ingest.resume_ingest()";
    let cancel = "SELECT btc_ingest.cancel_backfill(1)";
    for (who, refused) in [
        ("none", &[calls.as_str(), &dry, status, failures, pause, resume, cancel][..]),
        ("reader", &[&calls, &dry, failures, pause, resume, cancel]),
        ("loader", &[pause, resume]),
    ] {
        for sql in refused {
            assert_eq!(answer(who, sql).sqlstate(), "42501", "{who}: {sql}");
        }
        // No role may call the functions that do the work.
        for sql in [
            "SELECT btc_ingest_internal.finish_chunk(0, 0, '', 0, 0)",
            "SELECT btc_ingest_internal.take_migration_lock()",
        ] {
            assert_eq!(answer(who, sql).sqlstate(), "42501", "{who}: {sql}");
        }
    }
    assert_eq!(answer("loader", &dry).refusal, None);
    let called = answer("loader", &calls);
    assert_eq!(called.refusal, None, "{called:#?}");
    for sql in [status, failures] {
        assert_eq!(answer("loader", sql).refusal, None, "{sql}");
    }
    assert_eq!(answer("reader", status).refusal, None);
    for sql in [pause, resume, cancel, &calls] {
        assert_eq!(answer("admin", sql).refusal, None, "{sql}");
    }
    fixture.must_hold(&all);
    assert_eq!(fixture.text("SELECT requested_by FROM ingestion.backfills WHERE id = 1"), format!("{name}_loader"));
    fixture.run(&format!("DROP ROLE {name}_none, {name}_reader, {name}_loader, {name}_admin"));
}

#[test]
fn a_backfill_that_is_begun_while_everything_is_paused_says_so_and_waits() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(3);
    fixture.run("SELECT btc_ingest.pause_ingest()");
    let watching = fixture.begin(&[fixture.prefix("Binance/")], "parallel => 1");
    fixture
        .wait_for("the backfill", "SELECT count(*) = 1 FROM btc_ingest.backfill_status() WHERE paused AND workers = 1");
    assert_eq!(fixture.status("status, objects_total"), "pending");
    assert!(!watching.is_finished());
    fixture.run("SELECT btc_ingest.resume_ingest()");
    let called: Called = watching.join().unwrap();
    assert_eq!(called.refusal, None);
    must_hold_sums(&mut fixture.client, &all);
    fixture.must_be_quiet();
}

#[test]
fn workers_that_find_no_room_are_an_error_that_says_what_to_raise() {
    let s3 = &btc_ingest_kit::fixture::backfill::server().s3;
    let cluster = cluster_of(&s3.endpoint()).setting("max_worker_processes", "1").start();
    let db = btc_ingest_kit::TestDb::with_extension(&cluster);
    let all = btc_ingest_kit::fixture::backfill::put_small(btc_ingest_kit::fixture::backfill::server(), "no-room", 2);
    let prefixes = [format!("s3://{BUCKET}/no-room/")];
    let called = call(&db.connection_string(), &prefixes, "");
    assert_eq!(called.sqlstate(), "TK015", "{called:#?}");
    assert!(called.refusal.unwrap().hint.contains("max_worker_processes"));
    let mut client = db.client();
    // The rest of the call must still succeed.
    let paused = "SELECT btc_ingest.pause_ingest() || '; ' || btc_ingest.resume_ingest()";
    let answer = text(&mut client, paused);
    let short = "; resumed; backfill 1: no background worker could be started. \
                 Raise max_worker_processes and restart the server.";
    assert!(answer.ends_with(short), "{answer}");
    assert_eq!(text(&mut client, "SELECT paused::text FROM ingestion.control"), "false");
    client.batch_execute("ALTER SYSTEM SET max_worker_processes = 16").unwrap();
    drop(client);
    cluster.restart();
    let called = call(&db.connection_string(), &prefixes, "");
    assert_eq!(called.refusal, None, "{called:#?}");
    let mut client = db.client();
    must_hold_sums(&mut client, &all);
}

#[test]
fn what_a_cancelled_backfill_has_left_waits_in_no_view() {
    let (mut fixture, proxy, _, prefixes) = slow();
    proxy.on(When::get().key("T1205Z"), Fault::no_such_key());
    // Both workers stop here, so that objects are left however fast the machine is.
    proxy.on(When::get().key("T13"), Fault::Hang);
    let call = fixture.begin(&prefixes, "parallel => 2");
    wait_until("some objects", SOON, || fixture.loaded() >= 5);
    fixture.wait_for("the failure", "(SELECT count(*) = 1 FROM btc_ingest.failures)");
    let waiting = "SELECT count(*) FROM btc_ingest.queue";
    assert!(fixture.number(waiting) > 0);
    fixture.run("SELECT btc_ingest.cancel_backfill(1)");
    let _ = call.join().unwrap();
    assert!(fixture.number("SELECT count(*) FROM ingestion.objects WHERE status = 'pending'") > 1);
    // As if one of them had failed just before.
    fixture.run(
        "UPDATE ingestion.objects SET status = 'failed', next_attempt_at = now() + interval '1 hour'
          WHERE s3_uri = (SELECT min(s3_uri) FROM ingestion.objects WHERE status = 'pending')",
    );
    assert_eq!(fixture.number(waiting), 0);
    assert_eq!(
        fixture.text("SELECT string_agg(concat_ws(' ', asset, waiting), ', ') FROM btc_ingest.lag"),
        "BTCUSDT 0"
    );
    assert_eq!(fixture.text("SELECT string_agg(status, ' ') FROM btc_ingest.failures"), "quarantined");
    // A later backfill of the same prefix loads them, so that they wait again.
    fixture.run("SELECT btc_ingest.pause_ingest()");
    let call = fixture.begin(&prefixes, "");
    fixture.wait_for("the second backfill", "EXISTS (SELECT FROM ingestion.backfills WHERE id = 2)");
    fixture.run("SELECT btc_ingest.resume_ingest()");
    let waits = "SELECT count(*) FROM btc_ingest.queue WHERE backfill = 2";
    wait_until("objects", SOON, || call.is_finished() || fixture.number(waits) > 0);
    if call.is_finished() {
        panic!("the backfill ended before its objects waited: {:#?}", call.join().unwrap());
    }
    proxy.clear();
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    assert_eq!(fixture.number(waiting), 0);
}
