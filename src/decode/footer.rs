//! The footer: found at the object's end, checked before it is decoded, and compared with the object afterwards.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};

use super::damage::{damaged, guarded};
use super::scan;
use crate::error::{Error, Result, RowPosition};
use crate::model::source::ObjectSource;
use crate::model::text::printable;

/// The decoded footer. All column chunks are checked to lie within the object.
#[derive(Debug, Clone)]
pub struct FileMeta {
    metadata: Arc<ParquetMetaData>,
    /// Where the footer begins.
    data_end: u64,
    /// The first row of each row group.
    starts: Vec<u64>,
    rows: u64,
}

const MAGIC: &[u8; 4] = b"PAR1";
const ENCRYPTED_MAGIC: &[u8; 4] = b"PARE";
/// How many characters of a column's name are shown.
const SHOWN_NAME: usize = 60;
/// How many characters of the name of a file's writer are shown and stored.
const SHOWN_WRITER: usize = 500;
/// Magic, footer length, magic.
const SMALLEST: u64 = 12;
/// The bytes that are fetched at first. Most footers are smaller.
const TAIL: u64 = 64 * 1024;

/// Reads the footer. `tail` is the object's end if it was fetched already.
pub fn read_footer(source: &dyn ObjectSource, tail: Option<Bytes>, memory_limit: u64) -> Result<FileMeta> {
    let size = source.size();
    if size == 0 {
        return Err(Error::EmptyObject);
    }
    let mut tail = match tail {
        Some(tail) if tail.len() >= 8 && tail.len() as u64 <= size => tail,
        _ => source.read(size.saturating_sub(TAIL)..size)?,
    };
    let len = footer_len(source, &tail)?;
    if len + 8 > size - 4 {
        return Err(damaged(format!("the footer should have {len} bytes, but the object has {size}")));
    }
    let limit = memory_limit / 4;
    let too_large = |needed, suffices| Error::TooLarge { what: "the footer".into(), needed, limit, suffices };
    if len > limit {
        // How much it takes when it is decoded is not known yet.
        return Err(too_large(len, None));
    }
    if len + 8 > tail.len() as u64 {
        tail = source.read(size - 8 - len..size)?;
    }
    let end = tail.len() - 8;
    let footer = &tail[end - len as usize..end];
    let cost = scan::scan(footer)?.decoded_size();
    if cost > limit {
        return Err(too_large(cost, cost.checked_mul(4)));
    }
    // No code here uses these statistics, and some writers get them wrong.
    let options = ParquetMetaDataOptions::new()
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let decode = || ParquetMetaDataReader::decode_metadata_with_options(footer, Some(&options));
    let decoded = guarded("the footer", decode)?;
    let metadata = decoded.map_err(|error| damaged(format!("the footer cannot be decoded: {error}")))?;
    FileMeta::check(metadata, 4..size - 8 - len)
}

