//! The keys of a batch's rows, read once for an index.

use std::cmp::Ordering;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use super::calls::{ExecStoreMinimalTuple, FormIndexDatum};
use super::compare::Comparison;
use super::index::{Index, Row};
use crate::tuple::leaf::Tid;
use crate::tuple::leaf::entry::{self, Key, LONGEST_TEXT, Layout};
use crate::tuple::leaf::order::Sorted;

/// The keys of all rows, and how they are compared and stored.
pub struct Keys<'a> {
    layouts: Vec<Layout>,
    comparisons: Vec<Comparison>,
    values: Vec<Key<'a>>,
    tids: Vec<Tid>,
}

impl<'a> Keys<'a> {
    /// Reads the keys of all rows. Returns `None` if the index has a column of another kind than are known here, or if
    /// a key is null or too long.
    pub fn read(index: &Index, rows: &[Row<'a>]) -> Option<Self> {
        // SAFETY: the index is open, so its descriptor is valid.
        let columns = unsafe { (*(*index.relation).rd_att).natts } as usize;
        // SAFETY: ExecOpenIndices has built it for this index.
        let keys = unsafe { (*index.info).ii_NumIndexKeyAttrs } as usize;
        if columns != keys {
            return None;
        }
        let layouts: Option<Vec<Layout>> = (0..keys).map(|column| layout(index.relation, column)).collect();
        let layouts = layouts?;
        let mut values = Vec::with_capacity(rows.len() * keys);
        for datums in data(index, rows, keys)?.chunks_exact(keys) {
            for (datum, layout) in datums.iter().zip(&layouts) {
                values.push(match layout {
                    Layout::Fixed { .. } => Key::Fixed(datum.value() as u64),
                    Layout::Varlena { .. } => {
                        // SAFETY: the value has a length header and belongs to a tuple of `rows`.
                        let bytes = unsafe { text(*datum) }?;
                        Key::Varlena { datum: datum.value() as u64, bytes }
                    }
                });
            }
        }
        let comparisons = (0..keys).map(|column| Comparison::of(index.relation, column)).collect();
        let tids = rows.iter().map(tid).collect();
        Some(Self { layouts, comparisons, values, tids })
    }

    /// Sorts the rows in the order of the index.
    pub fn sorted(&self, reversed: bool) -> Sorted {
        let compare = |a: usize, b: usize| {
            let columns = self.comparisons.iter().zip(self.of(a).iter().zip(self.of(b)));
            columns.map(|(column, (a, b))| column.compare(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        };
        Sorted::new(self.tids.len(), reversed, compare, |row| self.tid(row))
    }

    /// Returns the place of a row.
    pub fn tid(&self, row: usize) -> Tid {
        self.tids[row]
    }

    /// Appends the index tuple of a row.
    pub fn form(&self, row: usize, out: &mut Vec<u8>) {
        entry::form(&self.layouts, self.of(row), self.tid(row), out);
    }

    fn of(&self, row: usize) -> &[Key<'a>] {
        let columns = self.layouts.len();
        &self.values[row * columns..(row + 1) * columns]
    }
}

/// Returns the place of a row.
fn tid(row: &Row<'_>) -> Tid {
    let block = row.tid.ip_blkid;
    Tid::new(u32::from(block.bi_hi) << 16 | u32::from(block.bi_lo), row.tid.ip_posid)
}

/// Returns the layout of a key column, counted from 0, or `None` if it is none of those known here.
fn layout(index: pg_sys::Relation, column: usize) -> Option<Layout> {
    // SAFETY: the index is open, and its descriptor has an attribute for each of its columns.
    let attribute = unsafe { &*(*(*index).rd_att).attrs.as_ptr().add(column) };
    let align = match attribute.attalign as u8 {
        b'c' => 1,
        b's' => 2,
        b'i' => 4,
        b'd' => 8,
        _ => return None,
    };
    match (attribute.attlen, attribute.attbyval) {
        (len @ (1 | 2 | 4 | 8), true) => Some(Layout::Fixed { len: len as usize, align }),
        // Plain storage has no short headers.
        (-1, false) if attribute.attstorage as u8 != b'p' => Some(Layout::Varlena { align }),
        _ => None,
    }
}

/// Returns the values of the key columns of all rows, row by row, or `None` if one of them is null.
fn data(index: &Index, rows: &[Row<'_>], keys: usize) -> Option<Vec<pg_sys::Datum>> {
    let mut data = vec![pg_sys::Datum::from(0); rows.len() * keys];
    let (row, count, out) = (rows.as_ptr(), rows.len(), data.as_mut_ptr());
    let read = || {
        let mut values = [pg_sys::Datum::from(0); pg_sys::INDEX_MAX_KEYS as usize];
        let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
        for at in 0..count {
            // SAFETY: `at` is below `count`; the row's tuple outlives the slot's use of it.
            unsafe { ExecStoreMinimalTuple((*row.add(at)).minimal(), index.slot, false) };
            // SAFETY: the index has no expressions (the caller guarantees it), so only columns of the slot are read;
            // both arrays have room for the most columns that an index can have.
            unsafe { FormIndexDatum(index.info, index.slot, index.estate, values.as_mut_ptr(), nulls.as_mut_ptr()) };
            if nulls[..keys].contains(&true) {
                return false;
            }
            // SAFETY: `data` has `keys` values for each of `count` rows.
            unsafe { out.add(at * keys).copy_from_nonoverlapping(values.as_ptr(), keys) };
        }
        true
    };
    // SAFETY: the closure owns nothing that needs dropping, so PostgreSQL's longjmp may leave it.
    unsafe { pg_guard_ffi_boundary(read) }.then_some(data)
}

/// Returns what follows the length header of a value. Returns `None` if it is long, compressed, or stored elsewhere.
///
/// # Safety
///
/// The value must have a length header and live as long as `'a`.
unsafe fn text<'a>(datum: pg_sys::Datum) -> Option<&'a [u8]> {
    let at: *const u8 = datum.cast_mut_ptr::<u8>();
    // SAFETY: every value with a length header has a first byte.
    let first = unsafe { *at };
    let (header, len) = match first {
        // Stored elsewhere.
        1 => return None,
        _ if first & 1 == 1 => (1, usize::from(first >> 1)),
        // SAFETY: such a header has four bytes.
        _ if first & 3 == 0 => (4, (unsafe { at.cast::<u32>().read_unaligned() } >> 2) as usize),
        // Compressed.
        _ => return None,
    };
    let len = len.checked_sub(header).filter(|len| *len <= LONGEST_TEXT)?;
    // SAFETY: the header says that so many bytes follow it, and the caller how long they live.
    Some(unsafe { std::slice::from_raw_parts(at.add(header), len) })
}
