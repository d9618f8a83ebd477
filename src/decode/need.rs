//! How much memory the pages of a file need at most, by its footer.

use parquet::basic::{Encoding, Type as Physical};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use super::footer::FileMeta;
use super::schema::{Mapping, Tick};

/// A string's view in memory.
const VIEW: u64 = 16;

/// Returns the bytes that suffice for the decoded pages of every row group, even if all pages of a row group are in use
/// at once. Returns `None` if the footer does not tell.
pub(super) fn pages_at_most(meta: &FileMeta, mapping: &Mapping) -> Option<u64> {
    let groups = meta.metadata().row_groups().iter();
    groups.map(|group| of_group(group, mapping)).try_fold(0, |most, bytes| Some(most.max(bytes?)))
}

fn of_group(group: &RowGroupMetaData, mapping: &Mapping) -> Option<u64> {
    let rows = u64::try_from(group.num_rows()).ok()?;
    // One page at a time is in memory as it is stored, too.
    let (mut decoded, mut stored) = (0u64, 0u64);
    for column in Tick::ALL.into_iter().filter_map(|tick| mapping.column(tick)) {
        let chunk = group.column(column.leaf);
        decoded = decoded.checked_add(of_chunk(chunk, column.physical, rows)?)?;
        stored = stored.max(u64::try_from(chunk.compressed_size()).ok()?);
    }
    decoded.checked_add(stored)
}

fn of_chunk(chunk: &ColumnChunkMetaData, physical: Physical, rows: u64) -> Option<u64> {
    let pages = u64::try_from(chunk.uncompressed_size()).ok()?;
    let mut bytes = pages;
    if chunk.dictionary_page_offset().is_some() {
        // A dictionary is decoded into views of strings, or into values of fixed width, as many as it has.
        let decoded = if physical == Physical::BYTE_ARRAY { rows.checked_mul(VIEW)? } else { pages };
        bytes = bytes.checked_add(decoded)?;
    }
    for encoding in chunk.encodings() {
        match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => bytes = bytes.checked_add(rows.checked_mul(4)?)?,
            // The size of its values is not in the footer.
            Encoding::DELTA_BYTE_ARRAY => return None,
            _ => {}
        }
    }
    Some(bytes)
}
