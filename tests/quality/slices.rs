//! `slice_ledger()`: what the loads have recorded of each slice.

use btc_ingest_kit::Tick;
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::rows::{but, moved, ticks, ticks_of};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::PRICE_UNIT;

use crate::quality_fixture::QualityFixture;

/// Returns a line per slice of BTCUSDT with these columns.
fn ledger(fixture: &mut QualityFixture, columns: &str) -> Vec<String> {
    fixture.texts(&format!(
        "SELECT concat_ws(' ', to_char(bucket_5m AT TIME ZONE 'UTC', 'HH24:MI'), {columns})
           FROM btc_ingest.slice_ledger('BTCUSDT')"
    ))
}

/// Returns the ticks with these ids out of ids 1 to 1,200, one per second from 12:00 on.
fn ids(ranges: &[std::ops::RangeInclusive<i64>]) -> Vec<Tick> {
    ticks(1, 1200).into_iter().filter(|tick| ranges.iter().any(|range| range.contains(&tick.trade_id))).collect()
}

#[test]
fn a_slice_has_its_ids_and_what_is_missing_inside_and_before_it() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ids(&[2..=100, 111..=250]));
    fixture.load("b", &ids(&[200..=260, 621..=900]));
    fixture.load("other", &ticks_of("ETHUSDT", 7, 5));
    let columns = "ticks, first_trade_id, last_trade_id, missing_inside, 'before', missing_before, objects";
    assert_eq!(ledger(&mut fixture, columns), ["12:00 249 2 260 10 before 2", "12:10 280 621 900 0 before 360 1"]);
    let part = "SELECT concat_ws(' ', ticks, missing_before)
                  FROM btc_ingest.slice_ledger('BTCUSDT', '2024-08-08 12:14:59Z', '2024-08-08 12:15Z')";
    assert_eq!(fixture.texts(part), ["280 360"]);
    fixture.run("SELECT btc_ingest.declare_asset('BTCUSDT', false)");
    assert_eq!(ledger(&mut fixture, columns), ["12:00 249 2 260 before 2", "12:10 280 621 900 before 1"]);
    let none = "SELECT count(*) FROM btc_ingest.slice_ledger('SOLUSDT')";
    assert_eq!(fixture.number(none), 0);
}

#[test]
fn ids_at_the_ends_of_the_numbers_are_counted() {
    let mut fixture = QualityFixture::new();
    let mut both = ticks(1, 2);
    (both[0].trade_id, both[1].trade_id) = (i64::MIN, i64::MAX);
    fixture.load("a", &both);
    assert_eq!(ledger(&mut fixture, "ticks, missing_inside"), ["12:00 2 9223372036854775807"]);
}

#[test]
fn duplicates_and_conflicts_are_counted_at_their_slice() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ids(&[1..=100, 301..=400, 601..=700]));
    // Over three slices: the first has duplicates, the second conflicts, the third is new but for a repeated row.
    let mut all = ids(&[91..=110, 301..=303, 701..=710]);
    all.iter_mut().filter(|tick| tick.trade_id > 300 && tick.trade_id < 303).for_each(|tick| tick.price += PRICE_UNIT);
    all.push(all[all.len() - 1].clone());
    let report = fixture.load("b", &all);
    assert_eq!((report.inserted, report.duplicate, report.conflicting), (20, 12, 2));
    let columns = "ticks, 'duplicates', duplicates, 'conflicts', conflicts";
    let wanted = [
        "12:00 110 duplicates 10 conflicts 0",
        "12:05 100 duplicates 1 conflicts 2",
        "12:10 110 duplicates 1 conflicts 0",
    ];
    assert_eq!(ledger(&mut fixture, columns), wanted);
}

