//! Which columns of a file are read: short names, aggregate trades, columns that are left out, ids as doubles.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use btc_ingest_kit::fixture::{loaded, refused};
use btc_ingest_kit::rows::ticks;
use btc_ingest_kit::sql::{text, texts};
use btc_ingest_kit::{ParquetFile, ServerFixture, TestDb};

const ROWS: usize = 4;
const ORDERS: &str = "SELECT concat_ws('/', trade_id, coalesce(buyer_order_id, '-'), coalesce(seller_order_id, '-'))
                        FROM market_data.btc_ticks ORDER BY trade_id";

fn put(db: &TestDb<'_>, key: &str, file: &ParquetFile) -> String {
    ServerFixture::shared().put(&format!("{}/{key}.parquet", db.name()), file.bytes(&ticks(1, ROWS)))
}

fn prices(first: f64) -> ArrayRef {
    Arc::new((0..ROWS).map(|row| Some(format!("{}", first + row as f64))).collect::<StringArray>())
}

/// Gives the columns Binance's names in events of single trades, but for the trade id and the order ids.
fn short(file: ParquetFile) -> ParquetFile {
    let names = [("event_time", "E"), ("trade_time", "T"), ("symbol", "s"), ("price", "p"), ("quantity", "q")];
    names.iter().fold(file, |file, (name, short)| file.rename(name, short)).rename("is_market_maker", "m")
}

#[test]
fn ask_and_bid_beside_full_names_are_no_order_ids() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let file = ParquetFile::new().without("buyer_order_id").without("seller_order_id");
    let uri = put(&db, "quotes", &file.column("a", prices(60_001.5)).column("b", prices(60_000.5)));
    assert_eq!(loaded(&mut client, &uri, "").inserted, ROWS as i64);
    assert_eq!(texts(&mut client, ORDERS), ["1/-/-", "2/-/-", "3/-/-", "4/-/-"]);
}

#[test]
fn a_column_that_is_mapped_to_one_tick_column_is_not_read_as_another() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let file =
        short(ParquetFile::new()).rename("trade_id", "a").rename("buyer_order_id", "b").without("seller_order_id");
    let uri = put(&db, "mapped", &file);
    loaded(&mut client, &uri, r#"options => '{"columns": {"trade_id": "a"}}'"#);
    assert_eq!(text(&mut client, "SELECT count(seller_order_id)::text FROM market_data.btc_ticks"), "0");
    assert_eq!(text(&mut client, "SELECT count(buyer_order_id)::text FROM market_data.btc_ticks"), "4");
}

#[test]
fn aggregate_trades_are_refused_with_the_reason_and_loaded_on_request() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![10, 20, 30, 40]));
    let file = short(ParquetFile::new()).without("buyer_order_id").without("seller_order_id").rename("trade_id", "a");
    let uri = put(&db, "aggregates", &file.column("f", ids.clone()).column("l", ids));
    for options in ["", r#"options => '{"columns": {"trade_id": "a"}}'"#] {
        let refusal = refused(&mut client, &uri, options, "PQ010");
        assert!(refusal.message.contains("aggregate trades: \"f\" and \"l\""), "{refusal:?}");
        assert!(refusal.hint.contains("aggregate_trades"), "{refusal:?}");
    }
    let problem = format!("SELECT problem FROM btc_ingest.inspect_s3('{uri}')");
    assert!(text(&mut client, &problem).contains("aggregate trades"));
    let wanted = r#"options => '{"aggregate_trades": true, "symbol": "BTCUSDT-AGG"}'"#;
    assert_eq!(loaded(&mut client, &uri, wanted).inserted, ROWS as i64);
    assert_eq!(texts(&mut client, ORDERS), ["1/-/-", "2/-/-", "3/-/-", "4/-/-"]);
    // The request is remembered.
    assert_eq!(loaded(&mut client, &uri, "").outcome, "already loaded");
    assert_eq!(loaded(&mut client, &uri, "force => true").duplicate, ROWS as i64);
    refused(&mut client, &uri, r#"options => '{"aggregate_trades": false}'"#, "PQ010");
}

