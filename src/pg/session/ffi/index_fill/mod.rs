//! Fills an index with the rows that were put into its table: row by row, or many rows of a leaf at once.

mod calls;
mod compare;
mod index;
mod keys;
mod leaf;
mod rows;
mod runs;
mod scratch;
mod write;

use pgrx::pg_sys;

pub use calls::{ExecStoreMinimalTuple, MemoryContextReset};
pub use index::{Index, Row};

/// Whether runs can be written: nbtree has been read of these versions of PostgreSQL, and of no other.
pub const KNOWS_NBTREE: bool = pg_sys::PG_MAJORVERSION_NUM == 15;

/// Enters all rows into the index. A unique index enters also the keys that may be stored already, and marks their
/// rows as not unique. With `runs`, the rows of a leaf are entered at once if the index allows it.
pub fn fill(index: &Index, rows: &mut [Row<'_>], runs: bool) {
    if !(runs && KNOWS_NBTREE && runs::fill(index, rows)) {
        rows::fill(index, rows);
    }
}
