//! The footer: found at the object's end, judged before it is decoded, and checked against the object afterwards.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};
use sha2::{Digest, Sha256};

use super::types::type_name;
use super::{codec, damaged, guarded, scan};
use crate::error::{Error, Result, RowPosition};
use crate::model::options::LoadOptions;
use crate::model::source::ObjectSource;

/// What the footer says; checked to lie within the object.
#[derive(Debug, Clone)]
pub struct FileMeta {
    metadata: Arc<ParquetMetaData>,
    /// Where the footer begins.
    data_end: u64,
    /// The first row of each row group.
    starts: Vec<u64>,
    rows: u64,
}

/// One leaf column, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its path, dots between the parts.
    pub name: String,
    /// Its type as Parquet tools print it.
    pub parquet_type: String,
    /// Its codec, or several where row groups differ.
    pub codec: String,
    /// Bytes in the file over all row groups.
    pub compressed_bytes: u64,
    /// The tick column that is read from it without further options.
    pub used_as: Option<&'static str>,
}

const MAGIC: &[u8; 4] = b"PAR1";
const ENCRYPTED_MAGIC: &[u8; 4] = b"PARE";
/// Magic, footer length, magic.
const SMALLEST: u64 = 12;
/// Enough for the footer of most objects, little enough to fetch in vain.
const TAIL: u64 = 64 * 1024;

/// Reads the footer; `tail` is what has been fetched of the object's end already.
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
        return Err(damaged(format!("the footer is said to have {len} bytes, the object has {size}")));
    }
    let limit = memory_limit / 4;
    let too_large = |needed| Error::TooLarge { what: "the footer".into(), needed, limit };
    if len > limit {
        return Err(too_large(len));
    }
    if len + 8 > tail.len() as u64 {
        tail = source.read(size - 8 - len..size)?;
    }
    let end = tail.len() - 8;
    let footer = &tail[end - len as usize..end];
    let cost = scan::scan(footer)?.decoded_size();
    if cost > limit {
        return Err(too_large(cost));
    }
    // Nobody here needs these statistics, and some writers get them wrong.
    let options = ParquetMetaDataOptions::new()
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let decode = || ParquetMetaDataReader::decode_metadata_with_options(footer, Some(&options));
    let decoded = guarded("the footer", decode)?;
    let metadata = decoded.map_err(|error| damaged(format!("the footer cannot be decoded: {error}")))?;
    FileMeta::check(metadata, 4..size - 8 - len)
}

/// The footer's length, when the object's end is that of a Parquet file.
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
                        "column \"{name}\" has {values} values where row group {index} has {in_group} rows"
                    )));
                }
                // Chunks without rows are never read; some writers leave their offsets at zero.
                if in_group > 0 {
                    chunk_range(column).filter(|range| data.start <= range.start && range.end <= data.end).ok_or_else(
                        || damaged(format!("column \"{name}\" in row group {index}: it lies outside the object")),
                    )?;
                }
            }
        }
        let promised = count(metadata.file_metadata().num_rows(), || "the file".into())?;
        if promised != rows {
            return Err(damaged(format!("the footer says {promised} rows, its row groups {rows}")));
        }
        if i64::try_from(rows).is_err() {
            return Err(damaged("the rows cannot be counted"));
        }
        Ok(FileMeta { metadata: Arc::new(metadata), data_end: data.end, starts, rows })
    }

    /// Rows in the file.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Row groups in the file.
    pub fn row_groups(&self) -> usize {
        self.starts.len()
    }

    /// The library that wrote the file, if it says so.
    pub fn writer(&self) -> Option<&str> {
        self.metadata.file_metadata().created_by()
    }

    /// Where the row with this number stands.
    pub fn position(&self, row: u64) -> RowPosition {
        // Of the groups that start at a row, all but the last are empty.
        let group = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        RowPosition { row_group: group as u32, row }
    }

    /// The leaf columns in the file's order.
    pub fn columns(&self) -> Vec<ColumnInfo> {
        self.columns_for(&LoadOptions::default())
    }

    /// The leaf columns in the file's order, and what a load with these options reads from them.
    pub fn columns_for(&self, options: &LoadOptions) -> Vec<ColumnInfo> {
        let leaves = self.metadata.file_metadata().schema_descr().columns();
        let used = super::schema::uses(self, options);
        let info = |(index, leaf): (usize, &Arc<parquet::schema::types::ColumnDescriptor>)| {
            let chunks = || self.metadata.row_groups().iter().map(move |group| group.column(index));
            let mut codecs: Vec<&str> = chunks().map(|chunk| codec::codec_name(chunk.compression())).collect();
            codecs.sort_unstable();
            codecs.dedup();
            ColumnInfo {
                name: leaf.path().string(),
                parquet_type: type_name(leaf),
                codec: codecs.join("/"),
                compressed_bytes: chunks().fold(0u64, |sum, chunk| sum.saturating_add(chunk.compressed_size() as u64)),
                used_as: used.iter().find(|(leaf, _)| *leaf == index).map(|(_, tick)| *tick),
            }
        };
        leaves.iter().enumerate().map(info).collect()
    }

    /// A hash of the leaf columns' names and types, in order: the same for files of the same shape.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for leaf in self.metadata.file_metadata().schema_descr().columns() {
            hash.update(leaf.path().string().as_bytes());
            hash.update([0]);
            hash.update(type_name(leaf).as_bytes());
            hash.update([0]);
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Everything else that the footer says.
    pub fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    /// The bytes in which a column chunk's pages lie.
    pub(super) fn chunk_range(&self, column: &ColumnChunkMetaData) -> Option<Range<u64>> {
        let range = chunk_range(column)?;
        // parquet-mr before 1.2.9 forgot the dictionary's header when it counted (PARQUET-816). Pages are counted by
        // their rows, so a few bytes too many do no harm.
        let is_old = self.writer().is_some_and(|writer| {
            writer == "parquet-mr" || (0..9).any(|patch| writer.starts_with(&format!("parquet-mr version 1.2.{patch}")))
        });
        Some(if is_old { range.start..(range.end + 100).min(self.data_end) } else { range })
    }

    pub(super) fn shared(&self) -> Arc<ParquetMetaData> {
        self.metadata.clone()
    }
}

/// Where a column chunk's pages lie; `None` when its numbers make no range. The crate's own method panics then.
fn chunk_range(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let data = u64::try_from(column.data_page_offset()).ok()?;
    let dictionary = column.dictionary_page_offset().and_then(|offset| u64::try_from(offset).ok());
    // Writers without a dictionary have been seen to put 0 there.
    let start = dictionary.filter(|offset| (1..data).contains(offset)).unwrap_or(data);
    let end = start.checked_add(u64::try_from(column.compressed_size()).ok()?)?;
    Some(start..end)
}

fn count(value: i64, what: impl Fn() -> String) -> Result<u64> {
    u64::try_from(value).map_err(|_| damaged(format!("{} has {value} rows", what())))
}
