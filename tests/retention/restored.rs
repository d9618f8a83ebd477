//! What was dropped does not come back by accident, and comes back on purpose.

use btc_ingest_kit::fixture::backfill::call;
use btc_ingest_kit::fixture::chunks::{some_ticks, week};
use btc_ingest_kit::fixture::{loaded, must_hold_sums, refused};
use btc_ingest_kit::rows::but;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::{BUCKET_US, PRICE_UNIT};
use btc_ingest_kit::{Generator, Tick};

use crate::retention_fixture::{DROPPED, RUN, RetentionFixture};

#[test]
fn a_dropped_range_does_not_come_back_by_accident() {
    let mut fixture = RetentionFixture::new();
    let weeks = fixture.load_weeks(0..2);
    fixture.drop_before(1);
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), ["2024-08-15"]);
    let prefix = format!("s3://landing/{}/", fixture.db.name());
    let status = |uri: &str| format!("SELECT status FROM ingestion.objects WHERE s3_uri = '{uri}'");

    // A listing, and a backfill that reads everything again.
    for args in ["", "force => true"] {
        let called = call(&fixture.db.connection_string(), std::slice::from_ref(&prefix), args);
        assert_eq!(called.refusal, None, "{args}: {:#?}", called.said);
        assert_eq!(fixture.chunks(), ["2024-08-15"], "{args}");
        assert_eq!(fixture.text(&status(&fixture.uri("week0"))), "loaded", "{args}");
    }
    // A replaced object.
    let mut replaced = weeks[0].clone();
    replaced[0] = but(&replaced[0], |tick| tick.price += PRICE_UNIT);
    let uri = fixture.put("week0", &replaced);
    fixture.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2024-08-08 00:00Z', 'BTCUSDT', '{uri}')
         ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri"
    ));
    fixture.run("CALL btc_ingest.run_sweep()");
    assert_eq!(fixture.text(&status(&uri)), "skipped");
    // A late object.
    let late = fixture.put("late", &some_ticks("BTCUSDT", week(0) + 3_600_000_000, 1));
    fixture.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2024-08-08 01:00Z', 'BTCUSDT', '{late}')"
    ));
    fixture.run("CALL btc_ingest.run_sweep()");
    assert_eq!(fixture.text(&status(&late)), "skipped");
    let why = fixture.text(&format!("SELECT last_error FROM ingestion.objects WHERE s3_uri = '{late}'"));
    assert_eq!(why, "the ticks of BTCUSDT from 2024-08-08 to 2024-08-15 were dropped by retention");
    assert_eq!(fixture.chunks(), ["2024-08-15"]);
    must_hold_sums(&mut fixture.client, &weeks[1]);

    // By hand, it asks for force.
    let refusal = refused(&mut fixture.client, &late, "", "TK042");
    assert!(refusal.hint.contains("force => true") && refusal.hint.contains("restore_range"), "{refusal:?}");
    loaded(&mut fixture.client, &late, "force => true");
    assert_eq!(fixture.chunks(), ["2024-08-08", "2024-08-15"]);
    assert_eq!(fixture.lines(DROPPED).len(), 1, "the range is still recorded as dropped");
}

#[test]
fn ticks_of_a_dropped_range_are_refused_in_whichever_batch_of_an_object_they_come() {
    let mut fixture = RetentionFixture::new();
    fixture.load_weeks(1..2);
    fixture.drop_before(2);
    fixture.run(RUN);
    // More ticks than a batch holds before the dropped range, and a few in it.
    let start = week(1) - 2 * BUCKET_US;
    let first_id = fixture.number("SELECT max(last_trade_id) + 1 FROM ingestion.object_slices");
    let ticks = Generator::new(7, "BTCUSDT", start, first_id).per_second(150.0).next_slices(3);
    assert!(ticks.len() > 100_000, "{}", ticks.len());
    let uri = fixture.put("across", &ticks);
    refused(&mut fixture.client, &uri, "", "TK042");
    assert_eq!(fixture.chunks(), [""; 0], "nothing of it is kept");
    // What ends before the range, and what begins behind it.
    let before: Vec<Tick> = ticks.iter().filter(|tick| tick.bucket_us() < week(1)).cloned().collect();
    let uri = fixture.put("before", &before);
    loaded(&mut fixture.client, &uri, "");
    let behind = some_ticks("BTCUSDT", week(2), 1);
    let uri = fixture.put("behind", &behind);
    loaded(&mut fixture.client, &uri, "");
    must_hold_sums(&mut fixture.client, &[before, behind].concat());
}

