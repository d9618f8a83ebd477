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
        for on_bad_row in [OnBadRow::Abort, OnBadRow::Reject] {
            let Err(Error::TooLarge { suffices: Some(enough), .. }) = with_limit(file.clone(), 4 << 20, on_bad_row)
            else {
                panic!("4 MB are enough, or no limit is named")
            };
            assert_eq!(with_limit(file.clone(), enough, on_bad_row).unwrap(), 1 << 20, "{dictionary} {enough}");
        }
    }
}

#[test]
fn the_named_limit_is_enough_for_row_groups_of_one_page() {
    for codec in [Compression::UNCOMPRESSED, Compression::ZSTD(Default::default())] {
        for (dictionary, encoding) in [(true, None), (false, None), (false, Some(Encoding::DELTA_LENGTH_BYTE_ARRAY))] {
            let properties = WriterProperties::builder()
                .set_dictionary_enabled(dictionary)
                .set_compression(codec)
                .set_max_row_group_row_count(Some(50_000))
                .set_data_page_size_limit(usize::MAX)
                .set_dictionary_page_size_limit(usize::MAX)
                .set_data_page_row_count_limit(usize::MAX);
            let properties = match encoding {
                Some(encoding) => properties.set_column_encoding(ColumnPath::from("price"), encoding),
                None => properties,
            };
            let file = write_with(ticks(120_000), properties.build());
            let Err(error) = with_limit(file.clone(), 4 << 20, OnBadRow::Abort) else { panic!("4 MB are enough") };
            let Error::TooLarge { suffices: Some(enough), .. } = error else { panic!("{error}") };
            let named = format!("btc_ingest.memory_limit = '{}MB' is enough", enough.div_ceil(1 << 20));
            assert!(error.to_string().contains(&named), "{error}");
            assert_eq!(with_limit(file.clone(), enough, OnBadRow::Abort).unwrap(), 120_000, "{codec} {dictionary}");
            let half = with_limit(file, enough / 4, OnBadRow::Abort);
            assert!(half.is_err(), "{enough} is far too much: {codec} {dictionary}");
        }
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
        Err(Error::TooLarge { what, needed, limit, suffices }) => {
            assert_eq!((what.as_str(), limit), ("a page of column \"price\"", 3 << 19));
            assert!(needed > 3 << 20);
            assert_eq!(with_limit(file.clone(), suffices.unwrap(), OnBadRow::Abort).unwrap_err().sqlstate(), "TK001");
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
