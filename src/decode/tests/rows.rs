//! Rows that are no ticks, batches, and the settings of a reader.

use std::cell::Cell;
use std::sync::Arc;

use arrow::array::*;
use parquet::file::properties::WriterProperties;

use super::kit::{T0, read, read_with, settings, ticks, with, write, write_with};
use crate::decode::{DecodeSettings, TickReader, map_columns, read_footer, time_span};
use crate::error::{Error, RowPosition};
use crate::model::bucket::{END_TIME_US, MIN_TIME_US};
use crate::model::options::{LoadOptions, OnBadRow, TimeUnit};
use crate::model::source::MemorySource;
use crate::model::tick::{NO_TIME, Symbols};

fn array(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

fn groups_of(rows: usize) -> WriterProperties {
    WriterProperties::builder().set_max_row_group_row_count(Some(rows)).build()
}

/// Checks that a file whose column holds this value is refused for this reason.
#[track_caller]
fn must_be_bad(column: &str, value: ArrayRef, reason: &str) {
    match read(write(with(ticks(1), column, value))) {
        Err(Error::BadRow { reason: found, .. }) => assert_eq!(found, reason),
        other => panic!("{reason}: {other:?}"),
    }
}

#[test]
fn an_implausible_time_is_reported_with_the_unit_that_fits() {
    for (column, value, reason) in [
        (
            "trade_time",
            array(TimestampMillisecondArray::from(vec![T0 * 1000])),
            "trade_time is +55840-11-08T22:13:20.000000Z, later than btc_ingest.max_time_ahead allows; in the unit \
             \"us\" it would be 2023-11-14T22:13:20.000000Z",
        ),
        (
            "event_time",
            array(TimestampMillisecondArray::from(vec![-31_536_000_001])),
            "event_time is 1968-12-31T23:59:59.999000Z, before btc_ingest.min_time; in the unit \"us\" it would be \
             1969-12-31T15:14:23.999999Z",
        ),
    ] {
        must_be_bad(column, value, reason);
    }
}

#[test]
fn every_reason_is_reported() {
    let text = |text: &str| array(StringArray::from(vec![text]));
    let long = "x".repeat(256);
    for (column, value, reason) in [
        ("event_time", array(TimestampMicrosecondArray::from(vec![None])), "event_time is null"),
        (
            "event_time",
            array(TimestampMillisecondArray::from(vec![i64::MAX])),
            "event_time is out of PostgreSQL's range",
        ),
        (
            "event_time",
            array(TimestampMicrosecondArray::from(vec![END_TIME_US])),
            "event_time is out of PostgreSQL's range",
        ),
        (
            "trade_time",
            array(TimestampMicrosecondArray::from(vec![MIN_TIME_US - 1])),
            "trade_time is out of PostgreSQL's range",
        ),
        ("symbol", text(""), "symbol is empty"),
        ("symbol", text("a\0b"), "symbol contains a zero byte"),
        ("symbol", text(&long), "symbol is longer than 255 bytes"),
        ("symbol", array(BinaryArray::from_vec(vec![b"\xff"])), "symbol is not valid UTF-8"),
        ("symbol", array(StringArray::from(vec![None::<&str>])), "symbol is null"),
        ("trade_id", text("12.5"), "trade_id is not a whole number"),
        ("trade_id", text("9223372036854775808"), "trade_id is out of range for bigint"),
        ("trade_id", array(Float64Array::from(vec![1.5])), "trade_id is not a whole number"),
        ("trade_id", array(Float64Array::from(vec![f64::NAN])), "trade_id is null"),
        ("trade_id", array(Float64Array::from(vec![None])), "trade_id is null"),
        (
            "seller_order_id",
            array(Float64Array::from(vec![9_007_199_254_740_992.0])),
            "seller_order_id is too large for a floating-point column to hold it exactly",
        ),
        ("buyer_order_id", array(Float32Array::from(vec![0.25])), "buyer_order_id is not a whole number"),
        ("is_market_maker", array(Float64Array::from(vec![0.5])), "is_market_maker is neither true nor false"),
        ("price", array(StringArray::from(vec![None::<&str>])), "price is null"),
        ("price", text("abc"), "price is not a number"),
        ("price", text("0"), "price is not above zero"),
        ("price", text("-1"), "price is not above zero"),
        ("price", text("0.000000001"), "price has more than 8 decimal places"),
        ("price", text("10000000000"), "price is out of range for numeric(18,8)"),
        ("price", array(Float64Array::from(vec![f64::NAN])), "price is not a number"),
        ("quantity", text("0.0000000000001"), "quantity has more than 12 decimal places"),
        ("quantity", text("1e12"), "quantity is out of range for numeric(24,12)"),
        ("buyer_order_id", text(&long), "buyer_order_id is longer than 255 bytes"),
        ("is_market_maker", text("maybe"), "is_market_maker is neither true nor false"),
        ("is_market_maker", array(Int64Array::from(vec![2])), "is_market_maker is neither true nor false"),
    ] {
        must_be_bad(column, value, reason);
    }
    assert!(read(write(with(ticks(1), "price", text("9999999999.99999999")))).is_ok());
    assert!(read(write(with(ticks(1), "quantity", text("999999999999.999999999999")))).is_ok());
}

#[test]
fn whole_doubles_are_ids_flags_and_times_and_nan_is_null() {
    let doubles = |values: [Option<f64>; 3]| array(Float64Array::from(values.to_vec()));
    let most = 9_007_199_254_740_991.0;
    let columns = with(ticks(3), "trade_id", doubles([Some(1.0), Some(most), Some(3.0)]));
    let columns = with(columns, "seller_order_id", doubles([Some(f64::NAN), None, Some(most)]));
    let columns = with(columns, "is_market_maker", doubles([Some(f64::NAN), Some(0.0), Some(1.0)]));
    let columns = with(columns, "trade_time", doubles([Some(T0 as f64), Some(f64::NAN), None]));
    let options = LoadOptions { time_unit: Some(TimeUnit::Milli), ..Default::default() };
    let (batches, _) = read_with(write(columns), &options, settings()).unwrap();
    let ticks = &batches[0].ticks;
    assert_eq!(ticks.trade_id, [1, (1 << 53) - 1, 3]);
    let sellers = ticks.seller_order_id.as_ref().unwrap();
    assert_eq!([0, 1, 2].map(|row| sellers.get(row)), [None, None, Some(&b"9007199254740991"[..])]);
    assert_eq!(ticks.is_market_maker, [None, Some(false), Some(true)]);
    assert_eq!(ticks.trade_time, [T0 * 1000, NO_TIME, NO_TIME]);
}

#[test]
fn implausible_times_are_rejected_row_by_row() {
    let wild = [T0, T0 * 1000, T0, T0 * 1_000_000];
    let columns = with(ticks(4), "event_time", array(TimestampMillisecondArray::from(wild.to_vec())));
    let settings = DecodeSettings { on_bad_row: OnBadRow::Reject, ..settings() };
    let (batches, _) = read_with(write(columns), &LoadOptions::default(), settings).unwrap();
    let batch = &batches[0];
    assert_eq!((batch.ticks.row.clone(), batch.rejected), (vec![0, 2], 2));
    let units: Vec<_> =
        batch.rejects.iter().map(|reject| reject.reason.split_once(" it would").map(|(said, _)| said)).collect();
    assert!(units[0].unwrap().ends_with("in the unit \"us\""), "{units:?}");
    assert!(units[1].unwrap().ends_with("in the unit \"ns\""), "{units:?}");
}

#[test]
fn abort_names_the_first_bad_row_of_the_file() {
    let mut prices: Vec<Option<String>> = (0..10).map(|i| Some(format!("{}", i + 1))).collect();
    prices[7] = None;
    let mut symbols = vec!["BTCUSDT"; 10];
    symbols[8] = "";
    let columns = with(ticks(10), "price", array(StringArray::from(prices)));
    let columns = with(columns, "symbol", array(StringArray::from(symbols)));
    let error = read(write_with(columns, groups_of(5))).unwrap_err();
    assert_eq!(error, Error::BadRow { position: RowPosition { row_group: 1, row: 7 }, reason: "price is null".into() });
}

#[test]
fn reject_leaves_rows_out_counts_all_and_keeps_some() {
    let prices: Vec<String> = (0..20_000).map(|i| if i % 10 == 3 { "x".repeat(2000) } else { "1.5".into() }).collect();
    let columns = with(ticks(20_000), "price", array(StringArray::from(prices)));
    let settings = DecodeSettings { on_bad_row: OnBadRow::Reject, max_kept_rejects: 3, ..settings() };
    let (batches, _) = read_with(write_with(columns, groups_of(9000)), &LoadOptions::default(), settings).unwrap();
    let rejects: Vec<_> = batches.iter().flat_map(|batch| &batch.rejects).collect();
    assert_eq!(batches.iter().map(|batch| batch.rejected).sum::<u64>(), 2000);
    assert_eq!(batches.iter().map(|batch| batch.ticks.len()).sum::<usize>(), 18_000);
    assert_eq!(rejects.len(), 3);
    assert_eq!(rejects[1].position.row, 13);
    assert_eq!(rejects[1].reason, "price is not a number");
    assert_eq!(rejects[1].values["price"].as_str().unwrap().len(), 1000);
    assert_eq!(rejects[1].values["trade_id"], "1013");
    assert_eq!(rejects[1].values["event_time"], "2023-11-14T22:13:20.013000Z");
    let ticks = &batches[0].ticks;
    assert_eq!((ticks.row[3], ticks.trade_id[3]), (4, 1004));
    assert_eq!(ticks.buyer_order_id.as_ref().unwrap().get(3), Some(&b"7000000000004"[..]));
}

#[test]
fn batches_span_row_groups_and_keep_their_limits() {
    let file = write_with(ticks(50_000), groups_of(7000));
    let limits = DecodeSettings { max_batch_rows: 20_000, first_batch_rows: 20_000, ..settings() };
    let (batches, _) = read_with(file.clone(), &LoadOptions::default(), limits).unwrap();
    assert!(batches.iter().all(|batch| batch.ticks.len() <= 20_000));
    assert!(batches[0].ticks.len() > 7000);
    let rows: Vec<u64> = batches.iter().flat_map(|batch| batch.ticks.row.clone()).collect();
    assert_eq!(rows, (0..50_000).collect::<Vec<u64>>());
    let one = DecodeSettings { max_batch_rows: 1000, first_batch_rows: 1000, max_batch_bytes: 1, ..settings() };
    let (batches, _) = read_with(file, &LoadOptions::default(), one).unwrap();
    assert!(batches.iter().all(|batch| batch.ticks.len() <= 1000));
    assert_eq!(batches.iter().map(|batch| batch.ticks.len()).sum::<usize>(), 50_000);
}

#[test]
fn a_first_batch_is_small_if_its_ids_ascend() {
    let lens = |columns| {
        let limits = DecodeSettings { first_batch_rows: 2048, ..settings() };
        let (batches, _) = read_with(write(columns), &LoadOptions::default(), limits).unwrap();
        batches.iter().map(|batch| batch.ticks.len()).collect::<Vec<_>>()
    };
    let ids = |ids: Vec<i64>| with(ticks(20_000), "trade_id", array(Int64Array::from(ids)));
    assert_eq!(lens(ticks(20_000)), [2048, 16_384, 1568]);
    assert_eq!(lens(ids((0..20_000).rev().collect())), [16_384, 3616]);
    // The ids of two symbols are two sequences.
    let symbols: Vec<&str> = (0..20_000).map(|i| ["A", "B"][i % 2]).collect();
    let two = with(ids((0..20_000).map(|i| i / 2).collect()), "symbol", array(StringArray::from(symbols)));
    assert_eq!(lens(two), [2048, 16_384, 1568]);
    // A large row group is read in large steps.
    assert_eq!(lens(ticks(70_000)), [8192, 16_384, 45_424]);
}

#[test]
fn a_file_without_rows_gives_nothing() {
    let (batches, _) = read_with(write(ticks(0)), &LoadOptions::default(), settings()).unwrap();
    assert!(batches.is_empty());
}

#[test]
fn a_given_symbol_is_stored_and_the_column_is_not_read() {
    let columns = with(ticks(3), "symbol", array(Int32Array::from(vec![1, 2, 3])));
    let options = LoadOptions { symbol: Some("X".into()), ..Default::default() };
    let (batches, symbols) = read_with(write(columns), &options, settings()).unwrap();
    assert_eq!((batches[0].ticks.symbol.clone(), symbols), (vec![0; 3], vec!["X".to_owned()]));
}

#[test]
fn a_cancelled_read_stops_within_a_page() {
    let source = MemorySource(write(ticks(100_000)));
    let meta = Arc::new(read_footer(&source, None, 64 << 20).unwrap());
    let options = LoadOptions::default();
    let mapping = map_columns(&meta, &options).unwrap();
    let mut reader = TickReader::new(&source, meta, mapping, &options, settings()).unwrap();
    let asked = Cell::new(0);
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() > 5
    };
    assert_eq!(reader.next(&mut Symbols::default(), &cancelled), Err(Error::Cancelled));
    assert_eq!(asked.get(), 6);
}

#[test]
fn the_span_of_times_is_known_from_the_footer() {
    let source = MemorySource(write_with(ticks(100), groups_of(30)));
    let meta = read_footer(&source, None, 64 << 20).unwrap();
    let mapping = map_columns(&meta, &LoadOptions::default()).unwrap();
    assert_eq!(time_span(&meta, &mapping), Some((T0 * 1000, (T0 + 99) * 1000)));
}

#[test]
fn the_span_of_unsigned_times_is_unsigned() {
    let span = |times: ArrayRef| {
        let source = MemorySource(write(with(ticks(2), "event_time", times)));
        let meta = read_footer(&source, None, 64 << 20).unwrap();
        let options = LoadOptions { time_unit: Some(TimeUnit::Second), ..Default::default() };
        time_span(&meta, &map_columns(&meta, &options).unwrap())
    };
    assert_eq!(span(array(UInt32Array::from(vec![u32::MAX, 1]))), Some((1_000_000, 4_294_967_295_000_000)));
    assert_eq!(span(array(UInt64Array::from(vec![1, 1 << 63]))), None);
}
