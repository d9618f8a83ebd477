//! Every codec, page version and encoding yields the same ticks.

use arrow::array::{Array, ArrayRef, Float64Array};
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

use super::kit::{read, ticks, with, write, write_with};

fn small_pages(version: WriterVersion) -> WriterPropertiesBuilder {
    WriterProperties::builder().set_writer_version(version).set_data_page_row_count_limit(700).set_write_batch_size(100)
}

#[test]
fn every_codec_and_page_version_is_read() {
    let expected = read(write(ticks(3000))).unwrap();
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for codec in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::ZSTD(Default::default()),
            Compression::BROTLI(Default::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
        ] {
            for dictionary in [true, false] {
                let properties = small_pages(version).set_compression(codec).set_dictionary_enabled(dictionary).build();
                let found = read(write_with(ticks(3000), properties)).unwrap();
                assert_eq!(found, expected, "{version:?} {codec:?} dictionary={dictionary}");
            }
        }
    }
}

#[test]
fn every_encoding_is_read() {
    let floats: ArrayRef = Arc::new(Float64Array::from_iter_values((0..3000).map(|i| f64::from(i + 1) / 4.0)));
    let columns = || with(ticks(3000), "price", floats.clone());
    let expected = read(write(columns())).unwrap();
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for (column, encoding) in [
            ("buyer_order_id", Encoding::DELTA_BYTE_ARRAY),
            ("seller_order_id", Encoding::DELTA_LENGTH_BYTE_ARRAY),
            ("symbol", Encoding::DELTA_BYTE_ARRAY),
            ("trade_id", Encoding::DELTA_BINARY_PACKED),
            ("event_time", Encoding::BYTE_STREAM_SPLIT),
            ("price", Encoding::BYTE_STREAM_SPLIT),
            ("is_market_maker", Encoding::RLE),
        ] {
            let path = ColumnPath::from(column);
            let properties = small_pages(version)
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, encoding)
                .build();
            assert_eq!(read(write_with(columns(), properties)).unwrap(), expected, "{column} {encoding}");
        }
    }
    assert_eq!(floats.len(), 3000);
}
