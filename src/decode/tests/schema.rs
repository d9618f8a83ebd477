//! Columns are found by name and checked by type.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::kit::{Columns, read, read_with, settings, ticks, with, write};
use crate::decode::{FileMeta, map_columns, read_footer};
use crate::error::Error;
use crate::model::options::LoadOptions;
use crate::model::source::MemorySource;

fn meta(columns: Columns) -> FileMeta {
    read_footer(&MemorySource(write(columns)), None, 64 << 20).unwrap()
}

fn problems(columns: Columns, options: &LoadOptions) -> Vec<String> {
    match map_columns(&meta(columns), options) {
        Err(Error::SchemaMismatch { mismatches, .. }) => {
            mismatches.into_iter().map(|m| format!("{} {}", m.column, m.problem)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn renamed(names: &[(&str, &'static str)]) -> Columns {
    let rename = |(name, array): (&'static str, ArrayRef)| {
        (names.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| *new), array)
    };
    ticks(2).into_iter().map(rename).collect()
}

#[test]
fn one_error_names_everything_that_is_wrong() {
    let list = ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([Some([Some(1)]), Some([Some(2)])]);
    let group = StructArray::from(vec![(
        Arc::new(Field::new("x", DataType::Int32, true)),
        Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef,
    )]);
    let mut columns = with(ticks(2), "price", Arc::new(BooleanArray::from(vec![true, false])) as ArrayRef);
    columns = with(columns, "event_time", Arc::new(Date32Array::from(vec![1, 2])) as ArrayRef);
    columns = with(columns, "quantity", Arc::new(list) as ArrayRef);
    columns = with(columns, "buyer_order_id", Arc::new(group) as ArrayRef);
    columns.retain(|(name, _)| *name != "trade_id");
    let found = problems(columns, &LoadOptions::default());
    assert_eq!(
        found,
        [
            "event_time is INT32 DATE, expected a TIMESTAMP, INT96, integer or floating-point column",
            "trade_id is missing",
            "price is BOOLEAN, expected a decimal, string, integer or floating-point column",
            "quantity is GROUP, expected a decimal, string, integer or floating-point column",
            "buyer_order_id is GROUP, expected a string, integer, floating-point or DECIMAL column of scale 0; options \
             {\"columns\": {\"buyer_order_id\": null}} leaves it out",
        ]
    );
}

#[test]
fn a_repeated_column_is_called_so_wherever_it_is_named() {
    let schema = Arc::new(parse_message_type("message m { repeated int32 price; }").unwrap());
    let file = SerializedFileWriter::new(Vec::new(), schema, Default::default()).unwrap().into_inner().unwrap();
    let meta = read_footer(&MemorySource(file.into()), None, 64 << 20).unwrap();
    assert_eq!(meta.columns()[0].parquet_type, "REPEATED INT32");
    match map_columns(&meta, &LoadOptions::default()) {
        Err(Error::SchemaMismatch { mismatches, found }) => {
            let price = mismatches.iter().find(|mismatch| mismatch.column == "price").unwrap();
            assert!(price.problem.starts_with("is REPEATED INT32, expected"), "{}", price.problem);
            assert_eq!(found, "price REPEATED INT32");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_taken_in_any_case_and_order() {
    let mut columns = renamed(&[("price", "PRICE"), ("trade_id", "Trade_Id")]);
    columns.reverse();
    columns.insert(0, ("extra", Arc::new(Int32Array::from(vec![1, 2]))));
    assert_eq!(read(write(columns)).unwrap().ticks.trade_id, [1000, 1001]);
}

#[test]
fn an_exact_name_wins_and_equals_are_ambiguous() {
    let mut columns = ticks(2);
    columns.push(("PRICE", Arc::new(BooleanArray::from(vec![true, true]))));
    assert!(read(write(columns)).is_ok());
    let mut columns = renamed(&[("price", "Price")]);
    columns.push(("PRICE", Arc::new(StringArray::from(vec!["1", "2"]))));
    assert_eq!(
        problems(columns, &LoadOptions::default()),
        ["price is ambiguous: the file has \"Price\" and \"PRICE\""]
    );
}

#[test]
fn binance_names_are_told_apart_by_case() {
    let columns = renamed(&[
        ("event_time", "E"),
        ("trade_time", "T"),
        ("symbol", "s"),
        ("trade_id", "t"),
        ("price", "p"),
        ("quantity", "q"),
        ("buyer_order_id", "b"),
        ("seller_order_id", "a"),
        ("is_market_maker", "m"),
    ]);
    let infos = meta(columns.clone()).columns();
    let used: Vec<_> = infos.iter().map(|info| info.used_as.unwrap()).collect();
    assert_eq!(used, crate::model::options::TICK_COLUMNS);
    let batch = read(write(columns)).unwrap();
    assert_eq!(batch.ticks.trade_id, [1000, 1001]);
    assert_eq!(batch.ticks.seller_order_id.unwrap().get(1), Some(&b"order-3"[..]));
}

#[test]
fn a_mapping_is_followed_and_must_be_there() {
    let mut options = LoadOptions::default();
    options.columns.insert("price", Some("px".into()));
    let columns = || renamed(&[("price", "PX")]);
    assert!(read_with(write(columns()), &options, settings()).is_ok());
    options.columns.insert("trade_time", Some("nowhere".into()));
    assert_eq!(problems(columns(), &options), ["trade_time is mapped to \"nowhere\", which the file does not have"]);
}

#[test]
fn prices_beside_full_names_are_not_stored_as_order_ids() {
    let mut columns = ticks(2);
    columns.retain(|(name, _)| !name.ends_with("order_id"));
    columns.push(("a", Arc::new(StringArray::from(vec!["60001.1", "60001.2"]))));
    columns.push(("b", Arc::new(StringArray::from(vec!["60000.1", "60000.2"]))));
    let ticks = read(write(columns)).unwrap().ticks;
    assert_eq!((ticks.buyer_order_id, ticks.seller_order_id), (None, None));
}

#[test]
fn aggregate_trades_are_refused_unless_they_are_asked_for() {
    let first: ArrayRef = Arc::new(Int64Array::from(vec![1, 5]));
    let mut columns = renamed(&[
        ("event_time", "E"),
        ("symbol", "s"),
        ("trade_id", "a"),
        ("price", "p"),
        ("quantity", "q"),
        ("buyer_order_id", "f"),
        ("seller_order_id", "l"),
        ("is_market_maker", "m"),
    ]);
    columns.retain(|(name, _)| *name != "trade_time");
    columns = with(with(columns, "f", first.clone()), "l", first);
    let mapped = LoadOptions { columns: [("trade_id", Some("a".into()))].into(), ..Default::default() };
    for options in [LoadOptions::default(), mapped] {
        let error = read_with(write(columns.clone()), &options, settings()).unwrap_err();
        assert_eq!(error, Error::AggregateTrades { columns: vec!["f".into(), "l".into()] });
    }
    let wanted = LoadOptions { aggregate_trades: true, ..Default::default() };
    let (batches, _) = read_with(write(columns), &wanted, settings()).unwrap();
    assert_eq!(batches[0].ticks.trade_id, [1000, 1001]);
    assert_eq!((&batches[0].ticks.buyer_order_id, &batches[0].ticks.seller_order_id), (&None, &None));
}

#[test]
fn a_column_that_cannot_be_read_can_be_left_out() {
    let columns = with(ticks(2), "seller_order_id", Arc::new(Date32Array::from(vec![1, 2])) as ArrayRef);
    assert_eq!(
        problems(columns.clone(), &LoadOptions::default()),
        ["seller_order_id is INT32 DATE, expected a string, integer, floating-point or DECIMAL column of scale 0; \
             options {\"columns\": {\"seller_order_id\": null}} leaves it out"]
    );
    let left_out = LoadOptions { columns: [("seller_order_id", None)].into(), ..Default::default() };
    let (batches, _) = read_with(write(columns), &left_out, settings()).unwrap();
    assert_eq!(batches[0].ticks.seller_order_id, None);
}

#[test]
fn the_listing_of_a_wide_file_is_short() {
    let wide = (0..500).map(|i| (format!("column_{i}"), Arc::new(Int32Array::from(vec![1])) as ArrayRef));
    let batch = RecordBatch::try_from_iter(wide).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let source = MemorySource(writer.into_inner().unwrap().into());
    let meta = read_footer(&source, None, 64 << 20).unwrap();
    match map_columns(&meta, &LoadOptions::default()) {
        Err(Error::SchemaMismatch { found, .. }) => {
            assert!(found.len() < 2100 && found.ends_with("(450 more)"), "{found}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_fingerprint_is_that_of_names_and_types() {
    let one = meta(ticks(3)).fingerprint();
    assert_eq!(one.len(), 16);
    assert_eq!(one, meta(ticks(300)).fingerprint());
    assert_ne!(one, meta(renamed(&[("price", "px")])).fingerprint());
}