#[test]
fn replaced_ticks_and_ticks_of_a_neighbouring_bucket_are_conflicts() {
    let mut fixture = QualityFixture::new();
    fixture.run("SET btc_ingest.max_conflict_fraction = 1");
    fixture.load("a", &ids(&[1..=100]));
    let changed: Vec<Tick> = ids(&[1..=5]).iter().map(|tick| but(tick, |tick| tick.price += PRICE_UNIT)).collect();
    let uri = fixture.put("b", &changed);
    loaded(&mut fixture.client, &uri, r#"options => '{"on_conflict": "replace"}'"#);
    assert_eq!(ledger(&mut fixture, "duplicates, conflicts"), ["12:00 0 5"]);
    // The same trades one bucket later: they stay where they are, or they move.
    let later: Vec<Tick> = ids(&[11..=12]).iter().map(|tick| moved(tick, 1)).collect();
    let report = fixture.load("later", &later);
    assert_eq!(report.conflicting, 2);
    assert_eq!(ledger(&mut fixture, "duplicates, conflicts"), ["12:00 0 5", "12:05 0 2"]);
    let later: Vec<Tick> = ids(&[21..=23]).iter().map(|tick| moved(tick, 1)).collect();
    let uri = fixture.put("move", &later);
    loaded(&mut fixture.client, &uri, r#"options => '{"on_conflict": "replace"}'"#);
    assert_eq!(ledger(&mut fixture, "duplicates, conflicts"), ["12:00 0 5", "12:05 0 5"]);
}

#[test]
fn a_version_that_is_loaded_again_is_no_duplicate_of_itself() {
    let mut fixture = QualityFixture::new();
    let report = fixture.load("a", &ids(&[1..=400]));
    let columns = "ticks, duplicates, conflicts";
    let wanted = ["12:00 300 0 0", "12:05 100 0 0"];
    assert_eq!(loaded(&mut fixture.client, &report.uri, "force => true").duplicate, 400);
    assert_eq!(ledger(&mut fixture, columns), wanted);
    fixture.run("SELECT * FROM btc_ingest.reload_slice('BTCUSDT', '2024-08-08 12:05Z')");
    assert_eq!(ledger(&mut fixture, columns), wanted);
    // Another version is.
    fixture.load("a", &ids(&[1..=401]));
    assert_eq!(ledger(&mut fixture, columns), ["12:00 300 300 0", "12:05 101 100 0"]);
}

#[test]
fn ticks_outside_the_registered_bucket_are_counted() {
    let mut fixture = QualityFixture::new();
    let uri = fixture.put("a", &ids(&[299..=302]));
    fixture.run(&format!("SELECT btc_ingest.register_s3_slice('{uri}', 'BTCUSDT', '2024-08-08 12:00Z')"));
    loaded(&mut fixture.client, &uri, "");
    // No producer has registered these.
    fixture.load("b", &ids(&[601..=602]));
    let outside = ["12:00 0", "12:05 2", "12:10 0"];
    assert_eq!(ledger(&mut fixture, "unregistered"), outside);
    // Nor is a new version of an object outside what its own load has registered.
    fixture.load("b", &ids(&[601..=602, 901..=901]));
    assert_eq!(ledger(&mut fixture, "unregistered"), ["12:00 0", "12:05 2", "12:10 0", "12:15 0"]);
    // By an object that was registered for another asset.
    let uri = fixture.put("c", &ids(&[901..=905]));
    fixture.run(&format!("SELECT btc_ingest.register_s3_slice('{uri}', 'ETHUSDT', '2024-08-08 12:15Z')"));
    loaded(&mut fixture.client, &uri, "");
    assert_eq!(ledger(&mut fixture, "unregistered"), ["12:00 0", "12:05 2", "12:10 0", "12:15 5"]);
}

#[test]
fn ticks_over_the_limit_of_time_skew_are_counted() {
    let mut fixture = QualityFixture::new();
    // Half a second, a whole one, and so on.
    let skewed = |first_id: i64, buckets: i64| -> Vec<Tick> {
        let skew = |tick: &Tick| 500_000 * (tick.trade_id - first_id + 1);
        ticks(first_id, 5)
            .iter()
            .map(|tick| but(&moved(tick, buckets), |tick| tick.trade_time_us = Some(tick.event_time_us - skew(tick))))
            .collect()
    };
    fixture.load("a", &skewed(1, 0));
    assert_eq!(ledger(&mut fixture, "skewed, max_time_skew"), ["12:00 3 00:00:02.5"]);
    fixture.run("SET btc_ingest.time_skew_limit = '2s'");
    fixture.load("b", &skewed(1001, 1));
    assert_eq!(ledger(&mut fixture, "skewed")[1], "12:05 1");
}

#[test]
fn a_slice_knows_when_it_was_seen_first_and_changed_last() {
    let mut fixture = QualityFixture::new();
    let seen = |fixture: &mut QualityFixture, column: &str| {
        fixture.text(&format!("SELECT ({column})::text FROM btc_ingest.slice_ledger('BTCUSDT')"))
    };
    fixture.load("a", &ids(&[1..=100]));
    let first = seen(&mut fixture, "first_seen");
    assert_eq!(seen(&mut fixture, "last_changed"), first);
    // Nothing new.
    fixture.load("b", &ids(&[1..=50]));
    assert_eq!(seen(&mut fixture, "last_changed"), first);
    fixture.load("c", &ids(&[101..=101]));
    let changed = "last_changed = (SELECT max(loaded_at) FROM ingestion.object_slices) AND last_changed > first_seen";
    assert_eq!(seen(&mut fixture, changed), "true");
    fixture.run("SELECT * FROM btc_ingest.reload_slice('BTCUSDT', '2024-08-08 12:00Z')");
    fixture.run("SELECT * FROM btc_ingest.reload_slice('BTCUSDT', '2024-08-08 12:00Z')");
    assert_eq!(seen(&mut fixture, "first_seen"), first);
    assert_eq!(seen(&mut fixture, "last_changed > first_seen"), "true");
}

#[test]
fn deleted_and_added_ticks_show_in_the_number_of_stored_ones() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ids(&[1..=400]));
    fixture.run(
        "DELETE FROM market_data.btc_ticks WHERE trade_id IN (7, 8);
         INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity)
         VALUES ('2024-08-08 12:10Z', '2024-08-08 12:11Z', 'BTCUSDT', 5000, 1, 1)",
    );
    let counted = "SELECT concat_ws(' ', ticks, objects, stored, 'missing', missing_inside, missing_before)
                     FROM btc_ingest.slice_ledger('BTCUSDT', count_stored => true)";
    assert_eq!(fixture.texts(counted), ["300 1 298 missing 0", "100 1 100 missing 0 0", "0 0 1 missing"]);
    assert_eq!(ledger(&mut fixture, "stored"), ["12:00", "12:05"]);
    // What retention drops stays recorded.
    fixture.run("SELECT drop_chunks('market_data.btc_ticks', older_than => '2024-09-01'::timestamptz)");
    assert_eq!(fixture.texts(counted), ["300 1 0 missing 0", "100 1 0 missing 0 0"]);
    assert_eq!(fixture.number("SELECT count(*) FROM btc_ingest.gaps"), 0);
}
