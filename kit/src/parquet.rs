//! Ticks as Parquet, in any physical shape a producer may choose.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Decimal256Array, Float32Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, UInt64Array, new_null_array,
};
use arrow::compute::{cast, nullif};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, i256};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::ticks::{Tick, decimal_text};

/// How a time is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// A timestamp type with a unit, with `UTC` as its zone or without one. Seconds become a bare INT64 in the file.
    Stamp(TimeUnit, bool),
    /// A bare INT64 in this unit.
    Int(TimeUnit),
    /// Text, as `2024-08-08T12:00:00.123456Z`.
    Text,
}

/// How a price or a quantity is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// Decimal text with at least eight places, as exchanges send it.
    Text,
    /// DECIMAL of a precision and a scale; INT32, INT64 or fixed bytes in the file, by the precision.
    Decimal(u8, i8),
    /// DECIMAL over 256 bits, for precisions beyond 38.
    Wide(u8, i8),
    /// DOUBLE.
    Double,
    /// FLOAT.
    Float,
    /// INT64, cut to whole numbers.
    Int,
}

/// How an id is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    /// INT64.
    Int,
    /// INT32.
    Short,
    /// Unsigned INT64.
    Unsigned,
    /// Text.
    Text,
    /// INT64, and every value null.
    Null,
}

type Replace = (Field, ArrayRef);

/// The builder of a Parquet file; [`ParquetFile::bytes`] writes it.
///
/// The default: timestamps in microseconds, UTC; text for symbol, price and quantity; INT64 ids; snappy.
#[derive(Debug, Clone)]
pub struct ParquetFile {
    event_time: Time,
    trade_time: Time,
    price: Number,
    quantity: Number,
    trade_id: Id,
    order_id: Id,
    text: DataType,
    codec: Compression,
    version: WriterVersion,
    dictionary: bool,
    encodings: Vec<(String, Encoding)>,
    statistics: EnabledStatistics,
    row_group_rows: usize,
    page_bytes: Option<usize>,
    page_rows: Option<usize>,
    arrow_schema: bool,
    created_by: Option<String>,
    without: Vec<String>,
    renamed: Vec<(String, String)>,
    nulls: Vec<(String, Vec<usize>)>,
    replaced: Vec<Replace>,
    order: Vec<String>,
}

impl Default for ParquetFile {
    fn default() -> Self {
        Self {
            event_time: Time::Stamp(TimeUnit::Microsecond, true),
            trade_time: Time::Stamp(TimeUnit::Microsecond, true),
            price: Number::Text,
            quantity: Number::Text,
            trade_id: Id::Int,
            order_id: Id::Int,
            text: DataType::Utf8,
            codec: Compression::SNAPPY,
            version: WriterVersion::PARQUET_1_0,
            dictionary: true,
            encodings: Vec::new(),
            statistics: EnabledStatistics::Page,
            row_group_rows: 1_048_576,
            page_bytes: None,
            page_rows: None,
            arrow_schema: true,
            created_by: None,
            without: Vec::new(),
            renamed: Vec::new(),
            nulls: Vec::new(),
            replaced: Vec::new(),
            order: Vec::new(),
        }
    }
}

impl ParquetFile {
    /// Returns the usual file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how both times are stored.
    pub fn time(self, time: Time) -> Self {
        self.event_time(time).trade_time(time)
    }

    /// Sets how the event time is stored.
    pub fn event_time(mut self, time: Time) -> Self {
        self.event_time = time;
        self
    }

    /// Sets how the trade time is stored.
    pub fn trade_time(mut self, time: Time) -> Self {
        self.trade_time = time;
        self
    }

    /// Sets how price and quantity are stored.
    pub fn number(self, number: Number) -> Self {
        self.price(number).quantity(number)
    }

    /// Sets how the price is stored.
    pub fn price(mut self, number: Number) -> Self {
        self.price = number;
        self
    }

    /// Sets how the quantity is stored.
    pub fn quantity(mut self, number: Number) -> Self {
        self.quantity = number;
        self
    }

    /// Sets how the trade id is stored.
    pub fn trade_id(mut self, id: Id) -> Self {
        self.trade_id = id;
        self
    }

    /// Sets how both order ids are stored.
    pub fn order_id(mut self, id: Id) -> Self {
        self.order_id = id;
        self
    }

    /// Sets the Arrow type of all text: Utf8, LargeUtf8, Utf8View, Binary, or a dictionary of them.
    pub fn text(mut self, text: DataType) -> Self {
        self.text = text;
        self
    }

    /// Sets the compression.
    pub fn codec(mut self, codec: Compression) -> Self {
        self.codec = codec;
        self
    }

    /// Writes data pages of version 2.
    pub fn v2(mut self) -> Self {
        self.version = WriterVersion::PARQUET_2_0;
        self
    }

