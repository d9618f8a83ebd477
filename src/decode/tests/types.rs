//! The types that a tick column may have.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, i256};
use bytes::Bytes;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type, Int96, Int96Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::kit::{T0, read, read_with, settings, ticks, with, with_null, write};
use crate::decode::DecodeSettings;
use crate::model::options::{LoadOptions, OnBadRow, TimeUnit};
use crate::model::tick::NO_TIME;
use crate::model::time_range::TimeRange;

fn array(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

#[test]
fn all_nine_columns_come_out_as_they_went_in() {
    let (batches, symbols) = read_with(write(ticks(10)), &LoadOptions::default(), settings()).unwrap();
    let ticks = &batches[0].ticks;
    assert_eq!(symbols, ["BTCUSDT", "ETHUSDT"]);
    assert_eq!(ticks.row, (0..10).collect::<Vec<u64>>());
    assert_eq!(ticks.event_time[3], (T0 + 3) * 1000);
    assert_eq!(ticks.trade_time[3], (T0 + 3) * 1000);
    assert_eq!(ticks.symbol, [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
    assert_eq!(ticks.trade_id[9], 1009);
    assert_eq!(ticks.price[3], 6_000_303_000_000);
    assert_eq!(ticks.quantity[3], 40_000);
    assert_eq!(ticks.buyer_order_id.as_ref().unwrap().get(2), Some(&b"7000000000002"[..]));
    assert_eq!(ticks.seller_order_id.as_ref().unwrap().get(2), Some(&b"order-6"[..]));
    assert_eq!(ticks.is_market_maker[5..7], [Some(false), None]);
}

#[test]
fn times_of_every_unit_and_zone_are_read() {
    let us = T0 * 1000 + 1;
    for (times, expected) in [
        (array(TimestampMillisecondArray::from(vec![T0]).with_timezone("UTC")), T0 * 1000),
        (array(TimestampMillisecondArray::from(vec![T0])), T0 * 1000),
        (array(TimestampMicrosecondArray::from(vec![us]).with_timezone("+02:00")), us),
        (array(TimestampNanosecondArray::from(vec![us * 1000 + 999])), us),
        (array(TimestampNanosecondArray::from(vec![-1])), -1),
    ] {
        let ticks = read(write(with(ticks(1), "event_time", times))).unwrap().ticks;
        assert_eq!(ticks.event_time, [expected]);
    }
}

#[test]
fn bare_integers_need_a_unit_and_take_it() {
    let file = write(with(ticks(1), "event_time", array(Int64Array::from(vec![T0 / 1000]))));
    assert!(read(file.clone()).unwrap_err().to_string().contains("time_unit"));
    let options = LoadOptions { time_unit: Some(TimeUnit::Second), ..Default::default() };
    assert_eq!(read_with(file, &options, settings()).unwrap().0[0].ticks.event_time, [T0 * 1000]);
}

#[test]
fn unsigned_integers_are_times_up_to_their_last_bit() {
    let options = |unit| LoadOptions { time_unit: Some(unit), ..Default::default() };
    for (times, unit, expected) in [
        (array(UInt8Array::from(vec![u8::MAX])), TimeUnit::Second, 255_000_000),
        (array(UInt16Array::from(vec![u16::MAX])), TimeUnit::Second, 65_535_000_000),
        (array(UInt32Array::from(vec![u32::MAX])), TimeUnit::Second, 4_294_967_295_000_000),
        (array(UInt32Array::from(vec![u32::MAX])), TimeUnit::Nano, 4_294_967),
        (array(UInt64Array::from(vec![T0 as u64])), TimeUnit::Milli, T0 * 1000),
        (array(UInt64Array::from(vec![i64::MAX as u64])), TimeUnit::Nano, i64::MAX / 1000),
    ] {
        let columns = with(with(ticks(1), "event_time", times.clone()), "trade_time", times);
        let file = write(columns);
        assert!(read(file.clone()).unwrap_err().to_string().contains("time_unit"));
        let settings = DecodeSettings { times: TimeRange::default(), ..settings() };
        let ticks = &read_with(file, &options(unit), settings).unwrap().0[0].ticks;
        assert_eq!((ticks.event_time[0], ticks.trade_time[0]), (expected, expected), "{unit:?}");
    }
    let settings = DecodeSettings { on_bad_row: OnBadRow::Reject, ..settings() };
    for unit in [TimeUnit::Second, TimeUnit::Milli, TimeUnit::Micro, TimeUnit::Nano] {
        for time in [1 << 63, u64::MAX] {
            let file = write(with(ticks(1), "event_time", array(UInt64Array::from(vec![time]))));
            let (batches, _) = read_with(file, &options(unit), settings.clone()).unwrap();
            let reject = &batches[0].rejects[0];
            assert_eq!(reject.reason, "event_time is out of PostgreSQL's range", "{time} {unit:?}");
            assert_eq!(reject.values["event_time"], time.to_string(), "{unit:?}");
        }
    }
}

/// Writes a file with the required columns, its times as INT96.
fn int96_file(times: &[(i32, i64)]) -> Bytes {
    let schema = "message m { required int96 event_time; required binary symbol (UTF8); required int64 trade_id;
        required binary price (UTF8); required binary quantity (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let rows = times.len();
    let times: Vec<Int96> =
        times.iter().map(|(day, nanos)| Int96::from(vec![*nanos as u32, (*nanos >> 32) as u32, *day as u32])).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int96Type>().write_batch(&times, None, None).unwrap();
    column.close().unwrap();
    for text in ["BTCUSDT", "", "1.5", "2"] {
        let mut column = group.next_column().unwrap().unwrap();
        if text.is_empty() {
            column.typed::<Int64Type>().write_batch(&vec![1; rows], None, None).unwrap();
        } else {
            column.typed::<ByteArrayType>().write_batch(&vec![ByteArray::from(text); rows], None, None).unwrap();
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap().into()
}

#[test]
fn int96_reaches_beyond_the_range_of_nanoseconds() {
    let settings = DecodeSettings { times: TimeRange::default(), ..settings() };
    let file = int96_file(&[(2_440_588, 1_000), (5_373_484, 0), (2_440_587, 0)]);
    let ticks = &read_with(file, &LoadOptions::default(), settings).unwrap().0[0].ticks;
    assert_eq!(ticks.event_time, [1, 253_402_214_400_000_000, -86_400_000_000]);
}

#[test]
fn wild_int96_values_are_bad_rows() {
    for time in [(i32::MAX, i64::MAX), (i32::MIN, i64::MIN), (i32::MAX, 0)] {
        let error = read(int96_file(&[time])).unwrap_err().to_string();
        assert!(error.contains("event_time is out of PostgreSQL's range"), "{error}");
    }
}

#[test]
fn prices_of_every_type_are_the_same_price() {
    let half = |value: f64| <Float16Type as ArrowPrimitiveType>::Native::from_f64(value);
    let wide = |digits: &str| i256::from_string(digits).unwrap();
    let scaled = format!("285{}", "0".repeat(39));
    for price in [
        array(StringArray::from(vec!["28.5"])),
        array(LargeStringArray::from(vec!["28.50000000000"])),
        array(StringViewArray::from(vec!["+2.85e1"])),
        array(BinaryArray::from_vec(vec![b"28.5"])),
        array(Decimal32Array::from(vec![285]).with_precision_and_scale(4, 1).unwrap()),
        array(Decimal64Array::from(vec![2850]).with_precision_and_scale(18, 2).unwrap()),
        array(Decimal128Array::from(vec![2_850_000_000]).with_precision_and_scale(18, 8).unwrap()),
        array(Decimal128Array::from(vec![28_500_000_000_000_000_000]).with_precision_and_scale(38, 18).unwrap()),
        array(Decimal256Array::from(vec![wide(&scaled)]).with_precision_and_scale(76, 40).unwrap()),
        array(Float64Array::from(vec![28.5])),
        array(Float32Array::from(vec![28.5])),
        array(Float16Array::new(ScalarBuffer::from(vec![half(28.5)]), None)),
    ] {
        let name = format!("{:?}", price.data_type());
        assert_eq!(read(write(with(ticks(1), "price", price))).unwrap().ticks.price, [2_850_000_000], "{name}");
    }
    for price in [
        array(Int8Array::from(vec![28])),
        array(UInt8Array::from(vec![28])),
        array(Int32Array::from(vec![28])),
        array(UInt32Array::from(vec![28])),
        array(Int64Array::from(vec![28])),
        array(UInt64Array::from(vec![28])),
    ] {
        let name = format!("{:?}", price.data_type());
        assert_eq!(read(write(with(ticks(1), "price", price))).unwrap().ticks.price, [2_800_000_000], "{name}");
    }
}

#[test]
fn floats_are_their_shortest_decimal() {
    let half = <Float16Type as ArrowPrimitiveType>::Native::from_f64(0.1);
    for price in [
        array(Float64Array::from(vec![0.1])),
        array(Float32Array::from(vec![0.1])),
        array(Float16Array::new(ScalarBuffer::from(vec![half]), None)),
    ] {
        let name = format!("{:?}", price.data_type());
        assert_eq!(read(write(with(ticks(1), "price", price))).unwrap().ticks.price, [10_000_000], "{name}");
    }
}

#[test]
fn ids_are_integers_text_or_decimals_without_places() {
    for id in [
        array(Int32Array::from(vec![42])),
        array(UInt64Array::from(vec![42])),
        array(StringArray::from(vec!["42"])),
        array(Decimal128Array::from(vec![42]).with_precision_and_scale(20, 0).unwrap()),
        array(Decimal256Array::from(vec![i256::from(42)]).with_precision_and_scale(60, 0).unwrap()),
    ] {
        let name = format!("{:?}", id.data_type());
        let columns = with(with(ticks(1), "trade_id", id.clone()), "buyer_order_id", id);
        let ticks = read(write(columns)).unwrap().ticks;
        assert_eq!(ticks.trade_id, [42], "{name}");
        assert_eq!(ticks.buyer_order_id.unwrap().get(0), Some(&b"42"[..]), "{name}");
    }
    let unsigned = array(UInt64Array::from(vec![u64::MAX]));
    let ticks_of = |name| read(write(with(ticks(1), name, unsigned.clone())));
    assert!(ticks_of("trade_id").unwrap_err().to_string().contains("out of range for bigint"));
    let order_ids = ticks_of("buyer_order_id").unwrap().ticks.buyer_order_id.unwrap();
    assert_eq!(order_ids.get(0), Some(&b"18446744073709551615"[..]));
}

#[test]
fn flags_are_booleans_zeros_and_ones_or_words() {
    for flag in [
        array(BooleanArray::from(vec![true, false])),
        array(Int32Array::from(vec![1, 0])),
        array(UInt8Array::from(vec![1, 0])),
        array(StringArray::from(vec!["TRUE", "f"])),
        array(StringArray::from(vec!["1", "False"])),
    ] {
        let ticks = read(write(with(ticks(2), "is_market_maker", flag))).unwrap().ticks;
        assert_eq!(ticks.is_market_maker, [Some(true), Some(false)]);
    }
}

#[test]
fn columns_that_are_all_null_are_no_columns() {
    let columns = with_null(ticks(2), "buyer_order_id", &DataType::Null);
    let columns = with_null(columns, "trade_time", &DataType::Null);
    let columns = with_null(columns, "seller_order_id", &DataType::Utf8);
    let ticks = read(write(columns)).unwrap().ticks;
    assert_eq!(ticks.buyer_order_id, None);
    assert_eq!(ticks.trade_time, [NO_TIME; 2]);
    assert_eq!(ticks.seller_order_id.unwrap().get(1), None);
}
