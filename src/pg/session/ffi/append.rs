//! The append path: it writes tuples into one heap table and its indexes, as COPY does, many tuples per
//! page and per WAL record. Unlike COPY it fills one index after another, and each in its own direction:
//! newest-first keys that arrive oldest first would split the first page of their index again and again.
//!
//! The caller guarantees that the table has exactly an encoded tuple's columns, with `ingested_at` where
//! the encoder puts the row's number, and nothing that acts on a row but constraints and plain, immediate
//! B-tree indexes.

use std::collections::HashSet;
use std::ffi::c_int;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use super::index_fill::{self, ExecStoreMinimalTuple, Index, MemoryContextReset, Row};
use super::sqlstates::with_sqlstates;
use crate::tuple::Tuples;

// As in `index_fill/calls.rs`: declared without pgrx's guard, because many calls share one.
unsafe extern "C-unwind" {
    fn ExecConstraints(rel: *mut pg_sys::ResultRelInfo, slot: *mut pg_sys::TupleTableSlot, estate: *mut pg_sys::EState);
    fn heap_multi_insert(
        relation: pg_sys::Relation,
        slots: *mut *mut pg_sys::TupleTableSlot,
        count: c_int,
        command: pg_sys::CommandId,
        options: c_int,
        state: pg_sys::BulkInsertState,
    );
}

/// Tuples per call of heap_multi_insert. They fill a few pages.
const ROWS: usize = 256;
/// `INDOPTION_DESC`.
const DESCENDING: i16 = 1;

/// The result of appending a batch.
#[derive(Debug)]
pub struct Appended {
    /// The number of tuples that are stored.
    pub stored: u64,
    /// Indices of tuples that are not stored, because their key is stored already, or may be: another
    /// transaction that has not ended may have stored it.
    pub maybe: Vec<usize>,
}

/// Appends all tuples but those in `skip` to `table` and to its indexes, with the privileges of the table's
/// owner. A key that is stored already is no error, so that no subtransaction is needed. With `runs`, B-trees are
/// filled in runs.
pub fn append(table: pg_sys::Oid, tuples: &Tuples, skip: &HashSet<usize>, runs: bool) -> Appended {
    with_sqlstates(|| append_all(table, tuples, skip, runs))
}

fn append_all(table: pg_sys::Oid, tuples: &Tuples, skip: &HashSet<usize>, runs: bool) -> Appended {
    let target = Target::open(table);
    let mut which: Vec<usize> = (0..tuples.len()).filter(|index| !skip.contains(index)).collect();
    let mut rows = Vec::with_capacity(which.len());
    rows.extend(which.iter().map(|index| Row {
        tuple: tuples.words(*index),
        tid: pg_sys::ItemPointerData::default(),
        unique: true,
    }));
    target.fill_heap(&mut rows);
    write_log_behind();
    for index in target.indexes(true) {
        index_fill::fill(&target.index(index), &mut rows, runs);
        write_log_behind();
    }
    let mut maybe = Vec::new();
    if rows.iter().any(|row| !row.unique) {
        target.take_back(&mut rows);
        let kept: Vec<bool> = rows.iter().map(|row| row.unique).collect();
        let mut at = kept.iter();
        which.retain(|index| {
            let kept = at.next() == Some(&true);
            if !kept {
                maybe.push(*index);
            }
            kept
        });
        rows.retain(|row| row.unique);
    }
    for index in target.indexes(false) {
        index_fill::fill(&target.index(index), &mut rows, runs);
        write_log_behind();
    }
    target.close();
    // SAFETY: called inside a transaction, on the backend's thread. The statements that follow must see
    // these rows.
    unsafe { pg_sys::CommandCounterIncrement() };
    Appended { stored: rows.len() as u64, maybe }
}

/// Asks the WAL writer to write and flush what this transaction has logged so far, as an asynchronous
/// commit does. The commit itself stays synchronous, but finds most of its WAL on disk.
fn write_log_behind() {
    // SAFETY: a variable that only this process writes, and on this thread.
    let logged = unsafe { pg_sys::XactLastRecEnd };
    if logged != 0 {
        // SAFETY: the position is the end of a record that this transaction has logged, so the WAL reaches it.
        unsafe { pg_sys::XLogSetAsyncXactLSN(logged) };
    }
}

