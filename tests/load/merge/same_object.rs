//! The same object again.

use super::*;

#[test]
fn the_same_etag_again_is_already_loaded_and_costs_one_head() {
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &ticks(1, 100));
    let first = fixture.load(&uri, "");
    assert_eq!((first.counts(), first.outcome.as_str()), ([100, 100, 0, 0, 0, 0], "loaded"));
    assert_eq!((first.slices, first.uri.as_str()), (1, uri.as_str()));

    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.run(&format!("SET btc_ingest.s3_endpoint = '{}'", proxy.endpoint()));
    let before = fixture.rows_everywhere();
    let again = fixture.load(&uri, "");
    assert_eq!((again.counts(), again.outcome.as_str()), ([0; 6], "already loaded"));
    assert_eq!((again.slices, again.bytes, again.etag), (0, 0, first.etag));
    assert_eq!((proxy.count("HEAD"), proxy.count("GET")), (1, 0));
    // Only the history grows.
    assert_eq!(fixture.rows_everywhere(), before.replace("history 1", "history 2"));
    must_hold(&mut fixture.client, &ticks(1, 100));
}

#[test]
fn the_etag_of_the_report_is_that_of_the_object_without_quotes() {
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &ticks(1, 3));
    let etag = fixture.server.s3.etag(BUCKET, uri.split_once("landing/").unwrap().1);
    assert_eq!(fixture.load(&uri, "").etag, etag.trim_matches('"'));
}

#[test]
fn force_finds_every_tick_a_duplicate() {
    let mut fixture = LoadFixture::new();
    let ticks = Generator::new(7, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).next_slices(2);
    let uri = fixture.put("a.parquet", &ticks);
    fixture.load(&uri, "");
    let rows = ticks.len() as i64;
    let again = fixture.load(&uri, KEEP);
    assert_eq!((again.counts(), again.outcome.as_str()), ([rows, 0, rows, 0, 0, 0], "loaded"));
    assert_eq!(fixture.load(&uri, REPLACE).counts(), [rows, 0, rows, 0, 0, 0]);
    assert_eq!(fixture.load(&uri, ABORT).counts(), [rows, 0, rows, 0, 0, 0]);
    must_hold(&mut fixture.client, &ticks);
    assert_eq!(fixture.rejected(), []);
}

#[test]
fn duplicates_are_not_written_again() {
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &ticks(1, 50));
    fixture.load(&uri, "");
    let versions = "SELECT string_agg(xmin::text || ctid::text, ' ' ORDER BY trade_id) FROM market_data.btc_ticks";
    let before = fixture.text(versions);
    fixture.load(&uri, KEEP);
    fixture.load(&uri, REPLACE);
    assert_eq!(fixture.text(versions), before);
}
