//! `ticks`, `last_price`, `complete_until`, and the view `incomplete`.

use std::time::{Duration, Instant};

use btc_ingest_kit::rows::{but, moved, ticks, ticks_of};
use btc_ingest_kit::sql::Session;

use crate::answers_fixture::{AnswersFixture, generated};

const HOUR: &str = "'2024-08-08 12:00+00', '2024-08-08 13:00+00'";

#[test]
fn ticks_are_those_of_the_range_and_only_its_chunk_is_read() {
    let mut fixture = AnswersFixture::new();
    let btc = generated("BTCUSDT", 1, 14);
    fixture.load("btc", &btc);
    fixture.load("eth", &generated("ETHUSDT", 2, 2));
    // Chunks before and after.
    for weeks in [-4, -2, -1, 1, 3] {
        let far: Vec<_> = ticks(50_000_000 + weeks * 1000, 3).iter().map(|tick| moved(tick, weeks * 2016)).collect();
        fixture.load(&format!("far{weeks}"), &far);
    }
    let wanted = btc.iter().filter(|tick| tick.bucket_us() < btc[0].bucket_us() + 3_600_000_000).count() as i64;
    assert_eq!(fixture.number(&format!("SELECT count(*) FROM btc_ingest.ticks('BTCUSDT', {HOUR})")), wanted);
    let part = "SELECT count(*) FROM btc_ingest.ticks('BTCUSDT', '2024-08-08 12:02:30+00', '2024-08-08 12:07:30+00')";
    let start = btc[0].bucket_us();
    let inside = |time: i64| (start + 150_000_000..start + 450_000_000).contains(&time);
    assert_eq!(fixture.number(part), btc.iter().filter(|tick| inside(tick.event_time_us)).count() as i64);
    let all = "SELECT count(*) FROM btc_ingest.ticks('BTCUSDT', '-infinity', 'infinity')";
    assert_eq!(fixture.number(all), btc.len() as i64 + 15);

    assert_eq!(fixture.number("SELECT count(*) FROM timescaledb_information.chunks"), 6);
    let plan = fixture.texts(&format!("EXPLAIN SELECT avg(price) FROM btc_ingest.ticks('BTCUSDT', {HOUR})"));
    let plan = plan.join("\n");
    // The function is a part of the statement, and the plan has one chunk.
    assert!(!plan.contains("Function Scan"), "{plan}");
    assert_eq!(plan.matches(" on _hyper_").count(), 1, "{plan}");
    // Also where the range is known at execution only.
    fixture
        .run("PREPARE p (timestamptz) AS SELECT count(*) FROM btc_ingest.ticks('BTCUSDT', $1, $1 + interval '1 hour')");
    fixture.run("SET plan_cache_mode = force_generic_plan");
    assert_eq!(fixture.texts("SELECT 1::text WHERE false"), [] as [String; 0]);
    let plan = fixture.texts("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE p ('2024-08-08 12:00+00')").join("\n");
    let read = plan.lines().filter(|line| line.contains(" on _hyper_") && !line.contains("never executed")).count();
    assert_eq!(read, 1, "{plan}");
}

#[test]
fn the_last_price_reads_one_tick_also_of_a_chunk_without_statistics() {
    let mut fixture = AnswersFixture::new();
    fixture.load("a", &generated("BTCUSDT", 1, 10));
    assert_eq!(fixture.number("SELECT count(*) FROM pg_stats WHERE tablename ~ '^_hyper_.*_chunk$'"), 0);
    // Counters of earlier transactions may be among them, until they are sent.
    let counted = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint
                     FROM pg_stat_xact_all_tables WHERE relname ~ '^_hyper_.*_chunk$'";
    fixture.run("BEGIN");
    let before = fixture.number(counted);
    fixture.number("SELECT trade_id FROM btc_ingest.last_price('BTCUSDT')");
    let read = fixture.number(counted) - before;
    fixture.run("COMMIT");
    // The tick itself, and those that share its time and the one before.
    assert!(read < 20, "{read} ticks were read");
}

