//! `verify_all()`: long ranges, window after window.

use std::time::{Duration, Instant};

use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::{BUCKET, session};
use btc_ingest_kit::rows::{but, ticks, ticks_of};
use btc_ingest_kit::sql::{Session, number};
use btc_ingest_kit::wait::{SOON, wait_until};
use btc_ingest_kit::{Fault, FaultProxy, Tick, When};

use crate::quality_fixture::QualityFixture;

const DAY_US: i64 = 86_400_000_000;
const STATUS: &str = "SELECT concat_ws(' ', id, asset, status, slices, ticks, different, unproven,
                                       finished_at IS NOT NULL) FROM btc_ingest.verification_status()";
const FINDINGS: &str = "SELECT concat_ws(' ', verification, to_char(bucket_5m AT TIME ZONE 'UTC', 'MM-DD HH24:MI'),
                                         outcome, missing, missing_ids, extra, extra_ids, differing, differing_ids,
                                         problem) FROM ingestion.verification_findings ORDER BY bucket_5m";

/// Returns 100 ticks at noon, so many days later.
fn on_day(day: i64) -> Vec<Tick> {
    let later = |tick: Tick| but(&tick, |tick| tick.event_time_us += day * DAY_US);
    ticks(100 * day + 1, 100).into_iter().map(later).collect()
}

/// Loads an object a day.
fn days(fixture: &mut QualityFixture, count: i64) {
    for day in 0..count {
        fixture.load(&day.to_string(), &on_day(day));
    }
}

#[test]
fn a_long_verification_finds_what_verify_range_finds() {
    let mut fixture = QualityFixture::new();
    days(&mut fixture, 6);
    fixture.load("eth", &ticks_of("ETHUSDT", 1, 10));
    fixture.run(
        "UPDATE market_data.btc_ticks SET price = price + 1 WHERE trade_id = 107;
         DELETE FROM market_data.btc_ticks WHERE trade_id IN (205, 206, 207);
         INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity)
         VALUES ('2024-08-01 12:05Z', '2024-08-01 12:06Z', 'BTCUSDT', 5000, 1, 1),
                ('2024-09-01 12:05Z', '2024-09-01 12:06Z', 'BTCUSDT', 5001, 1, 1)",
    );
    fixture.server.s3.delete(BUCKET, &fixture.key("4"));
    fixture.run("CALL btc_ingest.verify_all(most => 2)");
    assert_eq!(fixture.texts(STATUS), ["1 BTCUSDT done 8 599 4 1 t", "2 ETHUSDT done 1 10 0 0 t"]);
    let uri = format!("s3://landing/{}", fixture.key("4"));
    let wanted = [
        "1 08-01 12:05 different 0 {} 1 {5000} 0 {}".to_owned(),
        "1 08-09 12:00 different 0 {} 0 {} 1 {107}".to_owned(),
        "1 08-10 12:00 different 3 {205,206} 0 {} 0 {}".to_owned(),
        format!("1 08-12 12:00 unproven 0 {{}} 0 {{}} {uri} is gone"),
        "1 09-01 12:05 different 0 {} 1 {5001} 0 {}".to_owned(),
    ];
    assert_eq!(fixture.texts(FINDINGS), wanted);
    // A finished one is not taken up.
    fixture.run("CALL btc_ingest.verify_all('ETHUSDT')");
    assert_eq!(fixture.texts(STATUS)[2], "3 ETHUSDT done 1 10 0 0 t");
    fixture.run("CALL btc_ingest.verify_all('BTCUSDT', '2024-08-08', '2024-08-10')");
    assert_eq!(fixture.texts(STATUS)[3], "4 BTCUSDT done 2 200 1 0 t");
}

#[test]
fn a_verification_of_years_goes_on_where_it_was_cancelled() {
    let mut fixture = QualityFixture::new();
    days(&mut fixture, 5);
    let proxy = FaultProxy::before(&fixture.server.s3);
    // The third day is held up.
    proxy.on(When::get().key(&fixture.key("2")), Fault::Hang);
    let mut client = session(&fixture.db, &proxy.endpoint(), &[]);
    let pid = backend_pid(&mut client);
    let call = "CALL btc_ingest.verify_all('BTCUSDT')";
    std::thread::scope(|scope| {
        let running = scope.spawn(|| (client.batch_execute(call).unwrap_err(), Instant::now()));
        proxy.wait_until_stalled(SOON);
        assert_eq!(fixture.texts(STATUS), ["1 BTCUSDT running 2 200 0 0 f"]);
        let start = Instant::now();
        number(&mut fixture.client, &format!("SELECT pg_cancel_backend({pid})::int::bigint"));
        let (refused, at) = running.join().unwrap();
        assert_eq!(refused.code().unwrap().code(), "57014");
        assert!(at - start < Duration::from_secs(1), "{:?}", at - start);
    });
    proxy.clear();
    proxy.release();
    assert_eq!(fixture.texts(STATUS), ["1 BTCUSDT running 2 200 0 0 f"]);
    // Other arguments are another verification.
    fixture.run("CALL btc_ingest.verify_all('BTCUSDT', '2024-08-08', '2024-08-09')");
    let before = proxy.requests().len();
    client.batch_execute(call).unwrap();
    assert_eq!(fixture.texts(STATUS), ["1 BTCUSDT done 5 500 0 0 t", "2 BTCUSDT done 1 100 0 0 t"]);
    let read: Vec<String> = proxy.requests()[before..].iter().map(|request| format!("{request:?}")).collect();
    for (day, wanted) in [("0", false), ("1", false), ("2", true), ("4", true)] {
        let key = fixture.key(day);
        assert_eq!(read.iter().any(|request| request.contains(&key)), wanted, "{day}: {read:#?}");
    }
}