#[test]
fn restore_range_brings_equal_sums_back_and_keeps_them_for_a_time() {
    let mut fixture = RetentionFixture::new();
    let weeks = fixture.load_weeks(0..3);
    fixture.drop_before(3);
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), [""; 0]);
    let refusal = fixture.refused("CALL btc_ingest.restore_range('ETHUSDT', '2024-08-08', '2024-08-09')", "TK043");
    assert!(refusal.hint.contains("btc_ingest.retention"), "{refusal:?}");
    fixture.run("CALL btc_ingest.restore_range('BTCUSDT', '2024-08-10', '2024-08-16')");
    must_hold_sums(&mut fixture.client, &weeks[..2].concat());
    let states = "SELECT string_agg(state, ' ' ORDER BY range_from, since) FROM btc_ingest.retention";
    assert_eq!(fixture.text(states), "restored restored dropped");
    fixture.run(RUN);
    must_hold_sums(&mut fixture.client, &weeks[..2].concat());
    fixture.run("UPDATE ops.dropped_ranges SET keep_until = now() WHERE from_time = '2024-08-08'");
    fixture.run(RUN);
    must_hold_sums(&mut fixture.client, &weeks[1]);
    assert_eq!(fixture.text(states), "restored dropped restored dropped");
}

#[test]
fn restore_range_loads_what_belongs_to_the_range_and_nothing_else() {
    let mut fixture = RetentionFixture::new();
    let weeks = fixture.load_weeks(0..2);
    fixture.drop_before(2);
    fixture.run(RUN);
    let other = fixture.put("other", &some_ticks("BTCUSDT", week(5), 1));
    fixture.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2024-09-12 00:00Z', 'BTCUSDT', '{other}')"
    ));
    fixture.run("CALL btc_ingest.restore_range('BTCUSDT', '2024-08-08', '2024-08-09')");
    must_hold_sums(&mut fixture.client, &weeks[0]);
    let status = format!("SELECT status FROM ingestion.objects WHERE s3_uri = '{other}'");
    assert_eq!(fixture.text(&status), "pending", "it is enqueued and left to the workers");
    assert_eq!(
        fixture.number("SELECT count(*) FROM ingestion.load_history"),
        3,
        "two loads, and the one that restores"
    );
    fixture.run("CALL btc_ingest.run_sweep()");
    assert_eq!(fixture.text(&status), "loaded");
}

#[test]
fn a_range_is_not_restored_as_long_as_an_object_is_missing() {
    let mut fixture = RetentionFixture::new();
    let weeks = fixture.load_weeks(0..1);
    fixture.drop_before(1);
    fixture.run(RUN);
    fixture.server.s3.delete("landing", &fixture.key("week0"));
    let restore = "CALL btc_ingest.restore_range('BTCUSDT', '2024-08-08', '2024-08-09')";
    let refusal = fixture.refused(restore, "TK043");
    assert!(refusal.message.contains(&fixture.uri("week0")), "{refusal:?}");
    assert_eq!(fixture.text("SELECT state FROM btc_ingest.retention"), "restoring");
    fixture.put("week0", &weeks[0]);
    fixture.run(restore);
    must_hold_sums(&mut fixture.client, &weeks[0]);
}