#[test]
fn a_range_of_ticks_that_ends_before_it_begins_is_refused() {
    let mut fixture = AnswersFixture::new();
    fixture.load("a", &ticks(1, 5));
    let reversed = "SELECT count(*) FROM btc_ingest.ticks('BTCUSDT', '2024-08-09', '2024-08-08')";
    let error = fixture.refused(reversed, "22000");
    assert_eq!(error.message, "range lower bound must be less than or equal to range upper bound");
    let empty = "SELECT count(*) FROM btc_ingest.ticks('BTCUSDT', '2024-08-08', '2024-08-08')";
    assert_eq!(fixture.number(empty), 0);
    // A range that comes from a row of the statement.
    let of_rows = "SELECT count(*) FROM generate_series('2024-08-08 12:00+00'::timestamptz, '2024-08-08 12:04+00', \
                   '1 minute') AS at, btc_ingest.ticks('BTCUSDT', at, at + interval '1 minute')";
    assert_eq!(fixture.number(of_rows), 5);
}

#[test]
fn the_last_price_is_that_of_the_last_trade_by_time_and_id() {
    let mut fixture = AnswersFixture::new();
    let mut some = ticks(1, 5);
    // The last three share their time, and the highest id comes first in the file.
    let time = some[4].event_time_us;
    some[2].event_time_us = time;
    some[3].event_time_us = time;
    some.swap(2, 4);
    fixture.load("a", &some);
    fixture.load("b", &ticks_of("ETHUSDT", 1, 1));
    let last = "SELECT trade_id || ' ' || price || ' ' || quantity FROM btc_ingest.last_price('BTCUSDT')";
    assert_eq!(fixture.text(last), "5 60004.00000004 1.000000000004");
    // A later chunk without a tick of the symbol, then an older tick, then a tick without a price.
    let later: Vec<_> = ticks_of("ETHUSDT", 100, 1).iter().map(|tick| moved(tick, 30_000)).collect();
    fixture.load("c", &later);
    fixture.load("d", &[moved(&but(&some[0], |tick| tick.trade_id = 900), -5)]);
    fixture.run(
        "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id)
         VALUES ('2024-08-09', '2024-08-09', 'BTCUSDT', 1000)",
    );
    assert_eq!(fixture.text(last), "5 60004.00000004 1.000000000004");
    assert_eq!(fixture.text("SELECT trade_id::text FROM btc_ingest.last_price('ETHUSDT')"), "100");
}

#[test]
fn the_last_price_takes_milliseconds_however_many_chunks_there_are() {
    let mut fixture = AnswersFixture::new();
    fixture.run(
        "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity)
         SELECT t, t, 'BTCUSDT', row_number() OVER (), 1, 1
           FROM generate_series('2014-01-02'::timestamptz, '2024-01-01', interval '7 days') AS t",
    );
    assert!(fixture.number("SELECT count(*) FROM timescaledb_information.chunks") > 500);
    let ask = "SELECT trade_id::text FROM btc_ingest.last_price('BTCUSDT')";
    let fastest = (0..50)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(fixture.text(ask), "522");
            began.elapsed()
        })
        .min();
    // Milliseconds on an idle machine: a plan with all chunks would take a hundred.
    assert!(fastest < Some(Duration::from_millis(20)), "{fastest:?}");
}

#[test]
fn an_unknown_symbol_is_refused_with_those_that_are_known() {
    let mut fixture = AnswersFixture::new();
    for sql in ["SELECT * FROM btc_ingest.last_price('BTCUSD')", "SELECT btc_ingest.complete_until('BTCUSD')"] {
        let refusal = fixture.refused(sql, "TK030");
        assert!(
            refusal.message.contains("no tick of 'BTCUSD'") && refusal.hint.contains("load_s3_slice"),
            "{refusal:?}"
        );
    }
    fixture.load("a", &ticks(1, 5));
    fixture.load("b", &ticks_of("ETHUSDT", 1, 5));
    let refusal = fixture.refused("SELECT * FROM btc_ingest.last_price('BTCUSD')", "TK030");
    assert!(refusal.hint.contains("BTCUSDT, ETHUSDT"), "{refusal:?}");
    let refusal = fixture.refused("SELECT * FROM btc_ingest.last_price(NULL)", "TK030");
    assert!(refusal.message.contains("null"), "{refusal:?}");
}