/// An open table, ready for executor calls. `close` frees it; after an error it is freed with its memory context.
struct Target {
    relation: pg_sys::Relation,
    /// A copy of the relation's descriptor. References to the relation's own are counted for every slot,
    /// which takes measurable time.
    descriptor: pg_sys::TupleDesc,
    info: *mut pg_sys::ResultRelInfo,
    estate: *mut pg_sys::EState,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Target {
    fn open(table: pg_sys::Oid) -> Self {
        // SAFETY: the caller has locked the table, so it exists until the transaction ends.
        let relation = unsafe { pg_sys::table_open(table, pg_sys::RowExclusiveLock as c_int) };
        // SAFETY: called inside a transaction, whose memory context is current and outlives this value.
        let estate = unsafe { pg_sys::CreateExecutorState() };
        // SAFETY: palloc0 returns zeroed, aligned memory of the node's size, or raises an error.
        let info = unsafe { pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()) }.cast::<pg_sys::ResultRelInfo>();
        // SAFETY: `info` has the node's size and `relation` is open. Range table index 0 says that there is
        // no query.
        unsafe { pg_sys::InitResultRelInfo(info, relation, 0, std::ptr::null_mut(), 0) };
        // SAFETY: InitResultRelInfo has filled `info` for an open relation.
        unsafe { pg_sys::ExecOpenIndices(info, false) };
        // SAFETY: the relation is open, so its descriptor is valid; it is only read.
        let descriptor = unsafe { pg_sys::CreateTupleDescCopy((*relation).rd_att) };
        // SAFETY: the descriptor is in the memory context in which the slot is made, and `close` drops the
        // slot first.
        let slot = unsafe { pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsMinimalTuple) };
        Target { relation, descriptor, info, estate, slot }
    }

    /// Returns the numbers of the unique indexes, or of the others. Indexes that grow at their end come
    /// first: PostgreSQL finds that end without a search as long as no other session has inserted later ticks.
    fn indexes(&self, unique: bool) -> Vec<usize> {
        // SAFETY: ExecOpenIndices has set the count; `info` lives as long as `self`.
        let count = unsafe { (*self.info).ri_NumIndices as usize };
        // SAFETY: the array has one valid pointer for each of the `count` indexes, and `at` is below `count`.
        let is_unique = |at: &usize| unsafe { (**(*self.info).ri_IndexRelationInfo.add(*at)).ii_Unique };
        let mut numbers: Vec<usize> = (0..count).filter(|at| is_unique(at) == unique).collect();
        numbers.sort_by_key(|at| self.index(*at).descending);
        numbers
    }

    /// Returns an index by its number, open and described.
    fn index(&self, number: usize) -> Index {
        // SAFETY: `indexes` returns only numbers below ri_NumIndices, the length of this array.
        let relation = unsafe { *(*self.info).ri_IndexRelationDescs.add(number) };
        // SAFETY: this array has the same length.
        let info = unsafe { *(*self.info).ri_IndexRelationInfo.add(number) };
        // SAFETY: ExecOpenIndices has built `info` for this index; it lives as long as `self`.
        let (unique, keys) = unsafe { ((*info).ii_Unique, (*info).ii_NumIndexKeyAttrs as usize) };
        // SAFETY: rd_indoption of an open index has an entry for each key column, and `key` is below their number.
        let descending = (0..keys).any(|key| unsafe { *(*relation).rd_indoption.add(key) } & DESCENDING != 0);
        Index { relation, info, heap: self.relation, slot: self.slot, estate: self.estate, unique, descending }
    }

    /// Puts the tuples into the heap and remembers the place of each.
    fn fill_heap(&self, rows: &mut [Row<'_>]) {
        let mut slots = Vec::with_capacity(ROWS.min(rows.len()));
        for _ in 0..ROWS.min(rows.len()) {
            // SAFETY: the descriptor lives as long as `self`, and the slots are dropped before this
            // function returns.
            slots.push(unsafe {
                pg_sys::MakeSingleTupleTableSlot(self.descriptor, &raw const pg_sys::TTSOpsMinimalTuple)
            });
        }
        // SAFETY: called inside a transaction; `true` says that the command id is used for a write.
        let command = unsafe { pg_sys::GetCurrentCommandId(true) };
        // SAFETY: the state is alive; the call makes its expression context or returns the one that it has.
        let context = unsafe { pg_sys::MakePerTupleExprContext(self.estate) };
        // SAFETY: the call above has returned a valid context that lives as long as the state.
        let scratch = unsafe { (*context).ecxt_per_tuple_memory };
        // SAFETY: the state is allocated in the current memory context, and an error releases it with that context.
        let bulk = unsafe { pg_sys::GetBulkInsertState() };
        let (info, estate, relation) = (self.info, self.estate, self.relation);
        let slots_at = slots.as_mut_ptr();
        for rows in rows.chunks_mut(ROWS) {
            let (row, count) = (rows.as_mut_ptr(), rows.len());
            let fill = || {
                for index in 0..count {
                    // SAFETY: `index` is below `count`, so row and slot exist. The encoder has written an
                    // aligned, complete MinimalTuple of this table's columns, and `tuples` outlives the
                    // slot's use of it.
                    let slot =
                        unsafe { ExecStoreMinimalTuple((*row.add(index)).minimal(), *slots_at.add(index), false) };
                    // SAFETY: the slot was filled from a tuple of this table, and `estate` is the state of `info`.
                    unsafe { ExecConstraints(info, slot, estate) };
                }
                // SAFETY: nothing that is used later is in this context: it holds what the expressions and
                // the last heap_multi_insert have allocated.
                unsafe { MemoryContextReset(scratch) };
                // SAFETY: a variable of this process, which only this thread writes.
                let before = unsafe { pg_sys::CurrentMemoryContext };
                // SAFETY: `scratch` lives as long as the state. After an error PostgreSQL sets another context.
                unsafe { pg_sys::CurrentMemoryContext = scratch };
                // SAFETY: the first `count` slots are filled with tuples of this relation, and there are
                // ROWS or fewer.
                unsafe { heap_multi_insert(relation, slots_at, count as c_int, command, 0, bulk) };
                // SAFETY: `before` was current when this closure began, and nothing has freed it.
                unsafe { pg_sys::CurrentMemoryContext = before };
                for index in 0..count {
                    // SAFETY: `index` is below `count`, and heap_multi_insert has set the place in each slot.
                    unsafe { (*row.add(index)).tid = (**slots_at.add(index)).tts_tid };
                }
            };
            // SAFETY: the closure owns nothing that needs dropping, so PostgreSQL's longjmp may leave it.
            unsafe { pg_guard_ffi_boundary(fill) };
            pgrx::check_for_interrupts!();
        }
        // SAFETY: GetBulkInsertState has made it, and it is not used again.
        unsafe { pg_sys::FreeBulkInsertState(bulk) };
        for slot in slots {
            // SAFETY: MakeSingleTupleTableSlot has made it, and it is not used again.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(slot) };
        }
    }

    /// Deletes the tuples whose keys may be stored already. Their index entries point to dead rows then, as
    /// those of an INSERT … ON CONFLICT that has met a conflict.
    fn take_back(&self, rows: &mut [Row<'_>]) {
        // SAFETY: called inside a transaction. The deletion must be another command than the insertion.
        unsafe { pg_sys::CommandCounterIncrement() };
        for row in rows.iter_mut().filter(|row| !row.unique) {
            // SAFETY: `fill_heap` has set the place. No other session sees the row, so none can have
            // changed it.
            unsafe { pg_sys::simple_heap_delete(self.relation, &raw mut row.tid) };
        }
    }

    /// Frees everything. The lock of the table stays until the transaction ends.
    fn close(self) {
        // SAFETY: `open` has made it, and `self` is consumed.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        // SAFETY: `open` has opened the indexes of `info`, and `self` is consumed.
        unsafe { pg_sys::ExecCloseIndices(self.info) };
        // SAFETY: `open` has made it, and `self` is consumed; slots and indexes no longer need it.
        unsafe { pg_sys::FreeExecutorState(self.estate) };
        // SAFETY: `open` has opened it, and `self` is consumed.
        unsafe { pg_sys::table_close(self.relation, pg_sys::NoLock as c_int) };
    }
}