/// Returns the footer's length if the object ends as a Parquet file.
fn footer_len(source: &dyn ObjectSource, tail: &[u8]) -> Result<u64> {
    let size = source.size();
    let magic = tail.last_chunk::<4>();
    if size >= SMALLEST && magic == Some(ENCRYPTED_MAGIC) {
        return Err(Error::Encrypted { what: "The footer is encrypted.".into() });
    }
    if size >= SMALLEST && magic == Some(MAGIC) {
        let len = tail.last_chunk::<8>().map(|end| u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
        return Ok(u64::from(len.unwrap_or(0)));
    }
    let head = source.read(0..size.min(4))?;
    if head.as_ref() == MAGIC || head.as_ref() == ENCRYPTED_MAGIC {
        return Err(Error::Truncated { why: "It begins as a Parquet file but does not end as one.".into() });
    }
    let shown = head.iter().map(|byte| byte.escape_ascii().to_string()).collect::<String>();
    Err(Error::NotParquet { found: format!("It begins with \"{shown}\" instead of \"PAR1\".") })
}

impl FileMeta {
    fn check(metadata: ParquetMetaData, data: Range<u64>) -> Result<FileMeta> {
        // PostgreSQL's texts cannot hold a zero byte.
        for leaf in metadata.file_metadata().schema_descr().columns() {
            let name = leaf.path().string();
            if name.contains('\0') {
                return Err(damaged(format!("the column name \"{}\" has a zero byte", printable(&name, SHOWN_NAME))));
            }
        }
        let (mut rows, mut starts) = (0u64, Vec::with_capacity(metadata.num_row_groups()));
        for (index, group) in metadata.row_groups().iter().enumerate() {
            let in_group = count(group.num_rows(), || format!("row group {index}"))?;
            starts.push(rows);
            rows = rows.checked_add(in_group).ok_or_else(|| damaged("the rows cannot be counted"))?;
            for column in group.columns() {
                let name = column.column_path().string();
                let values = count(column.num_values(), || format!("column \"{name}\" in row group {index}"))?;
                if column.column_descr().max_rep_level() == 0 && values != in_group {
                    return Err(damaged(format!(
                        "column \"{name}\" has {values} values, but row group {index} has {in_group} rows"
                    )));
                }
                // Some writers leave the offsets of chunks without rows at zero. Such chunks are never read.
                if in_group > 0 {
                    chunk_range(column).filter(|range| data.start <= range.start && range.end <= data.end).ok_or_else(
                        || damaged(format!("column \"{name}\" in row group {index}: it lies outside the object")),
                    )?;
                }
            }
        }
        let promised = count(metadata.file_metadata().num_rows(), || "the file".into())?;
        if promised != rows {
            return Err(damaged(format!("the footer names {promised} rows, but its row groups have {rows}")));
        }
        if i64::try_from(rows).is_err() {
            return Err(damaged("the rows cannot be counted"));
        }
        Ok(FileMeta { metadata: Arc::new(metadata), data_end: data.end, starts, rows })
    }

    /// Returns the number of rows in the file.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the number of row groups in the file.
    pub fn row_groups(&self) -> usize {
        self.starts.len()
    }

    /// Returns the name of the library that wrote the file, if the file names it.
    fn writer(&self) -> Option<&str> {
        self.metadata.file_metadata().created_by()
    }

    /// Returns the name of the library that wrote the file as it is stored and shown. The file may name it as it likes.
    pub fn shown_writer(&self) -> Option<String> {
        self.writer().map(|writer| printable(writer, SHOWN_WRITER))
    }

    /// Returns the position of the row with this number.
    pub fn position(&self, row: u64) -> RowPosition {
        // If several groups start at one row, all but the last of them are empty.
        let group = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        RowPosition { row_group: group as u32, row }
    }

    /// Returns the rest of the footer.
    pub fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    /// Returns the range of a column chunk's pages.
    pub(super) fn chunk_range(&self, column: &ColumnChunkMetaData) -> Option<Range<u64>> {
        let range = chunk_range(column)?;
        // parquet-mr before 1.2.9 did not count the dictionary's header (PARQUET-816). A reader stops after the last
        // row, so extra bytes do no harm.
        let is_old = self.writer().is_some_and(|writer| {
            writer == "parquet-mr" || (0..9).any(|patch| writer.starts_with(&format!("parquet-mr version 1.2.{patch}")))
        });
        Some(if is_old { range.start..(range.end + 100).min(self.data_end) } else { range })
    }

    pub(super) fn shared(&self) -> Arc<ParquetMetaData> {
        self.metadata.clone()
    }
}

/// Returns the range of a column chunk's pages, or `None` if its numbers are no range. The parquet crate's own method
/// would panic then.
fn chunk_range(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let data = u64::try_from(column.data_page_offset()).ok()?;
    let dictionary = column.dictionary_page_offset().and_then(|offset| u64::try_from(offset).ok());
    // Some writers store 0 here if there is no dictionary.
    let start = dictionary.filter(|offset| (1..data).contains(offset)).unwrap_or(data);
    let end = start.checked_add(u64::try_from(column.compressed_size()).ok()?)?;
    Some(start..end)
}

fn count(value: i64, what: impl Fn() -> String) -> Result<u64> {
    u64::try_from(value).map_err(|_| damaged(format!("{} has {value} rows", what())))
}