const RANGES: &str = "SELECT concat_ws(' ', coalesce(asset, 'any'),
    to_char(from_time AT TIME ZONE 'UTC', 'HH24:MI:SS'), to_char(to_time AT TIME ZONE 'UTC', 'HH24:MI:SS'), reason)
  FROM btc_ingest.incomplete ORDER BY from_time, to_time";
const UNTIL: &str =
    "SELECT coalesce(to_char(btc_ingest.complete_until('BTCUSDT') AT TIME ZONE 'UTC', 'HH24:MI:SS'), 'null')";

#[test]
fn what_waits_or_is_missing_makes_a_range_incomplete_until_it_is_loaded() {
    let mut fixture = AnswersFixture::new();
    // Buckets 12:00, 12:05 and 12:10 with 300 ids each; of the third, ids 700 to 709 are missing.
    let all = ticks(1, 900);
    let with_hole: Vec<_> = all[600..].iter().filter(|tick| !(700..710).contains(&tick.trade_id)).cloned().collect();
    fixture.load("first", &all[..300]);
    assert_eq!(fixture.texts(RANGES), [] as [String; 0]);
    assert_eq!(fixture.text(UNTIL), "12:04:59");

    let second = fixture.put("second", &all[300..600]);
    fixture.run(&format!("SELECT btc_ingest.register_s3_slice('{second}', 'BTCUSDT', '2024-08-08 12:05+00')"));
    assert_eq!(fixture.texts(RANGES), ["BTCUSDT 12:05:00 12:10:00 an object waits"]);
    fixture.load("third", &with_hole);
    // The ids of the second object are missing as well.
    assert_eq!(
        fixture.texts(RANGES),
        [
            "BTCUSDT 12:04:59 12:10:00 a gap is open",
            "BTCUSDT 12:05:00 12:10:00 an object waits",
            "BTCUSDT 12:11:38 12:11:49 a gap is open",
        ]
    );
    assert_eq!(fixture.text(UNTIL), "12:04:59");

    fixture.run("SELECT btc_ingest.sweep()");
    assert_eq!(fixture.texts(RANGES), ["BTCUSDT 12:11:38 12:11:49 a gap is open"]);
    assert_eq!(fixture.text(UNTIL), "12:11:38");
    fixture.load("hole", &all[699..709]);
    assert_eq!(fixture.texts(RANGES), [] as [String; 0]);
    assert_eq!(fixture.text(UNTIL), "12:14:59");

    // An object that cannot be loaded, and one whose times are unknown.
    let bad = fixture.server.put(&format!("{}/bad.parquet", fixture.db.name()), "no parquet");
    fixture.run(&format!("SELECT btc_ingest.register_s3_slice('{bad}', 'BTCUSDT', '2024-08-08 12:10+00')"));
    fixture.run("SELECT btc_ingest.sweep()");
    assert_eq!(fixture.texts(RANGES), ["BTCUSDT 12:10:00 12:15:00 an object is quarantined"]);
    assert_eq!(fixture.text(UNTIL), "12:10:00");
    fixture.run(&format!("SELECT btc_ingest.skip('{bad}', 'never mind')"));
    assert_eq!(fixture.texts(RANGES), [] as [String; 0]);
    assert_eq!(fixture.text(UNTIL), "12:14:59");
}

#[test]
fn an_asset_whose_ids_are_no_sequence_lacks_whole_slices_only() {
    let mut fixture = AnswersFixture::new();
    fixture.run("SELECT btc_ingest.declare_asset('OTC', false)");
    let otc = ticks_of("OTC", 1, 10);
    fixture.load("a", &otc);
    fixture.load("b", &[moved(&but(&otc[0], |tick| tick.trade_id = 77), 3)]);
    assert_eq!(fixture.texts(RANGES), ["OTC 12:05:00 12:15:00 slices are missing"]);
    let until = "SELECT to_char(btc_ingest.complete_until('OTC') AT TIME ZONE 'UTC', 'HH24:MI:SS')";
    assert_eq!(fixture.text(until), "12:05:00");
}