    /// Writes no dictionary pages.
    pub fn plain(mut self) -> Self {
        self.dictionary = false;
        self
    }

    /// Writes a column without a dictionary and in this encoding, by its name in the file.
    pub fn encoding(mut self, column: &str, encoding: Encoding) -> Self {
        self.encodings.push((column.to_owned(), encoding));
        self
    }

    /// Writes no statistics, so that no page and no row group tells what it holds.
    pub fn without_statistics(mut self) -> Self {
        self.statistics = EnabledStatistics::None;
        self
    }

    /// Limits the rows of a row group.
    pub fn row_group_rows(mut self, rows: usize) -> Self {
        self.row_group_rows = rows;
        self
    }

    /// Sets the approximate size of a data page in bytes.
    pub fn page_bytes(mut self, bytes: usize) -> Self {
        self.page_bytes = Some(bytes);
        self
    }

    /// Sets the approximate number of rows of a data page.
    pub fn page_rows(mut self, rows: usize) -> Self {
        self.page_rows = Some(rows);
        self
    }

    /// Leaves out the note on Arrow types that Arrow's writers put into the footer: other producers write none.
    pub fn without_arrow_schema(mut self) -> Self {
        self.arrow_schema = false;
        self
    }

    /// Sets what the footer tells of the writer.
    pub fn created_by(mut self, writer: &str) -> Self {
        self.created_by = Some(writer.to_owned());
        self
    }

    /// Leaves a column out.
    pub fn without(mut self, column: &str) -> Self {
        self.without.push(column.to_owned());
        self
    }

    /// Gives a column another name.
    pub fn rename(mut self, column: &str, name: &str) -> Self {
        self.renamed.push((column.to_owned(), name.to_owned()));
        self
    }

    /// Makes a column null in these rows, counted from 0.
    pub fn null(mut self, column: &str, rows: &[usize]) -> Self {
        self.nulls.push((column.to_owned(), rows.to_vec()));
        self
    }

    /// Replaces the column of that name by this array, or adds it at the end.
    pub fn column(mut self, name: &str, array: ArrayRef) -> Self {
        self.replaced.push((Field::new(name, array.data_type().clone(), true), array));
        self
    }

    /// Writes these columns first, in this order, by their names in the file.
    pub fn order(mut self, names: &[&str]) -> Self {
        self.order = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Returns the ticks as a record batch.
    pub fn batch(&self, ticks: &[Tick]) -> RecordBatch {
        let mut columns = self.columns(ticks);
        for (field, array) in &self.replaced {
            match columns.iter_mut().find(|(name, _)| name == field.name()) {
                Some(column) => column.1 = array.clone(),
                None => columns.push((field.name().clone(), array.clone())),
            }
        }
        for (name, rows) in &self.nulls {
            let column = columns.iter_mut().find(|column| column.0 == *name).expect("a column of the file");
            let hidden: BooleanArray = (0..column.1.len()).map(|row| Some(rows.contains(&row))).collect();
            column.1 = nullif(&column.1, &hidden).expect("arrays of one length");
        }
        columns.retain(|(name, _)| !self.without.contains(name));
        for (column, name) in &self.renamed {
            columns.iter_mut().find(|(old, _)| old == column).expect("a column of the file").0.clone_from(name);
        }
        columns.sort_by_key(|(name, _)| self.order.iter().position(|first| first == name).unwrap_or(usize::MAX));
        let fields: Vec<Field> =
            columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns of one length")
    }

    /// Returns the ticks as the bytes of a file.
    pub fn bytes(&self, ticks: &[Tick]) -> Bytes {
        let batch = self.batch(ticks);
        let mut properties = WriterProperties::builder()
            .set_compression(self.codec)
            .set_writer_version(self.version)
            .set_dictionary_enabled(self.dictionary)
            .set_statistics_enabled(self.statistics)
            .set_max_row_group_row_count(Some(self.row_group_rows));
        if let Some(bytes) = self.page_bytes {
            properties = properties.set_data_page_size_limit(bytes);
        }
        if let Some(rows) = self.page_rows {
            // The writer checks its limits after every batch of values, so a batch must not be longer than a page.
            properties = properties.set_data_page_row_count_limit(rows).set_write_batch_size(rows.min(1024));
        }
        for (column, encoding) in &self.encodings {
            let path = ColumnPath::from(column.as_str());
            properties =
                properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, *encoding);
        }
        if let Some(writer) = &self.created_by {
            properties = properties.set_created_by(writer.clone());
        }
        let options =
            ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(!self.arrow_schema);
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new_with_options(&mut file, batch.schema(), options).expect("a schema");
        writer.write(&batch).expect("memory does not fail");
        writer.close().expect("memory does not fail");
        file.into()
    }

