//! How workers end and come back: by a signal, with the server, with their database, on a standby that is promoted.

use std::time::{Duration, Instant};

use btc_ingest_kit::cluster::client_again;
use btc_ingest_kit::fixture::Refusal;
use btc_ingest_kit::process::{is_running, kill};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{Fault, FaultProxy, When};
use postgres::Client;

use crate::queue_fixture::{QueueFixture, SOON, Slice, register, s3, text, wait_until_true};

/// Begins a load that hangs until the proxy's release. Returns the slice and the pid of its loader.
fn hanging(proxy: &FaultProxy, settings: &[(&str, &str)]) -> (QueueFixture, Slice, i32) {
    proxy.on(When::get(), Fault::StallAfter(300));
    let mut queue = QueueFixture::through(proxy, settings);
    let slice = queue.register_slices("BTCUSDT", 0..1).remove(0);
    proxy.wait_until_stalled(SOON);
    let loader = queue.loader_of(&slice.uri);
    (queue, slice, loader)
}

/// Returns the time of the last log line with this text, in milliseconds of the day.
#[track_caller]
fn logged_at(log: &str, text: &str) -> i64 {
    let line = log.lines().rev().find(|line| line.contains(text)).expect(text);
    let clock: Vec<f64> = line[11..23].split(':').map(|part| part.parse().expect(line)).collect();
    ((clock[0] * 3600.0 + clock[1] * 60.0 + clock[2]) * 1000.0).round() as i64
}

#[test]
fn a_terminated_loader_ends_at_once_gives_its_attempt_back_and_another_takes_over() {
    let proxy = FaultProxy::before(s3());
    let (mut queue, slice, loader) = hanging(&proxy, &[]);
    assert_eq!(queue.state(&slice.uri), "pending pending 1");
    let began = Instant::now();
    queue.client.execute("SELECT pg_terminate_backend($1)", &[&loader]).unwrap();
    wait_until("its end", SOON, || !is_running(loader.unsigned_abs()));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let other = queue.loader_of(&slice.uri);
    assert_ne!(other, loader);
    proxy.release();
    queue.wait_loaded(std::slice::from_ref(&slice));
    assert_eq!(queue.state(&slice.uri), "loaded loaded 1");
    assert_eq!(queue.history(&slice.uri), "loaded");
    queue.must_hold(&[slice]);
    queue.must_hold_no_claims();
}

#[test]
fn a_loader_that_is_ended_while_it_plans_gives_its_attempts_back_and_takes_no_process_with_it() {
    let proxy = FaultProxy::before(s3());
    let mut queue = QueueFixture::through(&proxy, &[("workers", "1")]);
    // A session that plans a statement over the table for the first time folds the index's predicate.
    let folded = |body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION public.folded() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
                 IF (SELECT backend_type FROM pg_stat_activity
                     WHERE pid = pg_backend_pid()) = 'btc_ingest loader' THEN {body} END IF;
                 RETURN true; END $$"
        )
    };
    queue.run(&folded("NULL;"));
    queue.run("CREATE INDEX folded ON ingestion.objects (attempts) WHERE public.folded()");
    let first = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_loaded(&first);
    // It has begun an attempt and claimed more objects when it plans again.
    proxy.on(When::get(), Fault::StallAfter(300));
    let slices = queue.register_slices("BTCUSDT", 1..5);
    proxy.wait_until_stalled(SOON);
    let loader = queue.loader_of(&slices[0].uri);
    queue.run(&folded("PERFORM pg_sleep(600);"));
    queue.run(
        "ALTER INDEX ingestion.folded SET (fillfactor = 50); ALTER TABLE ingestion.objects
                  SET (fillfactor = 90)",
    );
    proxy.release();
    queue.wait_for(
        "planning",
        &format!("coalesce((SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = {loader}), false)"),
    );
    queue.run(&folded("NULL;"));
    queue.client.execute("SELECT pg_terminate_backend($1)", &[&loader]).unwrap();
    wait_until("its end", SOON, || !is_running(loader.unsigned_abs()));
    // This is still the same session: a crash would have ended it.
    queue.wait_loaded(&slices);
    for slice in &slices {
        assert_eq!(queue.state(&slice.uri), "loaded loaded 1");
        assert_eq!(queue.history(&slice.uri), "loaded");
    }
    queue.must_hold(&[first, slices].concat());
}

