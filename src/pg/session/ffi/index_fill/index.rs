//! An open index and the rows that go into it.

use pgrx::pg_sys;

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
