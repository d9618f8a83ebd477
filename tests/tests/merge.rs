//! What a load does with ticks that are there already, and what it writes beside the ticks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::{BooleanArray, TimestampMicrosecondArray};
use arrow::datatypes::TimeUnit;
use btc_ingest_tests::parquet::Time;
use btc_ingest_tests::rows::{but, moved, must_hold, stored_lines, ticks, ticks_of};
use btc_ingest_tests::stand::{self, BUCKET, Report, refused};
use btc_ingest_tests::ticks::{BUCKET_US, PRICE_UNIT, Random, Tick, time_us};
use btc_ingest_tests::{FaultProxy, Generator, ParquetFile, Stand, TestDb};
use postgres::{Client, IsolationLevel};

/// One test's objects and database.
struct Bench {
    stand: &'static Stand,
    db: TestDb<'static>,
    client: Client,
}

impl Bench {
    fn new() -> Bench {
        let stand = Stand::shared();
        let db = stand.db();
        let client = db.client();
        Bench { stand, db, client }
    }

    /// Stores ticks under a key of this test's own.
    fn put(&self, key: &str, ticks: &[Tick]) -> String {
        self.put_as(key, ParquetFile::new(), ticks)
    }

    fn put_as(&self, key: &str, file: ParquetFile, ticks: &[Tick]) -> String {
        self.stand.put(&format!("{}/{key}", self.db.name()), file.bytes(ticks))
    }

    /// Loads, and checks that the counts add up.
    #[track_caller]
    fn load(&mut self, uri: &str, args: &str) -> Report {
        loads(&mut self.client, uri, args)
    }

    /// One text of one row.
    #[track_caller]
    fn text(&mut self, sql: &str) -> String {
        text(&mut self.client, sql)
    }

    #[track_caller]
    fn run(&mut self, sql: &str) {
        self.client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// How many rows each table that a load writes has.
    fn rows_everywhere(&mut self) -> String {
        self.text(
            "SELECT concat_ws(' ',
                 'ticks', (SELECT count(*) FROM market_data.btc_ticks),
                 'registry', (SELECT count(*) FROM landing.raw_blobs_5m),
                 'rejected', (SELECT count(*) FROM landing.rejected_ticks),
                 'objects', (SELECT count(*) FROM ingestion.objects),
                 'slices', (SELECT count(*) FROM ingestion.object_slices),
                 'offsets', (SELECT count(*) FROM ingestion.stream_offsets),
                 'history', (SELECT count(*) FROM ingestion.load_history))",
        )
    }

    /// (row, reason, row_data) of everything that was kept aside.
    fn rejected(&mut self) -> Vec<(i64, String, String)> {
        let sql = "SELECT row_number, reason, row_data::text FROM landing.rejected_ticks ORDER BY id";
        self.client.query(sql, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}

#[track_caller]
fn loads(client: &mut Client, uri: &str, args: &str) -> Report {
    let report = stand::loaded(client, uri, args);
    let [read, parts @ ..] = report.counts();
    assert_eq!(read, parts.iter().sum::<i64>(), "counts that do not add up: {report:?}");
    assert!(parts.iter().all(|count| *count >= 0), "a count below zero: {report:?}");
    report
}

#[track_caller]
fn text(client: &mut Client, sql: &str) -> String {
    let row = client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".to_owned())
}

const NOTHING: &str = "ticks 0 registry 0 rejected 0 objects 0 slices 0 offsets 0 history 0";
const KEEP: &str = "force => true";
const REPLACE: &str = r#"force => true, options => '{"on_conflict": "replace"}'"#;
const ABORT: &str = r#"force => true, options => '{"on_conflict": "abort"}'"#;
/// Some tests are about conflicts in most rows.
const ANY_CONFLICTS: &str = "SET btc_ingest.max_conflict_fraction = 1";

// ── the same object again ───────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_same_etag_again_is_already_loaded_and_costs_one_head() {
    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &ticks(1, 100));
    let first = bench.load(&uri, "");
    assert_eq!((first.counts(), first.outcome.as_str()), ([100, 100, 0, 0, 0, 0], "loaded"));
    assert_eq!((first.slices, first.uri.as_str()), (1, uri.as_str()));

    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.run(&format!("SET btc_ingest.s3_endpoint = '{}'", proxy.endpoint()));
    let before = bench.rows_everywhere();
    let again = bench.load(&uri, "");
    assert_eq!((again.counts(), again.outcome.as_str()), ([0; 6], "already loaded"));
    assert_eq!((again.slices, again.bytes, again.etag), (0, 0, first.etag));
    assert_eq!((proxy.count("HEAD"), proxy.count("GET")), (1, 0));
    // The attempt itself is all that it leaves.
    assert_eq!(bench.rows_everywhere(), before.replace("history 1", "history 2"));
    must_hold(&mut bench.client, &ticks(1, 100));
}

#[test]
fn the_etag_of_the_report_is_that_of_the_object_without_quotes() {
    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &ticks(1, 3));
    let etag = bench.stand.s3.etag(BUCKET, uri.split_once("landing/").unwrap().1);
    assert_eq!(bench.load(&uri, "").etag, etag.trim_matches('"'));
}

#[test]
fn force_finds_every_tick_a_duplicate() {
    let mut bench = Bench::new();
    let ticks = Generator::new(7, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).next_slices(2);
    let uri = bench.put("a.parquet", &ticks);
    bench.load(&uri, "");
    let rows = ticks.len() as i64;
    let again = bench.load(&uri, KEEP);
    assert_eq!((again.counts(), again.outcome.as_str()), ([rows, 0, rows, 0, 0, 0], "loaded"));
    assert_eq!(bench.load(&uri, REPLACE).counts(), [rows, 0, rows, 0, 0, 0]);
    assert_eq!(bench.load(&uri, ABORT).counts(), [rows, 0, rows, 0, 0, 0]);
    must_hold(&mut bench.client, &ticks);
    assert_eq!(bench.rejected(), []);
}

#[test]
fn duplicates_are_not_written_again() {
    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &ticks(1, 50));
    bench.load(&uri, "");
    let versions = "SELECT string_agg(xmin::text || ctid::text, ' ' ORDER BY trade_id) FROM market_data.btc_ticks";
    let before = bench.text(versions);
    bench.load(&uri, KEEP);
    bench.load(&uri, REPLACE);
    assert_eq!(bench.text(versions), before);
}

// ── a new etag ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// Fifty ticks are stored; of the new object's seventy, ids 31 to 45 are the same, 46 to 50 have changed, 51 to 100 are new.
fn old_and_new() -> (Vec<Tick>, Vec<Tick>) {
    let all = ticks(1, 100);
    let old = all[..50].to_vec();
    let mut new = all[30..].to_vec();
    for (n, tick) in new[15..20].iter_mut().enumerate() {
        match n {
            0 => tick.price += 1,
            1 => tick.quantity += 1,
            2 => tick.trade_time_us = tick.trade_time_us.map(|time| time - 1),
            3 => tick.is_market_maker = !tick.is_market_maker,
            _ => {
                tick.price += PRICE_UNIT;
                tick.event_time_us += 7;
                tick.buyer_order_id = Some(4711);
                tick.seller_order_id = None;
            }
        }
    }
    (old, new)
}