#[test]
fn a_loader_whose_commits_wait_for_a_standby_that_is_gone_ends_all_the_same() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get(), Fault::StallAfter(300));
    let mut queue = QueueFixture::through(&proxy, &[("workers", "1")]);
    queue.run("SET synchronous_commit = local");
    // Registered at once, so that the loader has claimed more objects when the first commit waits.
    queue.run("BEGIN");
    let slices = queue.register_slices("BTCUSDT", 0..12);
    queue.run("COMMIT");
    proxy.wait_until_stalled(SOON);
    let loader = queue.loader_of(&slices[0].uri);
    queue.run("ALTER SYSTEM SET synchronous_standby_names = 'absent'");
    queue.run("SELECT pg_reload_conf()");
    proxy.release();
    queue.wait_for(
        "a commit that waits",
        &format!("coalesce((SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = {loader}), false)"),
    );
    let began = Instant::now();
    queue.client.execute("SELECT pg_terminate_backend($1)", &[&loader]).unwrap();
    wait_until("its end", SOON, || !is_running(loader.unsigned_abs()));
    let took = began.elapsed();
    queue.run("ALTER SYSTEM RESET synchronous_standby_names");
    queue.run("SELECT pg_reload_conf()");
    assert!(took < Duration::from_secs(2), "{took:?}");
    queue.wait_loaded(&slices);
    for slice in &slices {
        assert_eq!(queue.state(&slice.uri), "loaded loaded 1");
    }
    queue.must_hold(&slices);
}

#[test]
fn a_server_stops_at_once_while_s3_hangs_and_goes_on_after_its_start() {
    let proxy = FaultProxy::before(s3());
    let (mut queue, slice, _) = hanging(&proxy, &[]);
    let began = Instant::now();
    queue.server.cluster.stop();
    let took = began.elapsed();
    proxy.release();
    queue.server.cluster.start();
    // The time includes the checkpoint and pg_ctl's own steps; the workers have ended before.
    assert!(took < Duration::from_secs(3), "{took:?}");
    let log = queue.db.log();
    let workers = logged_at(&log, "LOG:  shutting down") - logged_at(&log, "received fast shutdown request");
    assert!((0..1000).contains(&workers), "{workers} ms\n{log}");
    queue.client = client_again(&queue.db.connection_string());
    queue.wait_loaded(std::slice::from_ref(&slice));
    assert_eq!(queue.state(&slice.uri), "loaded loaded 1");
    queue.must_hold(&[slice]);
}

#[test]
fn a_killed_loader_has_cost_one_attempt_and_its_slice_is_loaded() {
    let proxy = FaultProxy::before(s3());
    let (mut queue, slice, loader) = hanging(&proxy, &[]);
    kill(loader.unsigned_abs());
    wait_until("the crash", SOON, || queue.client.is_closed() || queue.client.batch_execute("SELECT 1").is_err());
    proxy.release();
    queue.client = client_again(&queue.db.connection_string());
    queue.wait_loaded(std::slice::from_ref(&slice));
    assert_eq!(queue.state(&slice.uri), "loaded loaded 2");
    assert_eq!(queue.history(&slice.uri), "failed 57P02, loaded");
    queue.must_hold(&[slice]);
    queue.must_hold_no_claims();
}

#[test]
fn a_terminated_scheduler_and_launcher_come_back() {
    let mut queue = QueueFixture::new();
    let first = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_loaded(&first);
    for kind in ["scheduler", "launcher"] {
        let pid = format!("SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'btc_ingest {kind}'");
        let before = queue.text(&pid);
        queue.run(&format!("SELECT pg_terminate_backend({before})"));
        queue.wait_for(
            kind,
            &format!("SELECT coalesce(string_agg(t.pid, ' ') <> '{before}', false) FROM ({pid}) AS t (pid)"),
        );
    }
    let second = queue.register_slices("BTCUSDT", 1..3);
    queue.wait_loaded(&second);
    queue.wait_for(
        "one of each kind",
        "SELECT count(*) = count(DISTINCT backend_type) FROM pg_stat_activity
                                         WHERE backend_type IN ('btc_ingest scheduler', 'btc_ingest launcher')",
    );
    queue.must_hold(&[first, second].concat());
}

