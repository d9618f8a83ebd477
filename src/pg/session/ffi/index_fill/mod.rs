//! Fills an index with the rows that were put into its table: row by row, or many rows of a leaf at once.

mod calls;
mod compare;
mod keys;
mod leaf;
mod rows;
mod runs;
mod scratch;
mod write;

use pgrx::pg_sys;

pub use calls::{ExecStoreMinimalTuple, MemoryContextReset};

/// Whether runs can be written: nbtree has been read of these versions of PostgreSQL, and of no other.
pub const KNOWS_NBTREE: bool = pg_sys::PG_MAJORVERSION_NUM == 15;

/// A row that is being appended.
pub struct Row<'a> {
    /// The words of a complete MinimalTuple of the table's columns.
    pub tuple: &'a [u64],
    /// Its place in the heap.
    pub tid: pg_sys::ItemPointerData,
    /// Whether its key is certainly new in every unique index.
    pub unique: bool,
}

impl Row<'_> {
    /// Returns the tuple as PostgreSQL takes it. It is only read.
    pub fn minimal(&self) -> pg_sys::MinimalTuple {
        self.tuple.as_ptr() as pg_sys::MinimalTuple
    }
}

/// An open, immediate index without expressions or condition, and its table. Everything lives as long as the append.
#[derive(Clone, Copy)]
pub struct Index {
    /// The index.
    pub relation: pg_sys::Relation,
    /// Its description, as ExecOpenIndices has built it.
    pub info: *mut pg_sys::IndexInfo,
    /// The table.
    pub heap: pg_sys::Relation,
    /// A slot for the table's MinimalTuples.
    pub slot: *mut pg_sys::TupleTableSlot,
    /// A state of the executor.
    pub estate: *mut pg_sys::EState,
    /// Whether a key may occur once only.
    pub unique: bool,
    /// Whether a column of it is descending.
    pub descending: bool,
}

/// Enters all rows into the index. A unique index enters also the keys that may be stored already, and marks their
/// rows as not unique. With `runs`, the rows of a leaf are entered at once if the index allows it.
pub fn fill(index: &Index, rows: &mut [Row<'_>], runs: bool) {
    if !(runs && KNOWS_NBTREE && runs::fill(index, rows)) {
        rows::fill(index, rows);
    }
}
