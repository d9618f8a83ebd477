//! A damaged file causes an error: never a panic, a crash or a loop.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::kit::{Columns, read_with, settings, ticks, write, write_with};
use crate::decode::{DecodeSettings, read_footer};
use crate::error::{Error, Result};
use crate::model::options::{LoadOptions, OnBadRow};
use crate::model::source::MemorySource;

/// Returns the outcome, or `Err(())` after a panic.
fn outcome(file: Bytes) -> std::result::Result<Result<usize>, ()> {
    let settings = DecodeSettings { on_bad_row: OnBadRow::Reject, ..settings() };
    let read = || read_with(file, &LoadOptions::default(), settings);
    let batches = catch_unwind(AssertUnwindSafe(read)).map_err(|_| ())?;
    Ok(batches.map(|(batches, _)| batches.iter().map(|batch| batch.ticks.len() + batch.rejected as usize).sum()))
}

fn footer(file: &[u8]) -> Result<crate::decode::FileMeta> {
    read_footer(&MemorySource(Bytes::copy_from_slice(file)), None, 64 << 20)
}

/// Writes the same ticks into files that use different parts of the decoder.
fn files() -> Vec<Bytes> {
    let small = || WriterProperties::builder().set_data_page_row_count_limit(80).set_write_batch_size(40);
    let columns = |rows: usize| -> Columns { ticks(rows) };
    let delta = ["buyer_order_id", "seller_order_id", "price"].into_iter().fold(
        small().set_dictionary_enabled(false).set_writer_version(WriterVersion::PARQUET_2_0),
        |properties, name| properties.set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BYTE_ARRAY),
    );
    vec![
        write_with(columns(200), small().build()),
        write_with(columns(200), small().set_compression(Compression::SNAPPY).build()),
        write_with(columns(200), small().set_compression(Compression::LZ4).set_dictionary_enabled(false).build()),
        write_with(columns(200), small().set_compression(Compression::BROTLI(Default::default())).build()),
        write_with(columns(200), delta.build()),
    ]
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for file in files() {
        for part in 0..50 {
            let cut = file.slice(..file.len() * part / 50);
            assert!(matches!(outcome(cut), Ok(Err(_))), "part {part}");
        }
    }
}

#[test]
fn flipped_bits_never_panic() {
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for file in files() {
        for round in 0..200 {
            let mut bytes = file.to_vec();
            for _ in 0..=round % 4 {
                let at = random(bytes.len());
                bytes[at] ^= 1 << random(8);
            }
            assert!(outcome(bytes.into()).is_ok(), "round {round}");
        }
    }
}

#[test]
fn what_is_no_parquet_file_says_so() {
    assert_eq!(footer(b"").unwrap_err(), Error::EmptyObject);
    assert!(matches!(footer(b"<html></html>"), Err(Error::NotParquet { .. })));
    assert!(matches!(footer(b"x"), Err(Error::NotParquet { .. })));
    assert!(matches!(footer(b"PAR1"), Err(Error::Truncated { .. })));
    assert!(matches!(footer(b"PAR1 and then nothing"), Err(Error::Truncated { .. })));
    assert!(matches!(footer(b"PAR1\xff\xff\xff\xffPAR1"), Err(Error::Damaged { .. })));
    assert!(matches!(footer(b"PAR1........PARE"), Err(Error::Encrypted { .. })));
}

/// A footer of as many empty keys. Each takes three bytes here, and 48 in memory.
fn footer_of_keys(count: u32) -> Vec<u8> {
    // Version, a schema of one element, rows, row groups.
    let mut bytes = b"PAR1\x15\x02\x19\x1c\x48\x01r\x00\x16\x00\x19\x0c\x19\xfc".to_vec();
    let mut left = count;
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    (0..count).for_each(|_| bytes.extend([0x18, 0, 0]));
    bytes.push(0);
    let len = bytes.len() as u32 - 4;
    bytes.extend(len.to_le_bytes());
    bytes.extend(b"PAR1");
    bytes
}

#[test]
fn a_footer_of_many_small_texts_is_refused_before_it_is_decoded() {
    let limit = 4 << 20;
    let read = |count| read_footer(&MemorySource(footer_of_keys(count).into()), None, limit);
    assert_eq!(read(1_000).unwrap().rows(), 0);
    assert!(matches!(read(100_000), Err(Error::TooLarge { .. })));
}

#[test]
fn a_footer_larger_than_its_share_is_refused() {
    let file = write(ticks(10));
    let len = u32::from_le_bytes(*file[file.len() - 8..].first_chunk().unwrap());
    let limit = u64::from(len) * 4 - 4;
    match read_footer(&MemorySource(file), None, limit) {
        Err(Error::TooLarge { what, .. }) => assert_eq!(what, "the footer"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_tail_that_was_fetched_already_is_used() {
    let file = write(ticks(10));
    for len in [8, 100, file.len()] {
        let tail = file.slice(file.len() - len..);
        assert_eq!(read_footer(&MemorySource(file.clone()), Some(tail), 64 << 20).unwrap().rows(), 10);
    }
}

#[test]
fn a_page_that_lies_about_its_size_is_damage() {
    // The first page's header begins after the magic with its type and sizes: 15 xx 15 uncompressed 15 compressed.
    let properties = || WriterProperties::builder().set_dictionary_enabled(false);
    let file = write_with(ticks(3), properties().set_compression(Compression::SNAPPY).build());
    assert_eq!((file[4], file[6], file[8]), (0x15, 0x15, 0x15));
    for at in [7, 9] {
        for value in [0, 2, 0x7e] {
            let mut bytes = file.to_vec();
            bytes[at] = value;
            let result = read_with(bytes.into(), &LoadOptions::default(), settings());
            assert!(matches!(result, Err(Error::Damaged { .. })), "{at} {value}: {result:?}");
        }
    }
}

#[test]
fn damage_within_a_column_names_it_and_its_row_group() {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(20)).build();
    let file = write_with(ticks(40), properties);
    let footer_len = u32::from_le_bytes(*file[file.len() - 8..].first_chunk().unwrap()) as usize;
    let mut reported = BTreeSet::new();
    for at in 4..file.len() - 8 - footer_len {
        for value in [0x01, 0xfe] {
            let mut bytes = file.to_vec();
            bytes[at] = value;
            if let Err(Error::Damaged { why }) = read_with(bytes.into(), &LoadOptions::default(), settings()) {
                let (place, what) = why.split_once(": ").unwrap_or_default();
                assert!(place.starts_with("column \"") && place.contains("\" in row group "), "byte {at}: {why}");
                reported.insert((place.to_owned(), what.to_owned()));
            }
        }
    }
    for (place, what) in [
        ("column \"event_time\" in row group 0", "a page header says that the page has -1 bytes"),
        ("column \"price\" in row group 1", "Invalid or corrupted RLE bit width 254"),
    ] {
        let is_reported = reported.iter().any(|(column, why)| column == place && why.contains(what));
        assert!(is_reported, "{place}: {what} is not among {reported:#?}");
    }
}

#[test]
fn a_column_name_with_a_zero_byte_is_damage_and_shown_escaped() {
    let mut columns = ticks(2);
    columns.push(("spare\0column", columns[3].1.clone()));
    match read_footer(&MemorySource(write(columns)), None, 64 << 20) {
        Err(Error::Damaged { why }) => assert!(why.contains("spare\\u{0}column"), "{why}"),
        other => panic!("{other:?}"),
    }
}