#[test]
fn a_database_is_dropped_while_its_loaders_are_at_work() {
    let proxy = FaultProxy::before(s3());
    let (queue, _, loader) = hanging(&proxy, &[]);
    let name = queue.db.name().to_owned();
    let mut elsewhere = queue.server.cluster.client("postgres");
    send_sessions_away(&mut elsewhere, &name);
    let began = Instant::now();
    elsewhere.batch_execute(&format!("DROP DATABASE {name}")).unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(!is_running(loader.unsigned_abs()));
    // The launcher waits for a database of that name and starts nothing in the meantime.
    wait_until("the log", SOON, || {
        queue.db.log().contains(&format!("there is no database \"{name}\" (btc_ingest.database)"))
    });
    assert_eq!(
        text(
            &mut elsewhere,
            "SELECT string_agg(backend_type, ' ') FROM pg_stat_activity WHERE backend_type LIKE 'btc_ingest%'"
        ),
        "btc_ingest launcher"
    );
    assert!(!queue.db.log().contains("FATAL:  database"), "a worker was started in vain");
}

/// Ends all client sessions in a database, and waits for that; DROP DATABASE ends the workers.
fn send_sessions_away(client: &mut Client, database: &str) {
    let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                WHERE datname = $1 AND backend_type = 'client backend'";
    client.query(sql, &[&database]).unwrap();
}

#[test]
fn an_owner_without_other_privileges_drops_the_database_and_no_other_role_disturbs_its_workers() {
    let proxy = FaultProxy::before(s3());
    let (mut queue, slice, loader) = hanging(&proxy, &[]);
    let name = queue.db.name().to_owned();
    queue.run(&format!(
        "CREATE ROLE flow_owner LOGIN CREATEDB; CREATE ROLE flow_stranger LOGIN CREATEDB;
         ALTER DATABASE {name} OWNER TO flow_owner"
    ));
    let mut stranger = queue.server.cluster.client_as("postgres", "flow_stranger");
    for sql in [format!("DROP DATABASE {name}"), format!("ALTER DATABASE {name} RENAME TO {name}_taken")] {
        let refusal = Refusal::from(stranger.batch_execute(&sql).unwrap_err());
        assert_eq!(refusal.sqlstate, "42501", "{sql}: {refusal:?}");
    }
    assert_eq!(queue.loader_of(&slice.uri), loader);

    let mut owner = queue.server.cluster.client_as("postgres", "flow_owner");
    let mut elsewhere = queue.server.cluster.client("postgres");
    send_sessions_away(&mut elsewhere, &name);
    let began = Instant::now();
    owner.batch_execute(&format!("ALTER DATABASE {name} RENAME TO {name}_renamed")).unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");

    // The workers return to the database under its new name, and load what was in work.
    proxy.release();
    elsewhere.batch_execute(&format!("ALTER SYSTEM SET btc_ingest.database = '{name}_renamed'")).unwrap();
    elsewhere.batch_execute("SELECT pg_reload_conf()").unwrap();
    queue.client = queue.server.cluster.client(&format!("{name}_renamed"));
    queue.wait_loaded(std::slice::from_ref(&slice));
    assert_eq!(queue.state(&slice.uri), "loaded loaded 1");
    queue.must_hold(&[slice]);

    queue.client = queue.server.cluster.client("postgres");
    send_sessions_away(&mut elsewhere, &format!("{name}_renamed"));
    let began = Instant::now();
    owner.batch_execute(&format!("DROP DATABASE {name}_renamed")).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop((owner, stranger));
    queue.run("DROP ROLE flow_owner; DROP ROLE flow_stranger");
}

/// Runs a statement that needs a database without sessions. TimescaleDB ends its scheduler before the statement and
/// starts it again at once. If the new one comes before the statement's lock, PostgreSQL refuses the statement, also
/// without btc_ingest; then it is run again.
#[track_caller]
fn run_without_sessions(elsewhere: &mut Client, database: &str, statement: &str) {
    for _ in 0..5 {
        send_sessions_away(elsewhere, database);
        let began = Instant::now();
        let Err(error) = elsewhere.batch_execute(statement) else {
            let took = began.elapsed();
            assert!(took < Duration::from_secs(5), "{statement}: {took:?}");
            return;
        };
        let left = "SELECT backend_type FROM pg_stat_activity WHERE datname = $1";
        let left: Vec<String> = elsewhere.query(left, &[&database]).unwrap().iter().map(|row| row.get(0)).collect();
        let only_timescale = left.iter().all(|kind| kind.starts_with("TimescaleDB"));
        assert!(error.code().is_some_and(|code| code.code() == "55006") && only_timescale, "{left:?}: {error:?}");
    }
    panic!("{statement}: TimescaleDB's scheduler was there each time");
}

