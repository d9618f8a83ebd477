//! One id in neighbouring buckets.

use super::*;

/// Stores a hundred ticks of the bucket 12:00, and an object that has the last two of them with another bucket's
/// time, and 98 others.
fn neighbour_case(fixture: &mut LoadFixture, buckets: i64) -> (Vec<Tick>, Vec<Tick>, String) {
    let all = ticks(1, 100);
    let stored = fixture.put("stored.parquet", &all);
    fixture.load(&stored, "");
    let moved_ones = [moved(&all[98], buckets), moved(&all[99], buckets)];
    let others: Vec<Tick> = ticks(101, 98).iter().map(|tick| moved(tick, buckets)).collect();
    let uri = fixture.put("other.parquet", &[&moved_ones[..], &others].concat());
    (all, [&moved_ones[..], &others].concat(), uri)
}

#[test]
fn an_id_that_is_stored_one_bucket_before_or_behind_is_a_conflict() {
    for buckets in [-1, 1] {
        let mut fixture = LoadFixture::new();
        let (old, new, uri) = neighbour_case(&mut fixture, buckets);
        let report = fixture.load(&uri, KEEP);
        assert_eq!(report.counts(), [100, 98, 0, 2, 0, 0], "{buckets}");
        must_hold(&mut fixture.client, old.iter().chain(&new[2..]));
        let rejected = fixture.rejected();
        assert_eq!(rejected.iter().map(|(row, ..)| *row).collect::<Vec<_>>(), [0, 1]);
        assert!(rejected[0].1.contains("BTCUSDT 99") && rejected[0].1.contains("neighbouring bucket"), "{rejected:?}");
        assert!(rejected[0].2.contains(r#""trade_id": 99"#), "{rejected:?}");
        assert_eq!(fixture.load(&uri, KEEP).counts(), [100, 0, 98, 2, 0, 0]);
    }
}

#[test]
fn an_id_that_is_stored_one_bucket_before_or_behind_aborts() {
    for buckets in [-1, 1] {
        let mut fixture = LoadFixture::new();
        let (old, _, uri) = neighbour_case(&mut fixture, buckets);
        let refusal = refused(&mut fixture.client, &uri, ABORT, "TK004");
        assert!(refusal.message.contains("2 ticks conflict"), "{refusal:?}");
        assert!(refusal.detail.contains("BTCUSDT 99"), "{refusal:?}");
        must_hold(&mut fixture.client, &old);
    }
}

#[test]
fn an_id_that_is_stored_one_bucket_before_or_behind_is_moved_by_replace() {
    for buckets in [-1, 1] {
        let mut fixture = LoadFixture::new();
        let (old, new, uri) = neighbour_case(&mut fixture, buckets);
        assert_eq!(fixture.load(&uri, REPLACE).counts(), [100, 98, 0, 0, 2, 0], "{buckets}");
        must_hold(&mut fixture.client, old[..98].iter().chain(&new));
        assert_eq!(fixture.rejected(), []);
        assert_eq!(fixture.load(&uri, REPLACE).counts(), [100, 0, 100, 0, 0, 0]);
    }
}

#[test]
fn an_id_two_buckets_away_or_of_another_symbol_is_no_conflict() {
    let mut fixture = LoadFixture::new();
    let (old, new, uri) = neighbour_case(&mut fixture, 2);
    assert_eq!(fixture.load(&uri, ABORT).counts(), [100, 100, 0, 0, 0, 0]);
    let other: Vec<Tick> = ticks_of("ETHUSDT", 1, 100).iter().map(|tick| moved(tick, 1)).collect();
    let eth = fixture.put("eth.parquet", &other);
    assert_eq!(fixture.load(&eth, ABORT).counts(), [100, 100, 0, 0, 0, 0]);
    must_hold(&mut fixture.client, old.iter().chain(&new).chain(&other));
}

#[test]
fn ids_in_between_those_of_the_neighbours_are_no_conflict() {
    let mut fixture = LoadFixture::new();
    let all = ticks(1, 100);
    let (odd, even): (Vec<Tick>, Vec<Tick>) = all.iter().cloned().partition(|tick| tick.trade_id % 2 == 1);
    let even: Vec<Tick> = even.iter().map(|tick| moved(tick, 1)).collect();
    let first = fixture.put("odd.parquet", &odd);
    fixture.load(&first, "");
    let second = fixture.put("even.parquet", &even);
    assert_eq!(fixture.load(&second, ABORT).counts(), [50, 50, 0, 0, 0, 0]);
    must_hold(&mut fixture.client, odd.iter().chain(&even));
}

#[test]
fn a_tick_that_is_stored_in_its_own_bucket_and_a_neighbouring_one_is_counted_once() {
    for args in [KEEP, REPLACE] {
        let mut fixture = LoadFixture::new();
        fixture.run(ANY_CONFLICTS);
        let all = ticks(1, 10);
        let uri = fixture.put("a.parquet", &all);
        fixture.load(&uri, "");
        // Only another client than a load can store one id on both sides.
        for buckets in ["-5", "5"] {
            fixture.run(&format!(
                "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity)
                 SELECT bucket_5m + interval '{buckets} minutes', event_time + interval '{buckets} minutes', symbol,
                        trade_id, price, quantity
                   FROM market_data.btc_ticks WHERE trade_id = 4 AND bucket_5m = '2024-08-08T12:00:00Z'"
            ));
        }
        let report = fixture.load(&uri, args);
        assert_eq!((report.read, report.inserted), (10, 0), "{report:?}");
        if args == REPLACE {
            // The tick in the object's own bucket is right; the other two are gone.
            must_hold(&mut fixture.client, &all);
        } else {
            assert_eq!(report.counts(), [10, 0, 9, 1, 0, 0]);
            assert_eq!(fixture.rejected().len(), 1);
            assert_eq!(stored_lines(&mut fixture.client).len(), 12);
        }
    }
}

#[test]
fn a_tick_that_is_stored_on_both_sides_of_its_bucket_is_moved_once() {
    let mut fixture = LoadFixture::new();
    fixture.run(ANY_CONFLICTS);
    let all = ticks(1, 10);
    let sides: Vec<Tick> = vec![moved(&all[3], -1), moved(&all[3], 1)];
    let first = fixture.put("sides.parquet", &sides);
    assert_eq!(fixture.load(&first, "").counts(), [2, 2, 0, 0, 0, 0]);
    let uri = fixture.put("a.parquet", &all);
    assert_eq!(fixture.load(&uri, KEEP).counts(), [10, 9, 0, 1, 0, 0]);
    assert_eq!(fixture.rejected().len(), 1);
    assert_eq!(fixture.load(&uri, REPLACE).counts(), [10, 0, 9, 0, 1, 0]);
    must_hold(&mut fixture.client, &all);
}

#[test]
fn an_id_in_adjacent_buckets_of_one_object_is_stored_once() {
    let all = ticks(1, 100);
    let object = [&all[..], &[moved(&all[99], 1)], &ticks(101, 50).iter().map(|t| moved(t, 1)).collect::<Vec<_>>()];
    let object = object.concat();
    for args in [KEEP, REPLACE] {
        let mut fixture = LoadFixture::new();
        let uri = fixture.put("a.parquet", &object);
        let report = fixture.load(&uri, args);
        assert_eq!((report.read, report.inserted, report.duplicate), (151, 150, 0), "{args}: {report:?}");
        assert_eq!(report.conflicting + report.replaced, 1, "{args}: {report:?}");
        let before = stored_lines(&mut fixture.client);
        assert_eq!(before.iter().filter(|line| line.starts_with("BTCUSDT 100 ")).count(), 1);
        if args == KEEP {
            must_hold(&mut fixture.client, object.iter().filter(|tick| **tick != object[100]));
        }
        // Again: the same tick is counted once.
        let report = fixture.load(&uri, args);
        assert_eq!((report.inserted, report.duplicate + report.replaced), (0, 150), "{args}: {report:?}");
        assert_eq!(stored_lines(&mut fixture.client), before);
        let rejected = fixture.rejected();
        assert!(rejected.len() <= 1, "{rejected:?}");
        if args == KEEP {
            assert_eq!(report.counts(), [151, 0, 150, 1, 0, 0]);
            assert_eq!(rejected[0].0, 100);
            assert!(rejected[0].2.contains(r#""trade_id": 100"#), "the row itself is kept: {rejected:?}");
        }
    }
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &object);
    let refusal = refused(&mut fixture.client, &uri, ABORT, "TK004");
    assert!(refusal.message.contains("1 ticks conflict"), "{refusal:?}");
    assert_eq!(fixture.rows_everywhere(), NOTHING);
}
