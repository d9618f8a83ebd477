//! Chunks that another statement has dropped: they are named, recorded, and then treated as those that retention drops.

use btc_ingest_kit::candles::{By, must_hold_candles};
use btc_ingest_kit::fixture::chunks::{some_ticks, week};
use btc_ingest_kit::fixture::{loaded, must_hold_sums};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::BUCKET_US;

use crate::retention_fixture::{DROPPED, HELD, RUN, RetentionFixture};

/// Drops the chunk of the first week by hand.
const BY_HAND: &str = "SELECT drop_chunks('market_data.btc_ticks', older_than => '2024-08-15'::timestamptz)";
const HOUR: i64 = 3_600_000_000;

/// Returns the line of doctor() about slices whose chunk does not exist: whether it is fine, what, and the hint.
fn line(fixture: &mut RetentionFixture) -> (bool, String, String) {
    let sql = "SELECT ok, detail, coalesce(hint, '') FROM btc_ingest.doctor() WHERE name = 'loaded slices'";
    let row = fixture.client.query_one(sql, &[]).unwrap();
    (row.get(0), row.get(1), row.get(2))
}

/// Runs the statement of the hint that records the range.
fn record(fixture: &mut RetentionFixture) {
    let hint = line(fixture).2;
    let from = hint.find("SELECT * FROM btc_ingest.record_dropped").unwrap_or_else(|| panic!("{hint}"));
    let to = hint[from..].find(';').unwrap() + from;
    fixture.run(&hint[from..to]);
}

#[test]
fn a_chunk_that_was_dropped_by_hand_is_named_recorded_and_stays_dropped() {
    let mut fixture = RetentionFixture::new();
    let weeks = fixture.load_weeks(0..3);
    // Two objects hold the same ticks of the first week, which count once.
    let again = fixture.put("again", &weeks[0]);
    loaded(&mut fixture.client, &again, "");
    fixture.run(BY_HAND);
    let (ok, detail, hint) = line(&mut fixture);
    assert!(ok && detail.contains("BTCUSDT 2024-08-08 00:00+00 to 2024-08-08 00:10+00"), "{detail}");
    assert!(hint.contains("CALL btc_ingest.backfill("), "{hint}");
    record(&mut fixture);
    assert_eq!(fixture.lines(DROPPED), [format!("2024-08-08 BTCUSDT {} 2", weeks[0].len())]);
    assert_eq!(line(&mut fixture), (true, "their chunks exist, or are recorded as dropped".into(), String::new()));
    let again = "SELECT * FROM btc_ingest.record_dropped('BTCUSDT', '2024-08-08', '2024-08-09')";
    assert!(fixture.refused(again, "TK044").hint.contains("btc_ingest.gone"));
    for args in ["NULL, '2024-08-08', '2024-08-09'", "'BTCUSDT', NULL, NULL", "'BTCUSDT', '2024-08-09', '2024-08-08'"] {
        fixture.refused(&format!("SELECT * FROM btc_ingest.record_dropped({args})"), "TK031");
    }

    // A late object does not bring it back, and it can be restored.
    let late = fixture.put("late", &some_ticks("BTCUSDT", week(0) + 2 * BUCKET_US, 1));
    fixture.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2024-08-08 00:10Z', 'BTCUSDT', '{late}')"
    ));
    fixture.run("CALL btc_ingest.run_sweep()");
    assert_eq!(fixture.text(&format!("SELECT status FROM ingestion.objects WHERE s3_uri = '{late}'")), "skipped");
    assert_eq!(fixture.chunks(), ["2024-08-15", "2024-08-22"]);
    fixture.run("CALL btc_ingest.restore_range('BTCUSDT', '2024-08-08', '2024-08-09')");
    must_hold_sums(&mut fixture.client, &weeks.concat());

    // One between others is a fault, until it is recorded.
    fixture.run(
        "SELECT drop_chunks('market_data.btc_ticks', older_than => '2024-08-22'::timestamptz,
                            newer_than => '2024-08-15'::timestamptz)",
    );
    assert!(!line(&mut fixture).0, "{:?}", line(&mut fixture));
    record(&mut fixture);
    assert!(line(&mut fixture).0, "{:?}", line(&mut fixture));
}

#[test]
fn candles_of_a_chunk_that_was_dropped_by_hand_stay_and_its_neighbours_are_not_held_back() {
    let Some(mut fixture) = RetentionFixture::of_community() else { return };
    let weeks = fixture.load_weeks(0..3);
    let all = weeks.concat();
    fixture.run("SELECT btc_ingest.create_candles('1 hour')");
    fixture.run("CALL btc_ingest.run_candles()");
    fixture.run(BY_HAND);
    record(&mut fixture);
    // A few of its ticks come back into a chunk, and everything is refreshed.
    let one: Vec<_> = weeks[0].iter().filter(|tick| tick.bucket_us() == week(0)).cloned().collect();
    let uri = fixture.put("one", &one);
    loaded(&mut fixture.client, &uri, "force => true");
    fixture.run("CALL btc_ingest.run_candles()");
    fixture.run("CALL btc_ingest.refresh_candles()");
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1h", &all, HOUR, By::Event);
    fixture.drop_before(2);
    fixture.run(RUN);
    assert_eq!(fixture.lines(HELD), [""; 0]);
    assert_eq!(fixture.chunks(), ["2024-08-22"]);
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1h", &all, HOUR, By::Event);
}