#[test]
fn a_new_etag_is_merged_tick_by_tick_and_what_is_stored_stays() {
    let mut bench = Bench::new();
    let (old, new) = old_and_new();
    let uri = bench.put("a.parquet", &old);
    bench.load(&uri, "");
    assert_eq!(bench.put("a.parquet", &new), uri);
    let report = bench.load(&uri, "");
    assert_eq!((report.counts(), report.outcome.as_str()), ([70, 50, 15, 5, 0, 0], "loaded"));
    must_hold(&mut bench.client, old.iter().chain(&new[20..]));

    let rejected = bench.rejected();
    assert_eq!(rejected.iter().map(|(row, ..)| *row).collect::<Vec<_>>(), [15, 16, 17, 18, 19]);
    let (_, reason, data) = &rejected[0];
    assert!(reason.contains("BTCUSDT 46") && reason.contains("60045.00000045"), "{reason}");
    assert!(reason.contains("60045.00000046"), "{reason}");
    assert!(data.contains(r#""trade_id": 46"#) && data.contains(r#""price": 60045.00000046"#), "{data}");
    let kept = bench.text("SELECT string_agg(DISTINCT s3_uri || ' ' || etag, ',') FROM landing.rejected_ticks");
    assert_eq!(kept, format!("{uri} {}", report.etag));
    assert_eq!(bench.load(&uri, "").outcome, "already loaded");
}

#[test]
fn replace_stores_the_objects_values_of_what_differs() {
    let mut bench = Bench::new();
    let (old, new) = old_and_new();
    let uri = bench.put("a.parquet", &old);
    bench.load(&uri, "");
    bench.put("a.parquet", &new);
    let report = bench.load(&uri, r#"options => '{"on_conflict": "replace"}'"#);
    assert_eq!(report.counts(), [70, 50, 15, 0, 5, 0]);
    must_hold(&mut bench.client, old[..30].iter().chain(&new));
    assert_eq!(bench.rejected(), []);
}

#[test]
fn abort_fails_on_the_first_conflict_and_changes_nothing() {
    let mut bench = Bench::new();
    let (old, new) = old_and_new();
    let uri = bench.put("a.parquet", &old);
    bench.load(&uri, "");
    let before = bench.rows_everywhere();
    bench.put("a.parquet", &new);
    let refusal = refused(&mut bench.client, &uri, r#"options => '{"on_conflict": "abort"}'"#, "TK004");
    assert!(refusal.message.contains("5 ticks conflict") && refusal.message.contains(&uri), "{refusal:?}");
    assert!(refusal.detail.contains("BTCUSDT 46"), "{refusal:?}");
    assert!(refusal.hint.contains("on_conflict"), "{refusal:?}");
    assert_eq!(bench.rows_everywhere(), before);
    must_hold(&mut bench.client, &old);
    // The old version is still what is loaded, so the new one loads when somebody says how.
    assert_eq!(bench.load(&uri, "").counts(), [70, 50, 15, 5, 0, 0]);
}

#[test]
fn an_object_without_conflicts_loads_under_abort() {
    let mut bench = Bench::new();
    let all = ticks(1, 100);
    let uri = bench.put("a.parquet", &all[..50]);
    bench.load(&uri, r#"options => '{"on_conflict": "abort"}'"#);
    bench.put("a.parquet", &all[40..]);
    assert_eq!(bench.load(&uri, r#"options => '{"on_conflict": "abort"}'"#).counts(), [60, 50, 10, 0, 0, 0]);
    must_hold(&mut bench.client, &all);
}

#[test]
fn order_ids_and_event_time_within_the_bucket_are_no_conflict() {
    let mut bench = Bench::new();
    let old = ticks(1, 10);
    let new: Vec<Tick> = old
        .iter()
        .map(|tick| {
            but(tick, |tick| {
                tick.event_time_us += 3;
                tick.buyer_order_id = None;
                tick.seller_order_id = Some(1);
            })
        })
        .collect();
    let uri = bench.put("a.parquet", &old);
    bench.load(&uri, "");
    bench.put("a.parquet", &new);
    assert_eq!(bench.load(&uri, REPLACE).counts(), [10, 0, 10, 0, 0, 0]);
    must_hold(&mut bench.client, &old);
}

#[test]
fn null_on_either_side_is_no_conflict() {
    let mut bench = Bench::new();
    let ticks = ticks(1, 10);
    let half: Vec<usize> = (0..5).collect();
    let nulls = || ParquetFile::new().null("trade_time", &half).null("is_market_maker", &half);
    let with = bench.put("with.parquet", &ticks);
    let without = bench.put_as("without.parquet", nulls(), &ticks);
    // Stored with values, then compared with nulls.
    bench.load(&with, "");
    assert_eq!(bench.load(&without, ABORT).counts(), [10, 0, 10, 0, 0, 0]);
    // Stored with nulls, then compared with values.
    bench.run("TRUNCATE market_data.btc_ticks");
    assert_eq!(bench.load(&without, ABORT).counts(), [10, 10, 0, 0, 0, 0]);
    assert_eq!(bench.text("SELECT count(trade_time)::text FROM market_data.btc_ticks"), "5");
    assert_eq!(bench.load(&with, ABORT).counts(), [10, 0, 10, 0, 0, 0]);
    // A null hides nothing else: the price of one of them has changed.
    let mut changed = ticks.clone();
    changed[0].price += 1;
    let changed = bench.put_as("changed.parquet", nulls(), &changed);
    assert_eq!(bench.load(&changed, "").counts(), [10, 0, 9, 1, 0, 0]);
    // A stored price that is null, as a client may leave it, differs from nothing either.
    bench.run("UPDATE market_data.btc_ticks SET price = NULL, quantity = NULL WHERE trade_id = 1");
    assert_eq!(bench.load(&changed, KEEP).counts(), [10, 0, 10, 0, 0, 0]);
}

#[test]
fn only_max_kept_rejects_conflicts_are_kept_and_all_are_counted() {
    let mut bench = Bench::new();
    let old = ticks(1, 200);
    let new: Vec<Tick> = old.iter().map(|tick| but(tick, |tick| tick.price += 5)).collect();
    let uri = bench.put("a.parquet", &old);
    bench.load(&uri, "");
    bench.put("a.parquet", &new);
    bench.run(ANY_CONFLICTS);
    bench.run("SET btc_ingest.max_kept_rejects = 20");
    assert_eq!(bench.load(&uri, "").counts(), [200, 0, 0, 200, 0, 0]);
    assert_eq!(bench.rejected().len(), 20);
    // The same version again: its rejects are found again, not added to.
    bench.run("SET btc_ingest.max_kept_rejects = 30");
    assert_eq!(bench.load(&uri, KEEP).counts(), [200, 0, 0, 200, 0, 0]);
    assert_eq!(bench.rejected().len(), 30);
    bench.run("SET btc_ingest.max_kept_rejects = 0");
    assert_eq!(bench.load(&uri, KEEP).counts(), [200, 0, 0, 200, 0, 0]);
    assert_eq!(bench.rejected().len(), 0);
    must_hold(&mut bench.client, &old);
}

#[test]
fn conflicts_and_bad_rows_share_one_limit_of_kept_rejects() {
    let mut bench = Bench::new();
    let old = ticks(1, 20);
    let new: Vec<Tick> = old.iter().map(|tick| but(tick, |tick| tick.price += 5)).collect();
    let uri = bench.put("a.parquet", &old);
    bench.load(&uri, "");
    bench.put_as("a.parquet", ParquetFile::new().null("price", &[0, 1, 2, 3]), &new);
    bench.run(ANY_CONFLICTS);
    bench.run("SET btc_ingest.max_kept_rejects = 6");
    let report = bench.load(&uri, "on_bad_row => 'reject'");
    assert_eq!(report.counts(), [20, 0, 0, 16, 0, 4]);
    assert_eq!(bench.rejected().iter().map(|(row, ..)| *row).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn too_many_conflicts_fail_the_load_and_nothing_is_kept() {
    let mut bench = Bench::new();
    let all = ticks(1, 200);
    let uri = bench.put("a.parquet", &all[..100]);
    bench.load(&uri, "");
    let before = bench.rows_everywhere();
    let with_conflicts = |count: usize| -> Vec<Tick> {
        let changed = all[..count].iter().map(|tick| but(tick, |tick| tick.price += 1));
        changed.chain(all[100..200 - count].iter().cloned()).collect()
    };
    bench.put("a.parquet", &with_conflicts(11));
    for args in ["", r#"options => '{"on_conflict": "replace"}'"#] {
        let refusal = refused(&mut bench.client, &uri, args, "TK005");
        assert!(refusal.message.contains("11 of 100 ticks conflict"), "{refusal:?}");
        assert!(refusal.detail.contains("max_conflict_fraction is 0.1"), "{refusal:?}");
        assert!(refusal.detail.contains("BTCUSDT 1 in bucket"), "an example: {refusal:?}");
        assert!(refusal.hint.contains(r#"options '{"symbol""#), "{refusal:?}");
        assert_eq!(bench.rows_everywhere(), before);
    }
    must_hold(&mut bench.client, &all[..100]);
    // A tenth is not above a tenth.
    bench.put("a.parquet", &with_conflicts(10));
    assert_eq!(bench.load(&uri, "").counts(), [100, 90, 0, 10, 0, 0]);
}

#[test]
fn too_many_conflicts_with_a_neighbouring_bucket_show_an_example_too() {
    let mut bench = Bench::new();
    let old = ticks(1, 20);
    let uri = bench.put("a.parquet", &old);
    bench.load(&uri, "");
    let later: Vec<Tick> = old.iter().map(|tick| moved(tick, 1)).collect();
    bench.put("a.parquet", &later);
    let refusal = refused(&mut bench.client, &uri, "", "TK005");
    assert!(refusal.detail.contains("neighbouring bucket"), "{refusal:?}");
}

// ── one id twice in one object ──────────────────────────────────────────────────────────────────────────────────────

#[test]
fn equal_rows_of_one_object_are_duplicates_of_each_other() {
    let mut bench = Bench::new();
    let once = ticks(1, 20);
    let twice: Vec<Tick> = once.iter().chain(&once[5..15]).cloned().collect();
    let uri = bench.put("a.parquet", &twice);
    assert_eq!(bench.load(&uri, ABORT).counts(), [30, 20, 10, 0, 0, 0]);
    assert_eq!(bench.load(&uri, KEEP).counts(), [30, 0, 30, 0, 0, 0]);
    must_hold(&mut bench.client, &once);
}

#[test]
fn of_different_rows_with_one_id_the_first_is_kept() {
    let mut bench = Bench::new();
    let once = ticks(1, 100);
    let changed: Vec<Tick> = once[..3].iter().map(|tick| but(tick, |tick| tick.price += 1)).collect();
    let uri = bench.put("a.parquet", &[&once[..], &changed].concat());
    assert_eq!(bench.load(&uri, "").counts(), [103, 100, 0, 3, 0, 0]);
    must_hold(&mut bench.client, &once);
    assert_eq!(bench.rejected().iter().map(|(row, ..)| *row).collect::<Vec<_>>(), [100, 101, 102]);
}

#[test]
fn of_different_rows_with_one_id_the_last_replaces() {
    let mut bench = Bench::new();
    let once = ticks(1, 100);
    let changed: Vec<Tick> = once[..3].iter().map(|tick| but(tick, |tick| tick.price += 1)).collect();
    let uri = bench.put("a.parquet", &[&once[..], &changed].concat());
    assert_eq!(bench.load(&uri, REPLACE).counts(), [103, 100, 0, 0, 3, 0]);
    must_hold(&mut bench.client, changed.iter().chain(&once[3..]));
    bench.load(&uri, REPLACE);
    must_hold(&mut bench.client, changed.iter().chain(&once[3..]));
}

#[test]
fn different_rows_with_one_id_abort() {
    let mut bench = Bench::new();
    let once = ticks(1, 100);
    let changed = but(&once[0], |tick| tick.quantity += 1);
    let uri = bench.put("a.parquet", &[&once[..], &[changed]].concat());
    refused(&mut bench.client, &uri, ABORT, "TK004");
    assert_eq!(bench.rows_everywhere(), NOTHING);
}

// ── one id in neighbouring buckets ──────────────────────────────────────────────────────────────────────────────────

/// A hundred ticks of the bucket 12:00 are stored; the object has the last two of them by another bucket's time, and 98 others.
fn neighbour_case(bench: &mut Bench, buckets: i64) -> (Vec<Tick>, Vec<Tick>, String) {
    let all = ticks(1, 100);
    let stored = bench.put("stored.parquet", &all);
    bench.load(&stored, "");
    let moved_ones = [moved(&all[98], buckets), moved(&all[99], buckets)];
    let others: Vec<Tick> = ticks(101, 98).iter().map(|tick| moved(tick, buckets)).collect();
    let uri = bench.put("other.parquet", &[&moved_ones[..], &others].concat());
    (all, [&moved_ones[..], &others].concat(), uri)
}

#[test]
fn an_id_that_is_stored_one_bucket_before_or_behind_is_a_conflict() {
    for buckets in [-1, 1] {
        let mut bench = Bench::new();
        let (old, new, uri) = neighbour_case(&mut bench, buckets);
        let report = bench.load(&uri, KEEP);
        assert_eq!(report.counts(), [100, 98, 0, 2, 0, 0], "{buckets}");
        must_hold(&mut bench.client, old.iter().chain(&new[2..]));
        let rejected = bench.rejected();
        assert_eq!(rejected.iter().map(|(row, ..)| *row).collect::<Vec<_>>(), [0, 1]);
        assert!(rejected[0].1.contains("BTCUSDT 99") && rejected[0].1.contains("neighbouring bucket"), "{rejected:?}");
        assert!(rejected[0].2.contains(r#""trade_id": 99"#), "{rejected:?}");
        assert_eq!(bench.load(&uri, KEEP).counts(), [100, 0, 98, 2, 0, 0]);
    }
}

#[test]
fn an_id_that_is_stored_one_bucket_before_or_behind_aborts() {
    for buckets in [-1, 1] {
        let mut bench = Bench::new();
        let (old, _, uri) = neighbour_case(&mut bench, buckets);
        let refusal = refused(&mut bench.client, &uri, ABORT, "TK004");
        assert!(refusal.message.contains("2 ticks conflict"), "{refusal:?}");
        assert!(refusal.detail.contains("BTCUSDT 99"), "{refusal:?}");
        must_hold(&mut bench.client, &old);
    }
}

#[test]
fn an_id_that_is_stored_one_bucket_before_or_behind_is_moved_by_replace() {
    for buckets in [-1, 1] {
        let mut bench = Bench::new();
        let (old, new, uri) = neighbour_case(&mut bench, buckets);
        assert_eq!(bench.load(&uri, REPLACE).counts(), [100, 98, 0, 0, 2, 0], "{buckets}");
        must_hold(&mut bench.client, old[..98].iter().chain(&new));
        assert_eq!(bench.rejected(), []);
        assert_eq!(bench.load(&uri, REPLACE).counts(), [100, 0, 100, 0, 0, 0]);
    }
}

#[test]
fn an_id_two_buckets_away_or_of_another_symbol_is_no_conflict() {
    let mut bench = Bench::new();
    let (old, new, uri) = neighbour_case(&mut bench, 2);
    assert_eq!(bench.load(&uri, ABORT).counts(), [100, 100, 0, 0, 0, 0]);
    let other: Vec<Tick> = ticks_of("ETHUSDT", 1, 100).iter().map(|tick| moved(tick, 1)).collect();
    let eth = bench.put("eth.parquet", &other);
    assert_eq!(bench.load(&eth, ABORT).counts(), [100, 100, 0, 0, 0, 0]);
    must_hold(&mut bench.client, old.iter().chain(&new).chain(&other));
}

#[test]
fn ids_in_between_those_of_the_neighbours_are_no_conflict() {
    let mut bench = Bench::new();
    let all = ticks(1, 100);
    let (odd, even): (Vec<Tick>, Vec<Tick>) = all.iter().cloned().partition(|tick| tick.trade_id % 2 == 1);
    let even: Vec<Tick> = even.iter().map(|tick| moved(tick, 1)).collect();
    let first = bench.put("odd.parquet", &odd);
    bench.load(&first, "");
    let second = bench.put("even.parquet", &even);
    assert_eq!(bench.load(&second, ABORT).counts(), [50, 50, 0, 0, 0, 0]);
    must_hold(&mut bench.client, odd.iter().chain(&even));
}

#[test]
fn a_tick_that_is_stored_in_its_own_bucket_and_a_neighbouring_one_is_counted_once() {
    for args in [KEEP, REPLACE] {
        let mut bench = Bench::new();
        bench.run(ANY_CONFLICTS);
        let all = ticks(1, 10);
        let uri = bench.put("a.parquet", &all);
        bench.load(&uri, "");
        // Only somebody else than a load can store one id on both sides.
        for buckets in ["-5", "5"] {
            bench.run(&format!(
                "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity)
                 SELECT bucket_5m + interval '{buckets} minutes', event_time + interval '{buckets} minutes', symbol,
                        trade_id, price, quantity
                   FROM market_data.btc_ticks WHERE trade_id = 4 AND bucket_5m = '2024-08-08T12:00:00Z'"
            ));
        }
        let report = bench.load(&uri, args);
        assert_eq!((report.read, report.inserted), (10, 0), "{report:?}");
        if args == REPLACE {
            // What stands in the object's own bucket is right already; the other two are gone.
            must_hold(&mut bench.client, &all);
        } else {
            assert_eq!(report.counts(), [10, 0, 9, 1, 0, 0]);
            assert_eq!(bench.rejected().len(), 1);
            assert_eq!(stored_lines(&mut bench.client).len(), 12);
        }
    }
}

#[test]
fn a_tick_that_is_stored_on_both_sides_of_its_bucket_is_moved_once() {
    let mut bench = Bench::new();
    bench.run(ANY_CONFLICTS);
    let all = ticks(1, 10);
    let sides: Vec<Tick> = vec![moved(&all[3], -1), moved(&all[3], 1)];
    let first = bench.put("sides.parquet", &sides);
    assert_eq!(bench.load(&first, "").counts(), [2, 2, 0, 0, 0, 0]);
    let uri = bench.put("a.parquet", &all);
    assert_eq!(bench.load(&uri, KEEP).counts(), [10, 9, 0, 1, 0, 0]);
    assert_eq!(bench.rejected().len(), 1);
    assert_eq!(bench.load(&uri, REPLACE).counts(), [10, 0, 9, 0, 1, 0]);
    must_hold(&mut bench.client, &all);
}

#[test]
fn an_id_in_adjacent_buckets_of_one_object_is_stored_once() {
    let all = ticks(1, 100);
    let object = [&all[..], &[moved(&all[99], 1)], &ticks(101, 50).iter().map(|t| moved(t, 1)).collect::<Vec<_>>()];
    let object = object.concat();
    for args in [KEEP, REPLACE] {
        let mut bench = Bench::new();
        let uri = bench.put("a.parquet", &object);
        let report = bench.load(&uri, args);
        assert_eq!((report.read, report.inserted, report.duplicate), (151, 150, 0), "{args}: {report:?}");
        assert_eq!(report.conflicting + report.replaced, 1, "{args}: {report:?}");
        let before = stored_lines(&mut bench.client);
        assert_eq!(before.iter().filter(|line| line.starts_with("BTCUSDT 100 ")).count(), 1);
        if args == KEEP {
            must_hold(&mut bench.client, object.iter().filter(|tick| **tick != object[100]));
        }
        // Again: the same tick is the odd one, once.
        let report = bench.load(&uri, args);
        assert_eq!((report.inserted, report.duplicate + report.replaced), (0, 150), "{args}: {report:?}");
        assert_eq!(stored_lines(&mut bench.client), before);
        let rejected = bench.rejected();
        assert!(rejected.len() <= 1, "{rejected:?}");
        if args == KEEP {
            assert_eq!(report.counts(), [151, 0, 150, 1, 0, 0]);
            assert_eq!(rejected[0].0, 100);
            assert!(rejected[0].2.contains(r#""trade_id": 100"#), "the row itself is kept: {rejected:?}");
        }
    }
    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &object);
    let refusal = refused(&mut bench.client, &uri, ABORT, "TK004");
    assert!(refusal.message.contains("1 ticks conflict"), "{refusal:?}");
    assert_eq!(bench.rows_everywhere(), NOTHING);
}

// ── options and metadata ────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn two_markets_under_one_symbol_fit_with_options_symbol() {
    let mut bench = Bench::new();
    let spot = ticks(1, 100);
    let perp: Vec<Tick> = spot.iter().map(|tick| but(tick, |tick| tick.price += 12_345)).collect();
    let (a, b) = (bench.put("spot.parquet", &spot), bench.put("perp.parquet", &perp));
    bench.load(&a, "");
    let refusal = refused(&mut bench.client, &b, "", "TK005");
    assert!(refusal.message.contains("100 of 100"), "{refusal:?}");
    let renamed: Vec<Tick> = perp.iter().map(|tick| but(tick, |tick| tick.symbol = "BTCUSDT-PERP".into())).collect();
    let report = bench.load(&b, r#"options => '{"symbol": "BTCUSDT-PERP"}'"#);
    assert_eq!(report.counts(), [100, 100, 0, 0, 0, 0]);
    must_hold(&mut bench.client, spot.iter().chain(&renamed));
    let assets = bench.text("SELECT string_agg(asset || '=' || s3_uri, ' ' ORDER BY asset) FROM landing.raw_blobs_5m");
    assert_eq!(assets, format!("BTCUSDT={a} BTCUSDT-PERP={b}"));
    // Every clash is counted when the limit does not stop the load.
    bench.run(ANY_CONFLICTS);
    let c = bench.put("perp-again.parquet", &perp);
    assert_eq!(bench.load(&c, "").counts(), [100, 0, 0, 100, 0, 0]);
}

#[test]
fn other_options_on_the_same_etag_load_it_again() {
    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &ticks(1, 10));
    assert_eq!(bench.load(&uri, "").outcome, "loaded");
    let perp = r#"options => '{"symbol": "BTCUSDT-PERP"}'"#;
    let report = bench.load(&uri, perp);
    assert_eq!((report.counts(), report.outcome.as_str()), ([10, 10, 0, 0, 0, 0], "loaded"));
    assert_eq!(bench.load(&uri, perp).outcome, "already loaded");
    // What decides nothing about the ticks does not count as different.
    let same = r#"options => '{"symbol": "BTCUSDT-PERP", "on_conflict": "abort", "source": "x", "exchange": "y"}'"#;
    assert_eq!(bench.load(&uri, same).outcome, "already loaded");
    assert_eq!(bench.load(&uri, r#"options => '{"symbol": "THIRD"}'"#).outcome, "loaded");
    // An object keeps the options that it was loaded with last.
    assert_eq!(bench.load(&uri, "").outcome, "already loaded");
    // Other columns, other ticks.
    let mapped = r#"options => '{"symbol": "THIRD", "columns": {"price": "trade_id"}}'"#;
    bench.run(ANY_CONFLICTS);
    assert_eq!(bench.load(&uri, mapped).counts(), [10, 0, 0, 10, 0, 0]);
}

#[test]
fn options_that_nobody_knows_are_refused_before_the_network() {
    let mut bench = Bench::new();
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.run(&format!("SET btc_ingest.s3_endpoint = '{}'", proxy.endpoint()));
    for (args, word) in [
        (r#"options => '{"symbl": "X"}'"#, "\"symbl\""),
        (r#"options => '{"on_conflict": "overwrite"}'"#, "\"on_conflict\""),
        (r#"options => '{"time_unit": "minutes"}'"#, "\"time_unit\""),
        (r#"options => '{"columns": {"prize": "p"}}'"#, "\"columns\""),
        (r#"options => '{"symbol": 5}'"#, "\"symbol\""),
        (r#"options => '{"rows": 5}'"#, "\"rows\""),
        ("options => '[]'", "\"options\""),
        ("on_bad_row => 'ignore'", "\"on_bad_row\""),
    ] {
        let refusal = refused(&mut bench.client, "s3://landing/nothing.parquet", args, "TK002");
        assert!(refusal.message.contains(word), "{args}: {refusal:?}");
        assert!(!refusal.hint.is_empty());
    }
    assert_eq!(proxy.requests().len(), 0);
}

#[test]
fn null_arguments_mean_the_defaults() {
    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &ticks(1, 5));
    assert_eq!(bench.load(&uri, "NULL, NULL, NULL").counts(), [5, 5, 0, 0, 0, 0]);
    let refusal = stand::Refusal::from(
        bench.client.query_one("SELECT btc_ingest.load_s3_slice(NULL)", &[]).map(drop).unwrap_err(),
    );
    assert_eq!(refusal.sqlstate, "S3001");
}

#[test]
fn the_registry_rows_metadata_holds_options_of_its_load() {
    let mut bench = Bench::new();
    let all = ticks(1, 10);
    let file = ParquetFile::new().time(Time::Int(TimeUnit::Millisecond)).rename("price", "px").without("symbol");
    let whole: Vec<Tick> = all
        .iter()
        .map(|tick| {
            but(tick, |tick| {
                tick.event_time_us -= 1;
                tick.symbol = "BTCUSDT-PERP".into();
            })
        })
        .collect();
    let uri = bench.put_as("a.parquet", file, &whole);
    refused(&mut bench.client, &uri, "", "PQ009");
    bench.run(&format!(
        r#"INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata) VALUES
           ('2024-08-08T12:00:00Z', 'BTCUSDT-PERP', '{uri}',
            '{{"symbol": "BTCUSDT-PERP", "time_unit": "ms", "columns": {{"price": "px"}}, "exchange": "okx", "team": "x"}}')"#
    ));
    assert_eq!(bench.load(&uri, "").counts(), [10, 10, 0, 0, 0, 0]);
    must_hold(&mut bench.client, &whole);
    assert_eq!(bench.text("SELECT string_agg(source, ',') FROM ingestion.stream_offsets"), "s3:okx:BTCUSDT-PERP");
    let kept = bench.text("SELECT options::text FROM ingestion.objects");
    assert_eq!(kept, r#"{"symbol": "BTCUSDT-PERP", "columns": {"price": "px"}, "time_unit": "ms"}"#);
    // The load adds its own keys and leaves the producer's.
    let metadata = bench.text(
        "SELECT concat_ws(' ', metadata ->> 'team', metadata ->> 'row_count', metadata ? 'writer',
                          metadata ? 'schema_fingerprint', metadata ->> 'etag' = (SELECT etag FROM ingestion.objects))
           FROM landing.raw_blobs_5m",
    );
    assert_eq!(metadata, "x 10 t t t");
    assert_eq!(bench.load(&uri, "").outcome, "already loaded");
}

#[test]
fn the_object_rows_metadata_goes_before_the_registrys_and_the_call_before_both() {
    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &ticks(1, 10));
    bench.run(&format!(
        r#"INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
           VALUES ('2024-08-08T12:00:00Z', 'R', '{uri}', '{{"symbol": "R", "source": "from registry"}}');
           INSERT INTO ingestion.objects (s3_uri, metadata) VALUES ('{uri}', '{{"symbol": "O"}}')"#
    ));
    bench.load(&uri, r#"options => '{"symbol": "C"}'"#);
    let symbols = "SELECT string_agg(DISTINCT symbol, ',' ORDER BY symbol) FROM market_data.btc_ticks";
    assert_eq!(bench.text(symbols), "C");
    assert_eq!(bench.text("SELECT string_agg(source, ',') FROM ingestion.stream_offsets"), "from registry");
    bench.run("TRUNCATE market_data.btc_ticks; UPDATE ingestion.objects SET options = '{}'");
    bench.load(&uri, "");
    assert_eq!(bench.text(symbols), "O");
    bench.run("TRUNCATE market_data.btc_ticks; UPDATE ingestion.objects SET options = '{}', metadata = '{}'");
    bench.load(&uri, "");
    assert_eq!(bench.text(symbols), "R");
}

#[test]
fn on_conflict_may_come_from_the_metadata() {
    let mut bench = Bench::new();
    let (old, new) = old_and_new();
    let uri = bench.put("a.parquet", &old);
    bench.run(&format!(
        r#"INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
           VALUES ('2024-08-08T12:00:00Z', 'BTCUSDT', '{uri}', '{{"on_conflict": "replace"}}')"#
    ));
    bench.load(&uri, "");
    bench.put("a.parquet", &new);
    assert_eq!(bench.load(&uri, "").counts(), [70, 50, 15, 0, 5, 0]);
    must_hold(&mut bench.client, old[..30].iter().chain(&new));
}

#[test]
fn what_the_producer_registered_must_be_the_objects() {
    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &ticks(1, 10));
    let size: i64 = bench.client.query_one("SELECT size_bytes FROM btc_ingest.inspect_s3($1)", &[&uri]).unwrap().get(0);
    let zeros = "0".repeat(64);
    for (metadata, column, word) in [
        (r#"{"rows": 11}"#.to_owned(), "NULL".to_owned(), "rows is 10, registered as 11"),
        (format!(r#"{{"object_size_bytes": {}}}"#, size + 1), "NULL".to_owned(), "object_size_bytes"),
        (format!(r#"{{"sha256": "{zeros}"}}"#), "NULL".to_owned(), "sha256"),
        ("{}".to_owned(), (size + 1).to_string(), "object_size_bytes"),
    ] {
        bench.run(&format!(
            "TRUNCATE landing.raw_blobs_5m;
             INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata, object_size_bytes)
             VALUES ('2024-08-08T12:00:00Z', 'BTCUSDT', '{uri}', '{metadata}', {column})"
        ));
        let refusal = refused(&mut bench.client, &uri, "", "TK003");
        assert!(refusal.message.contains(word), "{metadata}: {refusal:?}");
    }
    let digest = bench.text(&format!(
        "SELECT encode(sha256(pg_read_binary_file('{}')), 'hex')",
        bench.stand.s3.root().join(uri.trim_start_matches("s3://")).display()
    ));
    bench.run(&format!(
        r#"UPDATE landing.raw_blobs_5m SET object_size_bytes = {size},
             metadata = '{{"sha256": "{digest}", "rows": 10, "object_size_bytes": {size}}}'"#
    ));
    assert_eq!(bench.load(&uri, "").counts(), [10, 10, 0, 0, 0, 0]);
}

// ── what is written beside the ticks ────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_offset_is_kept_under_the_exchange_and_the_asset() {
    let mut bench = Bench::new();
    let key = |name: &str| format!("Binance/BTCUSDT/{name}.parquet");
    let uri = bench.put(&key("a"), &ticks(1, 10));
    bench.load(&uri, "");
    let uri = bench.put("flat.parquet", &ticks_of("ETHUSDT", 1, 10));
    bench.load(&uri, "");
    let uri = bench.put("b.parquet", &ticks_of("SOLUSDT", 1, 10));
    bench.load(&uri, r#"options => '{"exchange": "okx"}'"#);
    let uri = bench.put(&key("c"), &ticks_of("XRPUSDT", 1, 10));
    bench.load(&uri, r#"options => '{"source": "my feed"}'"#);
    let sources = "SELECT string_agg(source, ' | ' ORDER BY source COLLATE \"C\") FROM ingestion.stream_offsets";
    assert_eq!(bench.text(sources), "my feed | s3:binance:BTCUSDT | s3:okx:SOLUSDT | s3:unknown:ETHUSDT");
}

#[test]
fn an_offset_never_goes_back() {
    let mut bench = Bench::new();
    let all = ticks(1, 90);
    let parts = [&all[30..60], &all[..30], &all[60..]];
    let mut seen = Vec::new();
    for (n, part) in parts.into_iter().enumerate() {
        let uri = bench.put(&format!("Binance/BTCUSDT/{n}.parquet"), part);
        bench.load(&uri, "");
        seen.push(bench.text(
            "SELECT concat_ws(' ', last_sequence, to_char(last_ts, 'HH24:MI:SS.US'), right(state ->> 'last_uri', 9),
                              state ->> 'last_etag' = (SELECT etag FROM ingestion.objects WHERE s3_uri = state ->> 'last_uri'))
               FROM ingestion.stream_offsets",
        ));
    }
    let wanted =
        ["60 12:00:59.000001 1.parquet", "60 12:00:59.000001 1.parquet", "90 12:01:29.000001 2.parquet"].map(|t| {
            // The second load is older and leaves the first one's.
            format!("{} t", t.replace(" 1.parquet", " 0.parquet"))
        });
    assert_eq!(seen, wanted);
}

#[test]
fn a_decoders_own_state_in_an_offset_stays() {
    let mut bench = Bench::new();
    bench.run(
        r#"INSERT INTO ingestion.stream_offsets (source, last_sequence, state)
           VALUES ('s3:binance:BTCUSDT', 5, '{"cursor": 7}'), ('fresh', NULL, NULL)"#,
    );
    let uri = bench.put("Binance/BTCUSDT/a.parquet", &ticks(1, 10));
    bench.load(&uri, "");
    let uri = bench.put("Binance/BTCUSDT/b.parquet", &ticks(1, 10));
    bench.load(&uri, r#"options => '{"source": "fresh"}'"#);
    let rows = bench.text(
        "SELECT string_agg(concat_ws(' ', source, last_sequence, state ->> 'cursor', state ? 'last_uri'), ' | '
                           ORDER BY source) FROM ingestion.stream_offsets",
    );
    assert_eq!(rows, "fresh 10 t | s3:binance:BTCUSDT 10 7 t");
}

#[test]
fn every_load_leaves_one_line_of_history() {
    let mut bench = Bench::new();
    let (old, new) = old_and_new();
    let uri = bench.put("a.parquet", &old);
    let first = bench.load(&uri, "");
    bench.put("a.parquet", &new);
    let second = bench.load(&uri, "");
    let third = bench.load(&uri, "");
    assert_eq!(third.outcome, "already loaded");
    let lines = bench
        .client
        .query(
            "SELECT s3_uri, etag, outcome, bytes, rows_read, rows_inserted, rows_duplicate, rows_conflicting,
                    rows_replaced, rows_rejected,
                    pid = pg_backend_pid() AND sqlstate IS NULL AND message IS NULL AND started_at < finished_at
                    AND finished_at < clock_timestamp() AND least(fetch_ms, decode_ms, insert_ms) >= 0
                    AND elapsed_ms > insert_ms
               FROM ingestion.load_history ORDER BY id",
            &[],
        )
        .unwrap();
    assert_eq!(lines.len(), 3);
    for (line, report) in lines.iter().zip([first, second, third]) {
        assert_eq!((line.get::<_, String>(0), line.get::<_, String>(1)), (report.uri.clone(), report.etag.clone()));
        assert_eq!((line.get::<_, String>(2), line.get::<_, i64>(3)), (report.outcome.clone(), report.bytes));
        let counts: Vec<i64> = (4..10).map(|column| line.get(column)).collect();
        assert_eq!(counts, report.counts());
        assert!(line.get::<_, bool>(10), "{report:?}");
    }
}

#[test]
fn the_object_row_says_what_the_last_load_did() {
    let mut bench = Bench::new();
    let (old, new) = old_and_new();
    let uri = bench.put("a.parquet", &old);
    bench.load(&uri, "");
    let version = "SELECT generation FROM ingestion.objects";
    let before: i64 = bench.client.query_one(version, &[]).unwrap().get(0);
    bench.put("a.parquet", &new);
    let report = bench.load(&uri, "");
    let row = bench
        .client
        .query_one(
            "SELECT etag, status, rows_read, rows_inserted, rows_duplicate, rows_conflicting, rows_replaced,
                    rows_rejected, generation, metadata ->> 'row_count', metadata ->> 'etag',
                    size_bytes = (SELECT size_bytes FROM btc_ingest.inspect_s3(s3_uri)), loaded_at IS NOT NULL
               FROM ingestion.objects WHERE s3_uri = $1",
            &[&uri],
        )
        .unwrap();
    assert_eq!((row.get::<_, String>(0), row.get::<_, &str>(1)), (report.etag.clone(), "loaded"));
    assert_eq!((2..8).map(|column| row.get(column)).collect::<Vec<i64>>(), report.counts());
    assert!(row.get::<_, i64>(8) > before);
    assert_eq!((row.get::<_, &str>(9), row.get::<_, String>(10)), ("70", report.etag));
    assert!(row.get::<_, bool>(11) && row.get::<_, bool>(12));
}

#[test]
fn slices_say_how_many_ticks_came_from_which_version() {
    let mut bench = Bench::new();
    let btc = ticks(1, 400);
    let eth = ticks_of("ETHUSDT", 1001, 10);
    let both: Vec<Tick> = btc.iter().chain(&eth).cloned().collect();
    let uri = bench.put("a.parquet", &both);
    let first = bench.load(&uri, "");
    assert_eq!(first.slices, 3);
    let slices = "SELECT string_agg(concat_ws(' ', asset, to_char(bucket_5m, 'HH24:MI'), ticks, first_trade_id,
                          last_trade_id, to_char(first_event_time, 'MI:SS.US'), to_char(last_event_time, 'MI:SS.US')),
                          ' | ' ORDER BY etag = (SELECT etag FROM ingestion.objects), asset, bucket_5m)
                    FROM ingestion.object_slices";
    let wanted = "BTCUSDT 12:00 300 1 300 00:00.000001 04:59.000001 | BTCUSDT 12:05 100 301 400 05:00.000001 \
                  06:39.000001 | ETHUSDT 12:00 10 1001 1010 00:00.000001 00:09.000001";
    assert_eq!(bench.text(slices), wanted);
    // The same version again adds nothing, a new one its own.
    bench.load(&uri, KEEP);
    assert_eq!(bench.text(slices), wanted);
    bench.put("a.parquet", &eth);
    bench.load(&uri, "");
    assert_eq!(bench.text(slices), format!("{wanted} | ETHUSDT 12:00 10 1001 1010 00:00.000001 00:09.000001"));
}

#[test]
fn an_object_gets_one_registry_row_per_bucket_and_asset_and_leaves_those_of_others() {
    let mut bench = Bench::new();
    let all = ticks(1, 400);
    bench.run(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
         VALUES ('2024-08-08T12:05:00Z', 'BTCUSDT', 's3://landing/somebody/else.parquet')",
    );
    let uri = bench.put("a.parquet", &all);
    bench.load(&uri, "");
    let rows = bench.text(
        "SELECT string_agg(concat_ws(' ', to_char(bucket_5m, 'HH24:MI'), asset, status, loaded_at IS NOT NULL,
                                     right(s3_uri, 12), ingested_tick_span), ' | ' ORDER BY bucket_5m)
           FROM landing.raw_blobs_5m",
    );
    assert_eq!(
        rows,
        "12:00 BTCUSDT loaded t /1/a.parquet [\"2024-08-08 12:00:00.000001\",\"2024-08-08 12:04:59.000001\"] | \
         12:05 BTCUSDT pending f else.parquet"
            .replace("/1/a.parquet", &uri[uri.len() - 12..])
    );
}

#[test]
fn a_row_that_is_registered_again_is_pending_until_its_load() {
    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &ticks(1, 10));
    bench.load(&uri, "");
    let status = "SELECT string_agg(status || ' ' || (loaded_at IS NOT NULL)::text, ',') FROM landing.raw_blobs_5m";
    assert_eq!(bench.text(status), "loaded true");
    let upsert = format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2024-08-08T12:00:00Z', 'BTCUSDT', '{uri}')
         ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri"
    );
    bench.run(&upsert);
    assert_eq!(bench.text(status), "pending false");
    assert_eq!(bench.load(&uri, "").outcome, "already loaded");
    assert_eq!(bench.text(status), "loaded true");
    bench.run(&upsert);
    bench.put("a.parquet", &ticks(1, 11));
    assert_eq!(bench.load(&uri, "").counts(), [11, 1, 10, 0, 0, 0]);
    assert_eq!(bench.text(status), "loaded true");
}

// ── transactions ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_load_that_rolls_back_leaves_nothing_at_all() {
    let mut bench = Bench::new();
    let uri = bench.put("Binance/BTCUSDT/a.parquet", &ticks(1, 400));
    let conflicting: Vec<Tick> = ticks(1, 20).iter().map(|tick| but(tick, |tick| tick.price += 1)).collect();
    let other = bench.put("b.parquet", &conflicting);
    let mut transaction = bench.client.transaction().unwrap();
    transaction.batch_execute(ANY_CONFLICTS).unwrap();
    for uri in [&uri, &other] {
        transaction.query_one("SELECT btc_ingest.load_s3_slice($1)", &[uri]).unwrap();
    }
    let inside: i64 = transaction.query_one("SELECT count(*) FROM market_data.btc_ticks", &[]).unwrap().get(0);
    assert_eq!(inside, 400);
    transaction.rollback().unwrap();
    assert_eq!(bench.rows_everywhere(), NOTHING);
    assert_eq!(bench.load(&uri, "").counts(), [400, 400, 0, 0, 0, 0]);
}

#[test]
fn several_loads_in_one_transaction_see_each_other() {
    let mut bench = Bench::new();
    let all = ticks(1, 400);
    let (a, b) = (bench.put("a.parquet", &all[..300]), bench.put("b.parquet", &all[200..]));
    bench.run("BEGIN");
    assert_eq!(bench.load(&a, "").counts(), [300, 300, 0, 0, 0, 0]);
    assert_eq!(bench.load(&b, "").counts(), [200, 100, 100, 0, 0, 0]);
    assert_eq!(bench.load(&a, "").outcome, "already loaded");
    bench.run("COMMIT");
    must_hold(&mut bench.client, &all);
    let sql = format!(
        "SELECT sum((btc_ingest.load_s3_slice(u, force => true)).rows_duplicate)::text
                         FROM unnest(ARRAY['{a}', '{b}']) AS u"
    );
    assert_eq!(bench.text(&sql), "500");
}

#[test]
fn a_load_works_in_savepoints_and_after_them() {
    let mut bench = Bench::new();
    let all = ticks(1, 100);
    let uri = bench.put("a.parquet", &all);
    let other = bench.put("b.parquet", &ticks(1, 120));
    let bad = bench.put("bad.parquet", &[]);
    bench.stand.put(bad.trim_start_matches("s3://landing/"), "this is not Parquet, and long enough to see it");
    bench.run("BEGIN; SAVEPOINT one");
    assert_eq!(bench.load(&uri, "").counts(), [100, 100, 0, 0, 0, 0]);
    bench.run("ROLLBACK TO SAVEPOINT one");
    assert_eq!(bench.text("SELECT count(*)::text FROM market_data.btc_ticks"), "0");
    assert_eq!(bench.load(&uri, "").counts(), [100, 100, 0, 0, 0, 0]);
    bench.run("SAVEPOINT two");
    refused(&mut bench.client, &bad, "", "PQ002");
    bench.run("ROLLBACK TO SAVEPOINT two");
    assert_eq!(bench.load(&other, "").counts(), [120, 20, 100, 0, 0, 0]);
    bench.run("COMMIT");
    must_hold(&mut bench.client, &ticks(1, 120));
}

#[test]
fn a_load_works_in_and_after_an_exception_block() {
    let mut bench = Bench::new();
    let all = ticks(1, 100);
    let uri = bench.put("a.parquet", &all);
    let conflicting: Vec<Tick> = all.iter().map(|tick| but(tick, |tick| tick.price += 1)).collect();
    let other = bench.put("b.parquet", &conflicting);
    bench.run(&format!(
        "DO $$
         DECLARE report btc_ingest.load_report; tries integer := 0;
         BEGIN
             BEGIN
                 PERFORM btc_ingest.load_s3_slice('{uri}');
                 RAISE division_by_zero;
             EXCEPTION WHEN division_by_zero THEN tries := tries + 1;
             END;
             ASSERT NOT EXISTS (SELECT FROM market_data.btc_ticks), 'the block was rolled back';
             BEGIN
                 report := btc_ingest.load_s3_slice('{uri}');
             EXCEPTION WHEN OTHERS THEN RAISE;
             END;
             ASSERT report.rows_inserted = 100, report::text;
             BEGIN
                 PERFORM btc_ingest.load_s3_slice('{other}');
             EXCEPTION WHEN SQLSTATE 'TK005' THEN tries := tries + 1;
             END;
             BEGIN
                 PERFORM btc_ingest.load_s3_slice('{other}', options => '{{\"on_conflict\": \"abort\"}}');
             EXCEPTION WHEN SQLSTATE 'TK004' THEN tries := tries + 1;
             END;
             ASSERT tries = 3, tries::text;
             ASSERT (SELECT count(*) FROM ingestion.objects) = 1, 'failed loads leave no object';
             report := btc_ingest.load_s3_slice('{uri}', force => true);
             ASSERT report.rows_duplicate = 100, report::text;
         END $$"
    ));
    must_hold(&mut bench.client, &all);
    assert_eq!(bench.load(&uri, "").outcome, "already loaded");
}

#[test]
fn a_repeatable_read_caller_loads_and_is_told_to_retry_when_its_snapshot_is_too_old() {
    let mut bench = Bench::new();
    let all = ticks(1, 100);
    let uri = bench.put("a.parquet", &all);
    let mut other = bench.db.client();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM market_data.btc_ticks";

    bench.run(begin);
    assert_eq!(bench.load(&uri, "").counts(), [100, 100, 0, 0, 0, 0]);
    assert_eq!(bench.load(&uri, KEEP).counts(), [100, 0, 100, 0, 0, 0]);
    bench.run("ROLLBACK");

    bench.run(begin);
    loads(&mut other, &uri, "");
    refused(&mut bench.client, &uri, "", "40001");
    bench.run("ROLLBACK");

    // In a new snapshot the retry finds what is there.
    let mut transaction =
        bench.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().unwrap();
    let outcome = "SELECT outcome FROM btc_ingest.load_s3_slice($1)";
    assert_eq!(transaction.query_one(outcome, &[&uri]).unwrap().get::<_, String>(0), "already loaded");
    transaction.commit().unwrap();
    let mut transaction =
        bench.client.build_transaction().isolation_level(IsolationLevel::Serializable).start().unwrap();
    let duplicates = "SELECT rows_duplicate FROM btc_ingest.load_s3_slice($1, force => true)";
    assert_eq!(transaction.query_one(duplicates, &[&uri]).unwrap().get::<_, i64>(0), 100);
    transaction.commit().unwrap();
    must_hold(&mut bench.client, &all);
}

// ── many rows ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// Everything at once, over several batches of 65,536 rows: shuffled rows, some stored before with other values, some
/// twice in the object, some of them in batches far apart.
#[test]
fn many_batches_of_shuffled_rows_are_stored_exactly() {
    for args in [KEEP, REPLACE] {
        let mut bench = Bench::new();
        let start = time_us("2024-08-08T12:00:00Z");
        let good = Generator::new(11, "BTCUSDT", start, 1).per_second(110.0).next_slices(6);
        assert!(good.len() > 3 * 65_536, "{}", good.len());
        let rows = good.len();

        // Stored before: every tenth tick, and every hundredth of those with another price.
        let differs = |tick: &Tick| tick.trade_id % 1000 == 0;
        let stored: Vec<Tick> = good
            .iter()
            .filter(|tick| tick.trade_id % 10 == 0)
            .map(|tick| if differs(tick) { but(tick, |tick| tick.price += 1) } else { tick.clone() })
            .collect();
        let before = bench.put("before.parquet", &stored);
        bench.load(&before, "");

        // Shuffled, with every 500th of the others a second time, far away in the file, and equal.
        let mut object = good.clone();
        object.extend(good.iter().filter(|tick| tick.trade_id % 500 == 1).cloned());
        let twice = object.len() - rows;
        let mut random = Random(5);
        for at in (1..object.len()).rev() {
            object.swap(at, random.below(at as u64 + 1) as usize);
        }
        let uri = bench.put("a.parquet", &object);
        let report = bench.load(&uri, args);
        let conflicts = stored.iter().filter(|tick| differs(tick)).count() as i64;
        let [inserted, duplicate] =
            [rows - stored.len(), stored.len() - conflicts as usize + twice].map(|count| count as i64);
        let (kept, replaced) = if args == KEEP { (conflicts, 0) } else { (0, conflicts) };
        assert_eq!(report.counts(), [object.len() as i64, inserted, duplicate, kept, replaced, 0]);
        assert_eq!(report.slices, 6);
        if args == REPLACE {
            must_hold(&mut bench.client, &good);
        } else {
            must_hold(
                &mut bench.client,
                good.iter().filter(|t| !differs(t)).chain(stored.iter().filter(|t| differs(t))),
            );
            assert_eq!(bench.rejected().len() as i64, conflicts);
            // Each kept row is one of the object's, under its own number.
            for (row, _, data) in bench.rejected() {
                let id = object[row as usize].trade_id;
                assert!(data.contains(&format!(r#""trade_id": {id},"#)), "row {row}: {data}");
            }
        }
        let slices =
            bench.text(&format!("SELECT sum(ticks)::text FROM ingestion.object_slices WHERE s3_uri = '{uri}'"));
        assert_eq!(slices, object.len().to_string());
        let rows = object.len() as i64;
        let again = bench.load(&uri, args);
        assert_eq!(again.counts(), [rows, 0, rows - kept, kept, 0, 0]);
    }
}

#[test]
fn an_id_in_neighbouring_buckets_is_found_across_batches() {
    let start = time_us("2024-08-08T12:00:00Z");
    let good = Generator::new(12, "BTCUSDT", start, 1).per_second(250.0).next_slices(2);
    assert!(good.len() > 2 * 65_536, "{}", good.len());
    let border = good.iter().position(|tick| tick.event_time_us >= start + BUCKET_US).unwrap();
    // The first ten ticks again as the last rows of the file, in the bucket behind.
    let strays: Vec<Tick> = good[..10].iter().map(|tick| moved(tick, 1)).collect();
    let object = [&good[..], &strays].concat();
    let rows = object.len() as i64;
    assert!(border > 65_536, "{border}");

    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &object);
    assert_eq!(bench.load(&uri, KEEP).counts(), [rows, rows - 10, 0, 10, 0, 0]);
    must_hold(&mut bench.client, &good);
    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &object);
    assert_eq!(bench.load(&uri, REPLACE).counts(), [rows, rows - 10, 0, 0, 10, 0]);
    must_hold(&mut bench.client, object[10..].iter());
    let mut bench = Bench::new();
    let uri = bench.put("a.parquet", &object);
    refused(&mut bench.client, &uri, ABORT, "TK004");
    assert_eq!(bench.rows_everywhere(), NOTHING);
}

#[test]
fn a_tick_of_null_columns_is_stored_with_nulls() {
    let mut bench = Bench::new();
    let all = ticks(1, 3);
    let file = ParquetFile::new()
        .without("buyer_order_id")
        .without("seller_order_id")
        .column("trade_time", Arc::new(TimestampMicrosecondArray::new_null(3)))
        .column("is_market_maker", Arc::new(BooleanArray::new_null(3)));
    let uri = bench.put_as("a.parquet", file, &all);
    assert_eq!(bench.load(&uri, "").counts(), [3, 3, 0, 0, 0, 0]);
    for line in stored_lines(&mut bench.client) {
        assert!(line.contains("traded null:") && line.ends_with("orders null null, maker null"), "{line}");
    }
    // Later the same ticks with all their values: nothing is a conflict, and what is stored stays.
    let full = bench.put("b.parquet", &all);
    assert_eq!(bench.load(&full, ABORT).counts(), [3, 0, 3, 0, 0, 0]);
}
