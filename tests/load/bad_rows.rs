//! Rows that are no ticks are reported or kept; files whose columns do not fit are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Int32Array, Int64Array, StringArray};
use btc_ingest_kit::fixture::{loaded, refused, stored};
use btc_ingest_kit::parquet::Time;
use btc_ingest_kit::ticks::{decimal_text, time_us};
use btc_ingest_kit::{Generator, ParquetFile, ServerFixture, Sums, Tick};

/// One slice of about 1,300 ticks with ids that fit 32 bits.
fn ticks() -> Vec<Tick> {
    Generator::new(11, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1000).per_second(4.0).next_slice()
}

/// Stores a file of `ticks` under a key of its own.
fn put(test: &str, file: &ParquetFile, ticks: &[Tick]) -> String {
    static FILES: AtomicU32 = AtomicU32::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    ServerFixture::shared().put(&format!("{test}/{number}.parquet"), file.bytes(ticks))
}

/// Files of 60 ticks in row groups of 25 with one bad value each, and their messages.
fn defects() -> Vec<(&'static str, ParquetFile)> {
    let all = ticks();
    let ticks = &all[..60];
    let file = || ParquetFile::new().row_group_rows(25);
    let texts = |column: &str, units: &dyn Fn(&Tick) -> String, bad: &str| {
        let text = |(row, tick): (usize, &Tick)| Some(if row == BAD { bad.to_owned() } else { units(tick) });
        file().column(column, Arc::new(ticks.iter().enumerate().map(text).collect::<StringArray>()))
    };
    let price = |bad: &str| texts("price", &|tick| decimal_text(tick.price.into(), 8, 8), bad);
    let quantity = |bad: &str| texts("quantity", &|tick| decimal_text(tick.quantity, 12, 8), bad);
    let symbol = |bad: &str| texts("symbol", &|tick| tick.symbol.to_string(), bad);
    let id = |bad: &str| texts("trade_id", &|tick| tick.trade_id.to_string(), bad);
    let decimals = |column: &str, precision, scale: u32, bad: i128| {
        let units = |tick: &Tick| match column {
            "price" => i128::from(tick.price) * 10_i128.pow(scale - 8),
            _ => tick.quantity * 10_i128.pow(scale - 12),
        };
        let array: Decimal128Array =
            ticks.iter().enumerate().map(|(row, tick)| Some(if row == BAD { bad } else { units(tick) })).collect();
        file().column(column, Arc::new(array.with_precision_and_scale(precision, scale as i8).unwrap()))
    };
    let seconds = |bad: i64| {
        let second = |(row, tick): (usize, &Tick)| Some(if row == BAD { bad } else { tick.event_time_us / 1_000_000 });
        file().column("event_time", Arc::new(ticks.iter().enumerate().map(second).collect::<Int64Array>()))
    };
    let flag: Int32Array = (0..60).map(|row| Some(if row == BAD { 2 } else { 0 })).collect();
    vec![
        ("event_time is null", file().null("event_time", &[BAD])),
        ("symbol is null", file().null("symbol", &[BAD])),
        ("trade_id is null", file().null("trade_id", &[BAD])),
        ("price is null", file().null("price", &[BAD])),
        ("quantity is null", file().null("quantity", &[BAD])),
        ("symbol is empty", symbol("")),
        ("price is not above zero", price("0.00")),
        ("price is not above zero", price("-1.5")),
        ("price is not a number", price("NaN")),
        ("price is not a number", price("12,5")),
        ("quantity is not above zero", quantity("0")),
        ("quantity is not above zero", quantity("-0.00000001")),
        ("price has more than 8 decimal places", price("60000.123456789")),
        ("quantity has more than 12 decimal places", quantity("1.0000000000001")),
        ("price is out of range for numeric(18,8)", price("10000000000")),
        ("quantity is out of range for numeric(24,12)", quantity("1000000000000")),
        ("price has more than 8 decimal places", decimals("price", 38, 18, 60_000_000_000_000_000_000_001)),
        ("quantity has more than 12 decimal places", decimals("quantity", 38, 14, 1)),
        ("price is out of range for numeric(18,8)", decimals("price", 38, 8, 1_000_000_000_000_000_000)),
        ("price is not above zero", decimals("price", 20, 8, -1)),
        ("trade_id is out of range for bigint", id("9223372036854775808")),
        ("trade_id is not a whole number", id("12.5")),
        ("event_time is out of PostgreSQL's range", seconds(9_300_000_000_000)),
        ("event_time is out of PostgreSQL's range", seconds(i64::MIN)),
        ("is_market_maker is neither true nor false", file().column("is_market_maker", Arc::new(flag))),
    ]
}