#[test]
fn a_database_is_copied_and_moved_while_its_loaders_are_at_work_and_they_come_back() {
    let proxy = FaultProxy::before(s3());
    let (mut queue, slice, first) = hanging(&proxy, &[]);
    let name = queue.db.name().to_owned();
    let mut elsewhere = queue.server.cluster.client("postgres");
    elsewhere.batch_execute("SET allow_in_place_tablespaces = on").unwrap();
    elsewhere.batch_execute(&format!("CREATE TABLESPACE other_{name} LOCATION ''")).unwrap();
    let mut loader = first;
    for statement in [
        format!("CREATE DATABASE {name}_copy TEMPLATE {name}"),
        format!("ALTER DATABASE {name} SET TABLESPACE other_{name}"),
        format!("ALTER DATABASE {name} SET TABLESPACE pg_default"),
    ] {
        run_without_sessions(&mut elsewhere, &name, &statement);
        queue.client = client_again(&queue.db.connection_string());
        let next = queue.loader_of(&slice.uri);
        assert_ne!(next, loader, "{statement}");
        loader = next;
    }
    proxy.clear();
    proxy.release();
    queue.wait_loaded(std::slice::from_ref(&slice));
    assert_eq!(queue.state(&slice.uri), "loaded loaded 1");
    queue.must_hold(&[slice]);
    // A statement that changes something else of the database leaves the workers alone.
    let loaders = queue.pids("loader");
    elsewhere.batch_execute(&format!("ALTER DATABASE {name} CONNECTION LIMIT 50")).unwrap();
    assert_eq!(queue.pids("loader"), loaders);
    elsewhere.batch_execute(&format!("DROP DATABASE {name}_copy")).unwrap();
    elsewhere.batch_execute(&format!("DROP TABLESPACE other_{name}")).unwrap();
}

#[test]
fn a_standby_does_nothing_until_it_is_promoted() {
    let proxy = FaultProxy::before(s3());
    let (mut queue, slice, _) = hanging(&proxy, &[]);
    let standby = queue.server.cluster.standby();
    let mut there = standby.client(queue.db.name());
    let workers = "SELECT count(*)::text FROM pg_stat_activity WHERE backend_type LIKE 'btc_ingest%'";
    queue.run("SELECT btc_ingest.pause_ingest()");
    let second = queue.put("BTCUSDT", 1);
    queue.register(&second);
    wait_until_true(&mut there, "the replay", "SELECT count(*) = 2 FROM landing.raw_blobs_5m");
    assert_eq!(text(&mut there, workers), "0");
    assert!(!standby.log().contains("btc_ingest launcher"));

    // The primary is gone for good, in the middle of a load.
    kill(queue.loader_of(&slice.uri).unsigned_abs());
    standby.promote();
    proxy.release();
    there.batch_execute("SELECT btc_ingest.resume_ingest()").unwrap();
    for of in [&slice, &second] {
        wait_until_true(
            &mut there,
            "the load",
            &format!("SELECT status = 'loaded' FROM ingestion.objects WHERE s3_uri = '{}'", of.uri),
        );
    }
    let third = queue.put("BTCUSDT", 2);
    register(&mut there, &third);
    wait_until_true(
        &mut there,
        "the producer's row",
        "SELECT count(*) = 3 FROM landing.raw_blobs_5m WHERE status = 'loaded'",
    );
    // The attempt that the primary had begun has no known end here.
    assert_eq!(
        text(&mut there, "SELECT string_agg(attempts::text, ' ' ORDER BY s3_uri) FROM ingestion.objects"),
        "2 1 1"
    );
    btc_ingest_kit::rows::must_hold(&mut there, [&slice, &second, &third].into_iter().flat_map(|of| &of.ticks));
    queue.client = client_again(&queue.db.connection_string());
}