    fn columns(&self, ticks: &[Tick]) -> Vec<(String, ArrayRef)> {
        let buyers = ticks.iter().map(|tick| tick.buyer_order_id);
        let sellers = ticks.iter().map(|tick| tick.seller_order_id);
        let makers: BooleanArray = ticks.iter().map(|tick| Some(tick.is_market_maker)).collect();
        let prices = ticks.iter().map(|tick| i128::from(tick.price));
        let columns = [
            ("event_time", self.times(self.event_time, ticks.iter().map(|tick| Some(tick.event_time_us)))),
            ("trade_time", self.times(self.trade_time, ticks.iter().map(|tick| tick.trade_time_us))),
            ("symbol", self.texts(ticks.iter().map(|tick| Some(tick.symbol.to_string())))),
            ("trade_id", self.ids(self.trade_id, ticks.iter().map(|tick| Some(tick.trade_id)))),
            ("price", self.numbers(self.price, 8, prices)),
            ("quantity", self.numbers(self.quantity, 12, ticks.iter().map(|tick| tick.quantity))),
            ("buyer_order_id", self.ids(self.order_id, buyers)),
            ("seller_order_id", self.ids(self.order_id, sellers)),
            ("is_market_maker", Arc::new(makers) as ArrayRef),
        ];
        columns.into_iter().map(|(name, array)| (name.to_owned(), array)).collect()
    }

    fn texts(&self, values: impl Iterator<Item = Option<String>>) -> ArrayRef {
        let array: StringArray = values.collect();
        cast(&array, &self.text).expect("a type of text")
    }

    fn times(&self, time: Time, values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
        match time {
            Time::Text => self.texts(values.map(|time| {
                let (seconds, micros) = (time?.div_euclid(1_000_000), time?.rem_euclid(1_000_000));
                let text = crate::ticks::time_text(seconds * 1_000_000, "%Y-%m-%dT%H:%M:%S");
                Some(format!("{text}.{micros:06}Z"))
            })),
            Time::Int(unit) => Arc::new(values.map(|time| time.map(|us| in_unit(us, unit))).collect::<Int64Array>()),
            Time::Stamp(unit, zone) => {
                let array: Int64Array = values.map(|time| time.map(|us| in_unit(us, unit))).collect();
                let kind = DataType::Timestamp(unit, zone.then(|| "UTC".into()));
                cast(&array, &kind).expect("integers are times")
            }
        }
    }

    fn ids(&self, id: Id, values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
        match id {
            Id::Int => Arc::new(values.collect::<Int64Array>()),
            Id::Short => Arc::new(values.map(|id| id.map(|id| id as i32)).collect::<Int32Array>()),
            Id::Unsigned => Arc::new(values.map(|id| id.map(|id| id as u64)).collect::<UInt64Array>()),
            Id::Text => self.texts(values.map(|id| id.map(|id| id.to_string()))),
            Id::Null => new_null_array(&DataType::Int64, values.count()),
        }
    }

    fn numbers(&self, number: Number, scale: u32, values: impl Iterator<Item = i128>) -> ArrayRef {
        let text = |units| decimal_text(units, scale as usize, 8);
        match number {
            Number::Text => self.texts(values.map(|units| Some(text(units)))),
            Number::Decimal(precision, to) => {
                let array: Decimal128Array = values.map(|units| Some(rescaled(units, scale, to))).collect();
                Arc::new(array.with_precision_and_scale(precision, to).expect("a precision that fits"))
            }
            Number::Wide(precision, to) => {
                let array: Decimal256Array =
                    values.map(|units| Some(i256::from_i128(rescaled(units, scale, to)))).collect();
                Arc::new(array.with_precision_and_scale(precision, to).expect("a precision that fits"))
            }
            // Through the text, so that the double is the one nearest to the decimal.
            Number::Double => Arc::new(values.map(|units| text(units).parse().ok()).collect::<Float64Array>()),
            Number::Float => Arc::new(values.map(|units| text(units).parse().ok()).collect::<Float32Array>()),
            Number::Int => {
                Arc::new(values.map(|units| Some((units / 10_i128.pow(scale)) as i64)).collect::<Int64Array>())
            }
        }
    }
}

fn in_unit(us: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => us.div_euclid(1_000_000),
        TimeUnit::Millisecond => us.div_euclid(1000),
        TimeUnit::Microsecond => us,
        TimeUnit::Nanosecond => us * 1000,
    }
}

fn rescaled(units: i128, from: u32, to: i8) -> i128 {
    let by = i32::from(to) - from as i32;
    let factor = 10_i128.pow(by.unsigned_abs());
    if by >= 0 {
        return units * factor;
    }
    assert_eq!(units % factor, 0, "a decimal of scale {to} would lose digits");
    units / factor
}