#[test]
fn an_object_over_several_windows_is_read_by_one() {
    let mut fixture = QualityFixture::new();
    // Three days in one object, and a small one behind.
    let all: Vec<Tick> = (0..3).flat_map(on_day).collect();
    fixture.load("large", &all);
    fixture.load("small", &on_day(3));
    let proxy = FaultProxy::before(&fixture.server.s3);
    let mut client = session(&fixture.db, &proxy.endpoint(), &[]);
    client.batch_execute("CALL btc_ingest.verify_all('BTCUSDT')").unwrap();
    assert_eq!(fixture.texts(STATUS), ["1 BTCUSDT done 4 400 0 0 t"]);
    let once = proxy.requests().len();
    // With the least memory a window takes a week, and the object reaches over two of them.
    let later = |tick: &Tick| but(tick, |tick| tick.event_time_us += 10 * DAY_US);
    let far = all.iter().map(|tick| but(&later(tick), |tick| tick.trade_id += 10_000));
    let far: Vec<Tick> = all.iter().cloned().chain(far).collect();
    fixture.load("large", &far);
    client.batch_execute("SET btc_ingest.memory_limit = '8MB'").unwrap();
    client.batch_execute("CALL btc_ingest.verify_all('BTCUSDT')").unwrap();
    assert_eq!(fixture.texts(STATUS)[1], "2 BTCUSDT done 7 700 0 0 t");
    assert!(proxy.requests().len() > once);
}

#[test]
fn two_calls_with_the_same_arguments_take_turns() {
    let mut fixture = QualityFixture::new();
    days(&mut fixture, 6);
    let proxy = FaultProxy::before(&fixture.server.s3);
    proxy.on(When::get().key(&fixture.key("1")), Fault::Hang);
    let call = "CALL btc_ingest.verify_all('BTCUSDT')";
    let mut sessions: Vec<_> = (0..2).map(|_| session(&fixture.db, &proxy.endpoint(), &[])).collect();
    std::thread::scope(|scope| {
        let (first, second) = sessions.split_at_mut(1);
        scope.spawn(|| first[0].batch_execute(call).unwrap());
        proxy.wait_until_stalled(SOON);
        let pid = backend_pid(&mut second[0]);
        scope.spawn(|| second[0].batch_execute(call).unwrap());
        let waits = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Lock'");
        wait_until("the second call to wait for the first", SOON, || fixture.number(&waits) == 1);
        proxy.clear();
        proxy.release();
    });
    assert_eq!(fixture.texts(STATUS), ["1 BTCUSDT done 6 600 0 0 t"]);
}

#[test]
fn a_changed_tick_is_recorded_once_per_verification() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ticks(1, 10));
    fixture.run("UPDATE market_data.btc_ticks SET quantity = quantity + 1 WHERE trade_id = 4");
    fixture.run("CALL btc_ingest.verify_all()");
    fixture.run("CALL btc_ingest.verify_all()");
    let found = fixture.texts(FINDINGS);
    assert_eq!(found, ["1 08-08 12:00 different 0 {} 0 {} 1 {4}", "2 08-08 12:00 different 0 {} 0 {} 1 {4}"]);
}

#[test]
fn a_wrong_argument_of_a_long_verification_gets_one_clear_error() {
    let mut fixture = QualityFixture::new();
    for (args, about) in [
        ("'BTCUSDT', 'today', 'yesterday'", "to"),
        ("''", "asset"),
        ("'BTCUSDT', NULL", "from"),
        ("'BTCUSDT', 'yesterday', NULL", "to"),
        ("'BTCUSDT', most => 10001", "most"),
    ] {
        let refusal = fixture.refused(&format!("CALL btc_ingest.verify_all({args})"));
        assert_eq!(refusal.sqlstate, "TK002", "{args}: {refusal:?}");
        assert!(refusal.message.contains(about), "{args}: {refusal:?}");
    }
    let refusal = fixture.refused("SELECT * FROM btc_ingest_internal.verify_step(7, 10)");
    assert!(refusal.sqlstate == "TK002" && refusal.message.contains("no verification 7"), "{refusal:?}");
    // Nothing is loaded.
    fixture.run("CALL btc_ingest.verify_all()");
    let inside = fixture.refused("BEGIN; CALL btc_ingest.verify_all('BTCUSDT'); COMMIT");
    assert_eq!(inside.sqlstate, "2D000", "{inside:?}");
}
