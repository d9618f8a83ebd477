//! Candles of ticks that retention has dropped stay as they are.

use btc_ingest_kit::candles::{By, must_hold_candles};
use btc_ingest_kit::fixture::backfill::call;
use btc_ingest_kit::fixture::chunks::{some_ticks, week};
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::rows::but;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::{BUCKET_US, PRICE_UNIT, slice_key};
use btc_ingest_kit::{ParquetFile, Tick};

use crate::retention_fixture::{DROPPED, HELD, RUN, RetentionFixture};

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
fn candles_of_an_asset_that_appears_where_another_one_was_dropped_are_computed() {
    let Some(mut fixture) = RetentionFixture::of_community() else { return };
    let weeks = fixture.load_weeks(0..2);
    let mut all = weeks.concat();
    fixture.run("SELECT btc_ingest.create_candles(w::interval) FROM unnest('{1 minute,1 hour,1 day}'::text[]) w");
    fixture.run("CALL btc_ingest.run_candles()");
    fixture.drop_before(1);
    fixture.run(RUN);
    let first = some_ticks("ETHUSDT", week(0), 3);
    let uri = fixture.put("eth", &first);
    loaded(&mut fixture.client, &uri, "");
    fixture.run("CALL btc_ingest.run_candles()");
    all.extend(first.clone());
    must_hold_all(&mut fixture, &all);
    // A value that changes, and the same by a refresh of everything.
    let at = all.len() - first.len();
    all[at] = but(&all[at], |tick| tick.price += 100 * PRICE_UNIT);
    let uri = fixture.put("eth", &all[at..]);
    loaded(&mut fixture.client, &uri, r#"options => '{"on_conflict": "replace"}'"#);
    fixture.run("CALL btc_ingest.run_candles()");
    must_hold_all(&mut fixture, &all);
    fixture.run("CALL btc_ingest.refresh_candles()");
    must_hold_all(&mut fixture, &all);
    // What no refresh has reached is computed before it is dropped.
    let late = some_ticks("ETHUSDT", week(0) + 10 * BUCKET_US, 1);
    let uri = fixture.put("late", &late);
    loaded(&mut fixture.client, &uri, "");
    all.extend(late);
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), ["2024-08-15"]);
    must_hold_all(&mut fixture, &all);
    assert_eq!(fixture.lines(DROPPED).len(), 2, "{:?}", fixture.lines(DROPPED));
}

/// The sums of an aggregate that is not made by create_candles().
const FOREIGN: &str = "SELECT concat_ws(' ', day, symbol, trades, volume) FROM market_data.days ORDER BY day, symbol";

#[test]
fn a_chunk_that_is_attached_beside_a_dropped_range_changes_no_candle_there_and_none_is_attached_inside() {
    let Some(mut fixture) = RetentionFixture::of_community() else { return };
    let noon = |week_number: i64, day: i64| week(week_number) + (288 * day + 144) * BUCKET_US;
    // On the last day of the first week: the forced refresh of the next one reaches a day beyond its chunk.
    let dropped = some_ticks("BTCUSDT", noon(0, 6), 2);
    let uri = fixture.put("dropped", &dropped);
    loaded(&mut fixture.client, &uri, "");
    let newer = some_ticks("BTCUSDT", noon(3, 0), 2);
    let uri = fixture.put("newer", &newer);
    loaded(&mut fixture.client, &uri, "");
    fixture.run("SELECT btc_ingest.create_candles(w::interval) FROM unnest('{1 minute,1 hour,1 day}'::text[]) w");
    fixture.run(
        "CREATE MATERIALIZED VIEW market_data.days WITH (timescaledb.continuous) AS
         SELECT time_bucket('1 day', bucket_5m) AS day, symbol, count(*) AS trades, sum(quantity) AS volume
           FROM market_data.btc_ticks GROUP BY 1, 2",
    );
    fixture.run("CALL btc_ingest.run_candles()");
    let before = fixture.lines(FOREIGN);
    assert_eq!(before.len(), 2);
    fixture.drop_before(1);
    fixture.run(RUN);
    assert_eq!((fixture.chunks(), fixture.lines(HELD)), (vec!["2024-08-29".to_owned()], vec![]));

    let backfill = |fixture: &mut RetentionFixture, symbol: &str, first: i64| {
        let ticks = some_ticks(symbol, first, 1);
        let prefix = format!("{}/{symbol}", fixture.db.name());
        fixture.server.put(&slice_key(&prefix, symbol, first), ParquetFile::new().bytes(&ticks));
        let pattern =
            format!("s3://landing/{prefix}/{symbol}/{{yyyy}}/{{mm}}/{{dd}}/{{*}}_{{yyyy}}{{mm}}{{dd}}T{{hh}}{{mi}}Z");
        let called = call(&fixture.db.connection_string(), &[pattern], "mode => 'chunk', parallel => 1");
        assert_eq!(called.refusal, None, "{:#?}", called.said);
        let refreshed = "SELECT count(*) FROM ingestion.backfill_chunks WHERE refresh_due";
        assert_eq!(fixture.number(refreshed), 0);
        (
            ticks,
            fixture.text(
                "SELECT concat_ws(': ', status, note) FROM ingestion.backfill_chunks ORDER BY backfill DESC LIMIT 1",
            ),
        )
    };
    let (beside, unit) = backfill(&mut fixture, "BTCUSDT", noon(1, 0));
    assert!(unit.starts_with("attached"), "{unit}");
    let (inside, unit) = backfill(&mut fixture, "ETHUSDT", noon(0, 6));
    assert!(unit.starts_with("objects: retention has dropped ticks of it"), "{unit}");
    fixture.run("CALL btc_ingest.run_candles()");
    must_hold_all(&mut fixture, &[dropped, beside, inside, newer].concat());
    let after = fixture.lines(FOREIGN);
    assert!(before.iter().all(|line| after.contains(line)), "{before:?} {after:?}");
    assert!(after.iter().any(|line| line.starts_with("2024-08-15")), "the attached chunk is in it: {after:?}");
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