/// The bad row, which is in row group 1.
const BAD: usize = 37;

#[test]
fn a_bad_row_fails_the_load_and_is_named() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    for (reason, file) in defects() {
        let uri = put("abort", &file, &ticks()[..60]);
        let refusal = refused(&mut client, &uri, r#"options => '{"time_unit": "s"}'"#, "TK001");
        for part in [uri.as_str(), "row 37", "row group 1", reason] {
            assert!(refusal.message.contains(part), "{part}: {refusal:?}");
        }
        assert!(refusal.hint.contains("on_bad_row"), "{refusal:?}");
        assert_eq!(stored(&mut client).rows, 0);
    }
}

#[test]
fn a_bad_row_is_left_out_and_kept_on_request() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    for (reason, file) in defects() {
        client.batch_execute("TRUNCATE market_data.btc_ticks").unwrap();
        let ticks = &ticks()[..60];
        let uri = put("reject", &file, ticks);
        let options = r#"on_bad_row => 'reject', options => '{"time_unit": "s"}'"#;
        let report = loaded(&mut client, &uri, options);
        assert_eq!(report.counts(), [60, 59, 0, 0, 0, 1], "{reason}");
        let good = ticks.iter().enumerate().filter(|(row, _)| *row != BAD).map(|(_, tick)| tick);
        stored(&mut client).must_be(&Sums::of(good), reason);
        let sql =
            "SELECT row_number, reason, etag, row_data ->> 'trade_id' FROM landing.rejected_ticks WHERE s3_uri = $1";
        let row = client.query_one(sql, &[&uri]).unwrap();
        assert_eq!((row.get(0), row.get(1), row.get(2)), (BAD as i64, reason.to_owned(), report.etag), "{reason}");
        if !reason.starts_with("trade_id") {
            assert_eq!(row.get::<_, Option<String>>(3), Some(ticks[BAD].trade_id.to_string()), "{reason}");
        }
    }
}

#[test]
fn rejects_beyond_the_limit_are_counted_and_not_kept() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let ticks = ticks();
    let bad: Vec<usize> = (0..ticks.len()).step_by(3).collect();
    let uri = put("kept", &ParquetFile::new().null("price", &bad).row_group_rows(500).page_rows(90), &ticks);
    let (rows, rejected) = (ticks.len() as i64, bad.len() as i64);
    for (keep, expected) in [(5, 5), (0, 0), (1000, rejected)] {
        client.batch_execute(&format!("SET btc_ingest.max_kept_rejects = {keep}")).unwrap();
        client.batch_execute("TRUNCATE market_data.btc_ticks").unwrap();
        let report = loaded(&mut client, &uri, "on_bad_row => 'reject', force => true");
        assert_eq!(report.counts(), [rows, rows - rejected, 0, 0, 0, rejected], "keep {keep}");
        // Rejects that an earlier load of the same version kept are not kept twice.
        let sql = "SELECT count(*), max(row_number), count(DISTINCT row_number) FROM landing.rejected_ticks";
        let row = client.query_one(sql, &[]).unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(2)), (expected, expected), "keep {keep}");
        let last = (expected > 0).then(|| 3 * (expected - 1));
        assert_eq!(row.get::<_, Option<i64>>(1), last, "keep {keep}: the first ones are kept");
    }
    let sql = "SELECT rows_rejected FROM ingestion.objects WHERE s3_uri = $1";
    assert_eq!(client.query_one(sql, &[&uri]).unwrap().get::<_, i64>(0), rejected);
}

#[test]
fn a_schema_that_does_not_fit_names_every_mismatch_at_once() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let ticks = ticks();
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; ticks.len()]));
    let file = ParquetFile::new()
        .event_time(Time::Text)
        .without("price")
        .column("trade_id", flags.clone())
        .column("quantity", flags)
        .rename("symbol", "ticker");
    let uri = put("mismatch", &file, &ticks);
    for on_bad_row in ["abort", "reject"] {
        let refusal = refused(&mut client, &uri, &format!("on_bad_row => '{on_bad_row}'"), "PQ009");
        for part in [
            "event_time is BYTE_ARRAY STRING, expected a TIMESTAMP",
            "symbol is missing",
            "trade_id is BOOLEAN",
            "price is missing",
            "quantity is BOOLEAN",
        ] {
            assert!(refusal.message.contains(part), "{part}: {refusal:?}");
        }
        assert!(refusal.detail.contains("ticker BYTE_ARRAY STRING"), "{refusal:?}");
        assert!(refusal.hint.contains("columns"), "{refusal:?}");
    }
}
