//! Memory is charged before it is allocated.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::kit::{read_with, settings, ticks, with, write_with};
use crate::decode::DecodeSettings;
use crate::error::Error;
use crate::model::options::{LoadOptions, OnBadRow};

fn with_limit(file: Bytes, memory_limit: u64, on_bad_row: OnBadRow) -> Result<usize, Error> {
    let settings = DecodeSettings { memory_limit, on_bad_row, ..settings() };
    let (batches, _) = read_with(file, &LoadOptions::default(), settings)?;
    Ok(batches.iter().map(|batch| batch.ticks.len()).sum())
}

/// Writes one row group of a million rows in pages of 1 MB.
fn million(dictionary: bool) -> Bytes {
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(dictionary)
        .set_data_page_size_limit(1 << 20)
        .set_data_page_row_count_limit(usize::MAX)
        .build();
    write_with(ticks(1 << 20), properties)
}

#[test]
fn a_row_group_of_a_million_rows_loads_in_the_default_memory() {
    for dictionary in [true, false] {
        let file = million(dictionary);
        assert_eq!(with_limit(file.clone(), 64 << 20, OnBadRow::Abort).unwrap(), 1 << 20);
        assert_eq!(with_limit(file.clone(), 64 << 20, OnBadRow::Reject).unwrap(), 1 << 20);
        assert!(matches!(with_limit(file, 4 << 20, OnBadRow::Abort), Err(Error::TooLarge { .. })));
    }
}

#[test]
fn a_file_that_barely_loads_also_loads_with_rejects() {
    for (dictionary, limit) in [(true, 60 << 20), (false, 29 << 20)] {
        let file = million(dictionary);
        assert_eq!(with_limit(file.clone(), limit, OnBadRow::Abort).unwrap(), 1 << 20);
        assert_eq!(with_limit(file, limit, OnBadRow::Reject).unwrap(), 1 << 20);
    }
}

#[test]
fn a_page_that_unpacks_to_more_than_its_share_is_refused_by_name() {
    let prices: ArrayRef = Arc::new(StringArray::from(vec!["0".repeat(3 << 20)]));
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(Compression::ZSTD(Default::default()))
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
        .build();
    let file = write_with(with(ticks(1), "price", prices), properties);
    match with_limit(file.clone(), 4 << 20, OnBadRow::Abort) {
        Err(Error::TooLarge { what, needed, limit }) => {
            assert_eq!((what.as_str(), limit), ("a page of column \"price\"", 3 << 19));
            assert!(needed > 3 << 20);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(with_limit(file, 64 << 20, OnBadRow::Abort), Err(Error::BadRow { .. })));
}

#[test]
fn repeated_prefixes_are_charged_with_their_decoded_size() {
    let long = "7".repeat(4000);
    let prices: ArrayRef = Arc::new(StringArray::from(vec![long.as_str(); 20_000]));
    let properties = WriterProperties::builder()
        .set_column_dictionary_enabled(ColumnPath::from("price"), false)
        .set_column_encoding(ColumnPath::from("price"), Encoding::DELTA_BYTE_ARRAY)
        .set_data_page_row_count_limit(usize::MAX)
        .build();
    let file = write_with(with(ticks(20_000), "price", prices), properties);
    assert!(file.len() < 2 << 20);
    match with_limit(file, 64 << 20, OnBadRow::Abort) {
        Err(Error::TooLarge { needed, .. }) => assert!(needed > 80_000_000 / 2),
        other => panic!("{other:?}"),
    }
}
