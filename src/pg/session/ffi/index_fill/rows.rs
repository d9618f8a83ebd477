//! Row by row: every insertion is PostgreSQL's own.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use super::calls::{ExecStoreMinimalTuple, FormIndexDatum, ProcessInterrupts, index_insert};
use super::index::{Index, Row};

/// Enters all rows, those of an index with a descending column from the last to the first.
pub fn fill(index: &Index, rows: &mut [Row<'_>]) {
    let count = rows.len();
    fill_steps(index, rows, count, |step| if index.descending { count - 1 - step } else { step });
}

/// Enters some rows in the order given.
pub fn fill_some(index: &Index, rows: &mut [Row<'_>], which: &[u32]) {
    fill_steps(index, rows, which.len(), |step| which[step] as usize);
}

fn fill_steps(index: &Index, rows: &mut [Row<'_>], steps: usize, at: impl Fn(usize) -> usize) {
    let (row, count) = (rows.as_mut_ptr(), rows.len());
    let fill = || {
        for at in (0..steps).map(&at).filter(|at| *at < count) {
            // SAFETY: `at` is below `count`, and the guard is set.
            unsafe { enter(index, row.add(at)) };
            // SAFETY: a flag of this process, which CHECK_FOR_INTERRUPTS reads in the same way.
            if unsafe { pg_sys::InterruptPending } != 0 {
                // SAFETY: it may raise an error: no value of this closure needs dropping.
                unsafe { ProcessInterrupts() };
            }
        }
    };
    // SAFETY: the closure owns nothing that needs dropping, so PostgreSQL's longjmp may leave it.
    unsafe { pg_guard_ffi_boundary(fill) };
}

/// # Safety
///
/// Only within `pg_guard_ffi_boundary`, and `row` must be a row of the index's table.
unsafe fn enter(index: &Index, row: *mut Row<'_>) {
    let check = if index.unique {
        pg_sys::IndexUniqueCheck::UNIQUE_CHECK_PARTIAL
    } else {
        pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO
    };
    let mut values = [pg_sys::Datum::from(0); pg_sys::INDEX_MAX_KEYS as usize];
    let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
    // SAFETY: the row's tuple outlives the slot's use of it.
    unsafe { ExecStoreMinimalTuple((*row).minimal(), index.slot, false) };
    // SAFETY: the index has no expressions (the caller guarantees it), so only columns of the slot are read; both
    // arrays have room for the most columns that an index can have.
    unsafe { FormIndexDatum(index.info, index.slot, index.estate, values.as_mut_ptr(), nulls.as_mut_ptr()) };
    let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
    // SAFETY: index and heap are open, the values are those of this row, and `tid` is its place in the heap.
    let sure = unsafe {
        index_insert(index.relation, values, nulls, &raw mut (*row).tid, index.heap, check, false, index.info)
    };
    if index.unique && !sure {
        // SAFETY: the caller guarantees that the row is alive.
        unsafe { (*row).unique = false };
    }
}
