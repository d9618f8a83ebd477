//! Candles of ticks that retention has dropped stay as they are.

use btc_ingest_kit::Tick;
use btc_ingest_kit::candles::{By, must_hold_candles};
use btc_ingest_kit::fixture::chunks::{some_ticks, week};
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::rows::but;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::{BUCKET_US, PRICE_UNIT};

use crate::retention_fixture::{HELD, RUN, RetentionFixture};

const MINUTE: i64 = 60_000_000;

#[track_caller]
fn must_hold_all(fixture: &mut RetentionFixture, ticks: &[Tick]) {
    for (name, width) in [("1m", MINUTE), ("1h", 60 * MINUTE), ("1d", 1440 * MINUTE)] {
        must_hold_candles(&mut fixture.client, &format!("market_data.btc_ohlcv_{name}"), ticks, width, By::Event);
    }
}

#[test]
fn dropping_ticks_changes_no_candle() {
    let Some(mut fixture) = RetentionFixture::of_community() else { return };
    let weeks = fixture.load_weeks(0..3);
    fixture.run("SELECT btc_ingest.create_candles(w::interval) FROM unnest('{1 minute,1 hour,1 day}'::text[]) w");
    fixture.drop_before(2);
    fixture.run(RUN);
    let held = fixture.lines(HELD);
    assert!(held.len() == 2 && held[0].contains("changed since the last refresh of market_data.btc_ohlcv"), "{held:?}");
    assert_eq!(fixture.chunks().len(), 3, "no candle holds these ticks yet");
    fixture.run("CALL btc_ingest.run_candles()");
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), ["2024-08-22"]);
    let mut all = weeks.concat();
    must_hold_all(&mut fixture, &all);

    // Late ticks beside the edge, a forced refresh, and one slice that comes back into the dropped chunk.
    let late = some_ticks("BTCUSDT", week(2) + 2 * BUCKET_US, 1);
    let uri = fixture.put("late", &late);
    loaded(&mut fixture.client, &uri, "");
    all.extend(late);
    fixture.run("CALL btc_ingest.run_candles()");
    must_hold_all(&mut fixture, &all);
    let one: Vec<Tick> = weeks[0].iter().filter(|tick| tick.bucket_us() == week(0)).cloned().collect();
    let uri = fixture.put("one", &one);
    loaded(&mut fixture.client, &uri, "force => true");
    assert_eq!(fixture.chunks(), ["2024-08-08", "2024-08-22"]);
    fixture.run("CALL btc_ingest.run_candles()");
    fixture.run("CALL btc_ingest.refresh_candles()");
    must_hold_all(&mut fixture, &all);
    // The rest of the chunk is dropped again, and nothing is refreshed before.
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), ["2024-08-22"]);
    must_hold_all(&mut fixture, &all);

    // What comes back is in the candles: also what has changed meanwhile.
    fixture.run("CALL btc_ingest.restore_range('BTCUSDT', '2024-08-08', '2024-08-22')");
    fixture.run("CALL btc_ingest.run_candles()");
    must_hold_all(&mut fixture, &all);
    let mut right = all.clone();
    right[0] = but(&right[0], |tick| tick.price += 100 * PRICE_UNIT);
    let uri = fixture.put("right", &right[..weeks[0].len()]);
    loaded(&mut fixture.client, &uri, r#"options => '{"on_conflict": "replace"}'"#);
    fixture.run("CALL btc_ingest.run_candles()");
    must_hold_all(&mut fixture, &right);
}

#[test]
fn policies_that_would_delete_candles_are_named_and_the_hint_removes_them() {
    let Some(mut fixture) = RetentionFixture::of_community() else { return };
    let weeks = fixture.load_weeks(0..2);
    fixture.run("SELECT btc_ingest.create_candles('1 hour')");
    fixture.run("CALL btc_ingest.run_candles()");
    fixture.drop_before(1);
    fixture.run(RUN);
    // One without a range of its own. TimescaleDB's log does not know that ticks were dropped, so that even its refresh
    // leaves the candles, as long as no late tick comes.
    fixture.run(
        "SELECT add_continuous_aggregate_policy('market_data.btc_ohlcv_1h', start_offset => NULL,
                                                end_offset => '1 hour'::interval, schedule_interval => '1 day');
         ",
    );
    fixture.run("CALL refresh_continuous_aggregate('market_data.btc_ohlcv_1h', NULL, '2024-09-01')");
    let all = weeks.concat();
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1h", &all, 60 * MINUTE, By::Event);
    let doctor = fixture.doctor();
    let line =
        doctor.iter().find(|line| !line.0 && line.1.contains("compute candles of market_data.btc_ohlcv_1h again"));
    let hint = line.unwrap_or_else(|| panic!("{doctor:?}")).2.clone();
    fixture.run(&hint);
    assert!(fixture.doctor().iter().all(|line| line.0), "{:?}", fixture.doctor());
}
