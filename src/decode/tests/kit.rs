//! Helpers that write ticks as Parquet in memory and read them with ordinary settings.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, new_null_array,
};
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::decode::{DecodeSettings, Decoded, TickReader, map_columns, read_footer};
use crate::error::Result;
use crate::model::options::{LoadOptions, OnBadRow};
use crate::model::source::MemorySource;
use crate::model::tick::Symbols;
use crate::model::time_range::TimeRange;

/// The time of the first tick, in milliseconds since 1970.
pub const T0: i64 = 1_700_000_000_000;

/// Columns by name, in the order of the file.
pub type Columns = Vec<(&'static str, ArrayRef)>;

/// Makes all nine columns of `rows` good ticks.
pub fn ticks(rows: usize) -> Columns {
    let text =
        |value: &dyn Fn(usize) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values((0..rows).map(value))) };
    let times = || TimestampMillisecondArray::from_iter_values((0..rows as i64).map(|i| T0 + i)).with_timezone("UTC");
    vec![
        ("event_time", Arc::new(times())),
        ("trade_time", Arc::new(times())),
        ("symbol", text(&|i| if i % 5 == 4 { "ETHUSDT".into() } else { "BTCUSDT".into() })),
        ("trade_id", Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|i| 1000 + i)))),
        ("price", text(&|i| format!("{}.{:02}", 60_000 + i % 977, i % 100))),
        ("quantity", text(&|i| format!("0.{:08}", i % 99_999 + 1))),
        ("buyer_order_id", text(&|i| format!("{}", 7_000_000_000_000u64 + i as u64))),
        ("seller_order_id", text(&|i| format!("order-{}", i * 3))),
        ("is_market_maker", Arc::new(BooleanArray::from_iter((0..rows).map(|i| (i % 7 != 6).then_some(i % 2 == 0))))),
    ]
}

/// Replaces one of the columns.
pub fn with(mut columns: Columns, name: &str, array: impl Into<ArrayRef>) -> Columns {
    let array = array.into();
    columns.iter_mut().filter(|(own, _)| *own == name).for_each(|column| column.1 = array.clone());
    columns
}

/// Replaces one of the columns by nulls.
pub fn with_null(columns: Columns, name: &str, data_type: &DataType) -> Columns {
    let rows = columns[0].1.len();
    with(columns, name, new_null_array(data_type, rows))
}

pub fn write_with(columns: Columns, properties: WriterProperties) -> Bytes {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap().into()
}

pub fn write(columns: Columns) -> Bytes {
    write_with(columns, WriterProperties::default())
}

pub fn settings() -> DecodeSettings {
    DecodeSettings {
        memory_limit: 64 << 20,
        on_bad_row: OnBadRow::Abort,
        // From 1969 to 2100.
        times: TimeRange { first: -31_536_000_000_000, last: 4_102_444_800_000_000 },
        max_kept_rejects: 100,
        max_batch_rows: 65_536,
        first_batch_rows: 65_536,
        max_batch_bytes: 16 << 20,
    }
}

/// Reads all batches, and the symbols in them.
pub fn read_with(file: Bytes, options: &LoadOptions, settings: DecodeSettings) -> Result<(Vec<Decoded>, Vec<String>)> {
    let source = MemorySource(file);
    let meta = Arc::new(read_footer(&source, None, settings.memory_limit)?);
    let mapping = map_columns(&meta, options)?;
    let mut reader = TickReader::new(&source, meta, mapping, options, settings)?;
    let mut symbols = Symbols::default();
    let mut batches = Vec::new();
    while let Some(batch) = reader.next(&mut symbols, &|| false)? {
        batches.push(batch);
    }
    Ok((batches, symbols.names().iter().map(|name| name.to_string()).collect()))
}

/// Reads the one batch of a small file.
pub fn read(file: Bytes) -> Result<Decoded> {
    let (mut batches, _) = read_with(file, &LoadOptions::default(), settings())?;
    assert_eq!(batches.len(), 1);
    Ok(batches.remove(0))
}