#[test]
fn an_optional_column_that_cannot_be_read_is_left_out_on_request_and_that_is_remembered() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let wrong: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![1, 2, 3, 4]));
    let uri = put(&db, "dates", &ParquetFile::new().column("seller_order_id", wrong));
    let refusal = refused(&mut client, &uri, "", "PQ009");
    let said = r#"options {"columns": {"seller_order_id": null}} leaves it out"#;
    assert!(refusal.message.contains(said), "{refusal:?}");
    let without = r#"options => '{"columns": {"seller_order_id": null}}'"#;
    assert_eq!(loaded(&mut client, &uri, without).inserted, ROWS as i64);
    assert_eq!(text(&mut client, "SELECT count(seller_order_id)::text FROM market_data.btc_ticks"), "0");
    let options = "SELECT options::text FROM ingestion.objects";
    assert_eq!(text(&mut client, options), r#"{"columns": {"seller_order_id": null}}"#);
    assert_eq!(loaded(&mut client, &uri, "").outcome, "already loaded");
    assert_eq!(loaded(&mut client, &uri, "force => true").duplicate, ROWS as i64);
    let refusal = refused(&mut client, &uri, r#"options => '{"columns": {"price": null}}'"#, "TK002");
    assert!(refusal.message.contains("\"price\" is required and cannot be left out"), "{refusal:?}");
}

#[test]
fn doubles_that_pandas_makes_of_ids_with_nulls_are_ids() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let most = 9_007_199_254_740_991.0;
    let sellers: ArrayRef = Arc::new(Float64Array::from(vec![Some(7.0), Some(f64::NAN), None, Some(most)]));
    let ids: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0, most]));
    let file = ParquetFile::new().without("buyer_order_id").column("seller_order_id", sellers).column("trade_id", ids);
    let uri = put(&db, "doubles", &file);
    assert_eq!(loaded(&mut client, &uri, "").inserted, ROWS as i64);
    assert_eq!(texts(&mut client, ORDERS), ["1/-/7", "2/-/-", "3/-/-", "9007199254740991/-/9007199254740991"]);
    let wrong: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.5, 9_007_199_254_740_992.0, f64::NAN]));
    let uri = put(&db, "wrong-doubles", &ParquetFile::new().column("trade_id", wrong));
    assert_eq!(loaded(&mut client, &uri, "on_bad_row => 'reject'").rejected, 3);
    let reasons = "SELECT reason FROM landing.rejected_ticks ORDER BY row_number";
    let expected = ["is not a whole number", "is too large for a floating-point column to hold it exactly", "is null"];
    assert_eq!(texts(&mut client, reasons), expected.map(|why| format!("trade_id {why}")));
}

#[test]
fn a_writer_whose_name_cannot_be_stored_is_escaped_and_cut_wherever_it_appears() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    for (key, writer, shown) in [
        ("zero", "a\0b\u{7}c".to_owned(), "a\\u{0}b\\u{7}c".to_owned()),
        ("long", "w".repeat(9_000), format!("{}… (8500 characters more)", "w".repeat(500))),
    ] {
        let uri = put(&db, key, &ParquetFile::new().created_by(&writer));
        let found = client.query_one("SELECT writer FROM btc_ingest.inspect_s3($1)", &[&uri]).unwrap();
        assert_eq!(found.get::<_, String>(0), shown);
        client.query_one("SELECT btc_ingest.register_s3_slice($1, 'BTCUSDT')::text", &[&uri]).unwrap();
        loaded(&mut client, &uri, "");
        for table in ["ingestion.objects", "landing.raw_blobs_5m"] {
            let sql = format!("SELECT metadata ->> 'writer' FROM {table} WHERE s3_uri = '{uri}'");
            assert_eq!(text(&mut client, &sql), shown, "{table}");
        }
        client.batch_execute("DELETE FROM landing.raw_blobs_5m").unwrap();
    }
}
