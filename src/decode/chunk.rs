//! One column of one row group as Arrow arrays of at most `step` rows.
//!
//! The parquet crate's decoder gets a schema that is made here: one column with the file's physical type and no
//! annotation. So the decoder does not convert annotated types (its conversions can panic or wrap around), texts stay
//! views into pages, and the file's embedded Arrow schema is ignored. The decoder takes its pages from a queue, so that
//! fetching, checking and cancelling happen here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{Repetition, Type as Physical};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::schema::types::{SchemaDescriptor, Type};

use super::damage::{damaged, guarded};
use super::page::Pages;
use super::schema::Column;
use crate::error::{Error, Result};

/// Reads a chunk's values in steps of the same number of rows.
pub(super) struct Chunk {
    pages: Pages,
    queue: Queue,
    /// Rows in queued pages and in the decoder's page that are not decoded yet.
    not_decoded: u64,
    decoder: ParquetRecordBatchReader,
}

type Queue = Arc<Mutex<VecDeque<Page>>>;

impl Chunk {
    /// Makes the reader. `step` is the number of rows of every read but the last.
    pub fn new(pages: Pages, levels: &FieldLevels, metadata: Arc<ParquetMetaData>, step: usize) -> Result<Self> {
        let queue = Queue::default();
        let group = OneColumn { metadata, queue: queue.clone() };
        let decoder =
            guarded("a column", || ParquetRecordBatchReader::try_new_with_row_groups(levels, &group, step, None))?
                .map_err(from_parquet)?;
        Ok(Chunk { pages, queue, not_decoded: 0, decoder })
    }

    /// Reads the next `rows` values. `rows` must be the step, or all remaining rows if these are fewer.
    pub fn read(&mut self, rows: usize, cancelled: &dyn Fn() -> bool) -> Result<ArrayRef> {
        while self.not_decoded < rows as u64 {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            if let Some((page, rows)) = self.pages.next()? {
                self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(page);
                self.not_decoded += rows;
            }
        }
        let batch = guarded("a page", || self.decoder.next())?;
        let batch = batch.ok_or_else(|| damaged("it ends early"))?.map_err(from_arrow)?;
        if batch.num_rows() != rows || batch.num_columns() != 1 {
            return Err(damaged(format!("{rows} rows are expected, but {} were decoded", batch.num_rows())));
        }
        self.not_decoded -= rows as u64;
        Ok(batch.column(0).clone())
    }
}

/// Returns the schema for the decoding of a column's values.
pub(super) fn levels(column: &Column) -> Result<FieldLevels> {
    // INT96 is read as 12 plain bytes, so the decoder's conversion cannot overflow.
    let (physical, arrow) = match column.physical {
        Physical::BYTE_ARRAY => (Physical::BYTE_ARRAY, DataType::BinaryView),
        Physical::INT96 | Physical::FIXED_LEN_BYTE_ARRAY => {
            (Physical::FIXED_LEN_BYTE_ARRAY, DataType::FixedSizeBinary(column.width as i32))
        }
        Physical::BOOLEAN => (Physical::BOOLEAN, DataType::Boolean),
        Physical::INT32 => (Physical::INT32, DataType::Int32),
        Physical::INT64 => (Physical::INT64, DataType::Int64),
        Physical::FLOAT => (Physical::FLOAT, DataType::Float32),
        Physical::DOUBLE => (Physical::DOUBLE, DataType::Float64),
    };
    let repetition = if column.optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let leaf = Type::primitive_type_builder("v", physical)
        .with_repetition(repetition)
        .with_length(if physical == Physical::FIXED_LEN_BYTE_ARRAY { column.width as i32 } else { -1 })
        .build()
        .map_err(from_parquet)?;
    let root = Type::group_type_builder("m").with_fields(vec![Arc::new(leaf)]).build().map_err(from_parquet)?;
    let schema = SchemaDescriptor::new(Arc::new(root));
    let hint = Fields::from(vec![Field::new("v", arrow, column.optional)]);
    parquet_to_arrow_field_levels(&schema, ProjectionMask::all(), Some(&hint)).map_err(from_parquet)
}

fn from_parquet(error: ParquetError) -> Error {
    match error {
        ParquetError::NYI(what) => Error::Unsupported { what },
        ParquetError::General(why) | ParquetError::EOF(why) | ParquetError::ArrowError(why) => damaged(why),
        other => damaged(other.to_string()),
    }
}

/// Converts the decoder's errors. They are Arrow's errors, which hold only the text of the parquet crate's errors.
fn from_arrow(error: ArrowError) -> Error {
    let text = match error {
        ArrowError::ParquetError(text) => text,
        other => other.to_string(),
    };
    match text.strip_prefix("NYI: ") {
        Some(what) => Error::Unsupported { what: what.into() },
        None => damaged(text.strip_prefix("Parquet error: ").unwrap_or(&text)),
    }
}

/// The one column that the decoder sees of the file.
struct OneColumn {
    metadata: Arc<ParquetMetaData>,
    queue: Queue,
}

impl RowGroups for OneColumn {
    fn num_rows(&self) -> usize {
        0
    }

    fn column_chunks(&self, _: usize) -> ParquetResult<Box<dyn PageIterator>> {
        Ok(Box::new(OneChunk(Some(QueuedPages(self.queue.clone())))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.metadata.row_groups().iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

struct OneChunk(Option<QueuedPages>);

impl Iterator for OneChunk {
    type Item = ParquetResult<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(|pages| Ok(Box::new(pages) as Box<dyn PageReader>))
    }
}

impl PageIterator for OneChunk {}

struct QueuedPages(Queue);

impl Iterator for QueuedPages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for QueuedPages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front())
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        Err(ParquetError::General("pages are read, never skipped".into()))
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        Err(ParquetError::General("pages are read, never skipped".into()))
    }
}
