//! Which parts of an object hold the columns of ticks, row group by row group.

use parquet::file::metadata::ColumnChunkMetaData;

use super::damage::damaged;
use super::footer::FileMeta;
use super::schema::{Column, Mapping, Tick};
use crate::error::{Error, Result};
use crate::model::source::Part;

/// Returns the parts of each row group, in the order of [`Tick::ALL`]. A row group without rows has none.
pub(super) fn parts(meta: &FileMeta, mapping: &Mapping) -> Result<Vec<Vec<Part>>> {
    let groups = meta.metadata().row_groups().iter().enumerate();
    groups
        .map(|(index, group)| {
            let columns = Tick::ALL.into_iter().filter_map(|tick| Some((tick, mapping.column(tick)?)));
            let columns = columns.filter(|_| group.num_rows() > 0);
            let part = |(tick, column): (Tick, &Column)| {
                part(meta, group.column(column.leaf)).map_err(|error| within(tick, index, error))
            };
            columns.map(part).collect()
        })
        .collect()
}

fn part(meta: &FileMeta, chunk: &ColumnChunkMetaData) -> Result<Part> {
    if chunk.file_path().is_some() {
        return Err(Error::Unsupported { what: "columns in other files".into() });
    }
    let range = meta.chunk_range(chunk).ok_or_else(|| damaged("it lies outside the object"))?;
    // The first data page follows the dictionary, if there is one.
    let first_page = u64::try_from(chunk.data_page_offset()).unwrap_or_default().clamp(range.start, range.end);
    let head = first_page - range.start;
    Ok(Part { range, head })
}

/// Adds column and row group to an error about bytes.
pub(super) fn within(tick: Tick, group: usize, error: Error) -> Error {
    let column = tick.name();
    match error {
        Error::Damaged { why } => damaged(format!("column \"{column}\" in row group {group}: {why}")),
        Error::TooLarge { what, needed, limit, suffices } => {
            Error::TooLarge { what: format!("{what} of column \"{column}\""), needed, limit, suffices }
        }
        other => other,
    }
}
