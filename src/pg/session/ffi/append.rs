//! Tuples into one heap table and its indexes, as COPY does it: many tuples per page and per WAL record. Unlike COPY, one
//! index after another, and each in its own direction: newest-first keys that arrive oldest first would split the first
//! page of their index again and again.
//!
//! The caller sees to it that the table has exactly an encoded tuple's columns, with `ingested_at` where the encoder puts
//! the row's number, and nothing that acts on a row but constraints and plain, immediate B-tree indexes.

use std::collections::HashSet;
use std::ffi::c_int;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::tuple::Tuples;

// pgrx guards every call of its own declarations against PostgreSQL's longjmp; millions of calls per second share one
// guard here.
unsafe extern "C-unwind" {
    fn ExecStoreMinimalTuple(
        tuple: pg_sys::MinimalTuple,
        slot: *mut pg_sys::TupleTableSlot,
        free: bool,
    ) -> *mut pg_sys::TupleTableSlot;
    fn ExecConstraints(rel: *mut pg_sys::ResultRelInfo, slot: *mut pg_sys::TupleTableSlot, estate: *mut pg_sys::EState);
    fn heap_multi_insert(
        relation: pg_sys::Relation,
        slots: *mut *mut pg_sys::TupleTableSlot,
        count: c_int,
        command: pg_sys::CommandId,
        options: c_int,
        state: pg_sys::BulkInsertState,
    );
    fn FormIndexDatum(
        info: *mut pg_sys::IndexInfo,
        slot: *mut pg_sys::TupleTableSlot,
        estate: *mut pg_sys::EState,
        values: *mut pg_sys::Datum,
        nulls: *mut bool,
    );
    fn index_insert(
        index: pg_sys::Relation,
        values: *mut pg_sys::Datum,
        nulls: *mut bool,
        tid: pg_sys::ItemPointer,
        heap: pg_sys::Relation,
        check: pg_sys::IndexUniqueCheck::Type,
        unchanged: bool,
        info: *mut pg_sys::IndexInfo,
    ) -> bool;
    fn MemoryContextReset(context: pg_sys::MemoryContext);
    fn ProcessInterrupts();
}

/// Tuples per call of heap_multi_insert: a few pages of them.
const ROWS: usize = 256;
/// `INDOPTION_DESC`.
const DESCENDING: i16 = 1;

/// What became of a batch.
#[derive(Debug)]
pub struct Appended {
    /// Tuples that are stored.
    pub stored: u64,
    /// Indices of tuples that are not: their key was there already, or may be, as far as one can tell without waiting
    /// for another transaction.
    pub maybe: Vec<usize>,
}

/// Appends all tuples but those in `skip` to `table`, and to its indexes. In a transaction, under whatever role owns the
/// table. A key that is there already is no error, so that no subtransaction is needed.
pub fn append(table: pg_sys::Oid, tuples: &Tuples, skip: &HashSet<usize>) -> Appended {
    let target = Target::open(table);
    let mut which: Vec<usize> = (0..tuples.len()).filter(|index| !skip.contains(index)).collect();
    let mut rows = Vec::with_capacity(which.len());
    rows.extend(which.iter().map(|index| Row {
        tuple: tuples.words(*index).as_ptr() as pg_sys::MinimalTuple,
        tid: pg_sys::ItemPointerData::default(),
        unique: true,
    }));
    target.fill_heap(&mut rows);
    write_log_behind();
    for index in target.indexes(true) {
        target.fill_index(index, &mut rows);
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
        target.fill_index(index, &mut rows);
        write_log_behind();
    }
    target.close();
    // SAFETY: inside a transaction; what follows must see these rows.
    unsafe { pg_sys::CommandCounterIncrement() };
    Appended { stored: rows.len() as u64, maybe }
}

/// Has the WAL writer write and flush what this transaction has logged so far, as a commit that does not wait would. Our
/// commit waits as ever, but finds most of its megabytes on disk.
fn write_log_behind() {
    // SAFETY: a variable of this process.
    let logged = unsafe { pg_sys::XactLastRecEnd };
    if logged != 0 {
        // SAFETY: the end of a record that was logged; notes it in shared memory and sets a latch.
        unsafe { pg_sys::XLogSetAsyncXactLSN(logged) };
    }
}

/// One tuple on its way.
struct Row {
    tuple: pg_sys::MinimalTuple,
    /// Where the heap put it.
    tid: pg_sys::ItemPointerData,
    /// Whether no unique index knows, or may know, its key.
    unique: bool,
}

/// An open table, ready for executor calls. Freed by `close`, or with its memory context when an error leaves.
struct Target {
    relation: pg_sys::Relation,
    /// A copy of the relation's: slots of a shared one are counted one by one, which shows.
    descriptor: pg_sys::TupleDesc,
    info: *mut pg_sys::ResultRelInfo,
    estate: *mut pg_sys::EState,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Target {
    fn open(table: pg_sys::Oid) -> Self {
        // SAFETY: the oid of a table that the caller has locked; kept locked until the transaction ends.
        let relation = unsafe { pg_sys::table_open(table, pg_sys::RowExclusiveLock as c_int) };
        // SAFETY: allocates in a context of its own under the current one.
        let estate = unsafe { pg_sys::CreateExecutorState() };
        // SAFETY: zeroed memory of the node's size, which InitResultRelInfo fills.
        let info = unsafe { pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()) }.cast::<pg_sys::ResultRelInfo>();
        // SAFETY: an open relation. Range table index 0: there is no query.
        unsafe { pg_sys::InitResultRelInfo(info, relation, 0, std::ptr::null_mut(), 0) };
        // SAFETY: filled above.
        unsafe { pg_sys::ExecOpenIndices(info, false) };
        // SAFETY: an open relation; the copy lives in the current context.
        let descriptor = unsafe { pg_sys::CreateTupleDescCopy((*relation).rd_att) };
        // SAFETY: the descriptor outlives the slot.
        let slot = unsafe { pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsMinimalTuple) };
        Target { relation, descriptor, info, estate, slot }
    }

    /// The numbers of the unique indexes, or of the others. Those that grow at their end come first: PostgreSQL finds that end
    /// without a search, but only as long as nobody who loads later ticks has been there.
    fn indexes(&self, unique: bool) -> Vec<usize> {
        // SAFETY: filled by ExecOpenIndices.
        let count = unsafe { (*self.info).ri_NumIndices as usize };
        // SAFETY: as many entries as there are indexes.
        let is_unique = |at: &usize| unsafe { (**(*self.info).ri_IndexRelationInfo.add(*at)).ii_Unique };
        let mut numbers: Vec<usize> = (0..count).filter(|at| is_unique(at) == unique).collect();
        numbers.sort_by_key(|at| self.is_descending(*at));
        numbers
    }

    /// Whether any column of an index is.
    fn is_descending(&self, number: usize) -> bool {
        // SAFETY: `number` is below ri_NumIndices.
        let (index, info) = unsafe {
            (*(*self.info).ri_IndexRelationDescs.add(number), *(*self.info).ri_IndexRelationInfo.add(number))
        };
        // SAFETY: describes an open index.
        let keys = unsafe { (*info).ii_NumIndexKeyAttrs as usize };
        // SAFETY: rd_indoption has an entry per key column.
        (0..keys).any(|key| unsafe { *(*index).rd_indoption.add(key) } & DESCENDING != 0)
    }

    /// Puts the tuples into the heap and notes where each went.
    fn fill_heap(&self, rows: &mut [Row]) {
        let mut slots = Vec::with_capacity(ROWS.min(rows.len()));
        for _ in 0..ROWS.min(rows.len()) {
            // SAFETY: as in `open`; dropped below.
            slots.push(unsafe {
                pg_sys::MakeSingleTupleTableSlot(self.descriptor, &raw const pg_sys::TTSOpsMinimalTuple)
            });
        }
        // SAFETY: inside a transaction that writes.
        let command = unsafe { pg_sys::GetCurrentCommandId(true) };
        // SAFETY: the context in which an expression of this state is evaluated, made on first use.
        let context = unsafe { pg_sys::MakePerTupleExprContext(self.estate) };
        // SAFETY: valid, made above.
        let scratch = unsafe { (*context).ecxt_per_tuple_memory };
        // SAFETY: allocates and registers nothing that an error would not release.
        let bulk = unsafe { pg_sys::GetBulkInsertState() };
        let (info, estate, relation) = (self.info, self.estate, self.relation);
        let slots_at = slots.as_mut_ptr();
        for rows in rows.chunks_mut(ROWS) {
            let (row, count) = (rows.as_mut_ptr(), rows.len());
            let fill = || {
                for index in 0..count {
                    // SAFETY: an aligned, complete MinimalTuple of this table's columns, alive during the call.
                    let slot = unsafe { ExecStoreMinimalTuple((*row.add(index)).tuple, *slots_at.add(index), false) };
                    // SAFETY: the table's own constraints, evaluated with its own state.
                    unsafe { ExecConstraints(info, slot, estate) };
                }
                // SAFETY: the memory of the last expressions, and of the last call below.
                unsafe { MemoryContextReset(scratch) };
                // SAFETY: reads this process's current context; an error resets it.
                let before = unsafe { pg_sys::CurrentMemoryContext };
                // SAFETY: a live context of this state's.
                unsafe { pg_sys::CurrentMemoryContext = scratch };
                // SAFETY: `count` filled slots of this relation's shape.
                unsafe { heap_multi_insert(relation, slots_at, count as c_int, command, 0, bulk) };
                // SAFETY: as above.
                unsafe { pg_sys::CurrentMemoryContext = before };
                for index in 0..count {
                    // SAFETY: heap_multi_insert has noted where the tuple went.
                    unsafe { (*row.add(index)).tid = (**slots_at.add(index)).tts_tid };
                }
            };
            // SAFETY: the closure owns nothing that needs dropping, so PostgreSQL's longjmp may leave it.
            unsafe { pg_guard_ffi_boundary(fill) };
            pgrx::check_for_interrupts!();
        }
        // SAFETY: made above.
        unsafe { pg_sys::FreeBulkInsertState(bulk) };
        for slot in slots {
            // SAFETY: made above and not used again.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(slot) };
        }
    }

    /// Enters all tuples into one index. A unique one says of which keys it is not sure, and takes them all the same.
    fn fill_index(&self, number: usize, rows: &mut [Row]) {
        // SAFETY: `number` is below ri_NumIndices.
        let (index, info) = unsafe {
            (*(*self.info).ri_IndexRelationDescs.add(number), *(*self.info).ri_IndexRelationInfo.add(number))
        };
        // SAFETY: describes an open index.
        let unique = unsafe { (*info).ii_Unique };
        let descending = self.is_descending(number);
        let check = if unique {
            pg_sys::IndexUniqueCheck::UNIQUE_CHECK_PARTIAL
        } else {
            pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO
        };
        let (relation, estate, slot) = (self.relation, self.estate, self.slot);
        let (row, count) = (rows.as_mut_ptr(), rows.len());
        let fill = || {
            let mut values = [pg_sys::Datum::from(0); pg_sys::INDEX_MAX_KEYS as usize];
            let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
            for step in 0..count {
                let at = if descending { count - 1 - step } else { step };
                // SAFETY: as in `fill_heap`.
                unsafe { ExecStoreMinimalTuple((*row.add(at)).tuple, slot, false) };
                // SAFETY: plain columns of the slot; room for as many as an index can have.
                unsafe { FormIndexDatum(info, slot, estate, values.as_mut_ptr(), nulls.as_mut_ptr()) };
                // SAFETY: the place that the heap gave this very tuple.
                let sure = unsafe {
                    let tid = &raw mut (*row.add(at)).tid;
                    index_insert(index, values.as_mut_ptr(), nulls.as_mut_ptr(), tid, relation, check, false, info)
                };
                if unique && !sure {
                    // SAFETY: within the rows.
                    unsafe { (*row.add(at)).unique = false };
                }
                // SAFETY: a flag of this process; what CHECK_FOR_INTERRUPTS does.
                if unsafe { pg_sys::InterruptPending } != 0 {
                    // SAFETY: may raise, which this closure allows.
                    unsafe { ProcessInterrupts() };
                }
            }
        };
        // SAFETY: the closure owns nothing that needs dropping, so PostgreSQL's longjmp may leave it.
        unsafe { pg_guard_ffi_boundary(fill) };
    }

    /// Deletes the tuples whose keys may be there already; what indexes hold of them points to dead rows, as after an
    /// INSERT … ON CONFLICT that lost.
    fn take_back(&self, rows: &mut [Row]) {
        // SAFETY: inside a transaction; a command may not delete what it has inserted itself.
        unsafe { pg_sys::CommandCounterIncrement() };
        for row in rows.iter_mut().filter(|row| !row.unique) {
            // SAFETY: a row that this transaction has inserted and nobody else can see.
            unsafe { pg_sys::simple_heap_delete(self.relation, &raw mut row.tid) };
        }
    }

    /// Locks stay until the transaction ends.
    fn close(self) {
        // SAFETY: made by `open` and not used again.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        // SAFETY: opened by ExecOpenIndices.
        unsafe { pg_sys::ExecCloseIndices(self.info) };
        // SAFETY: made by `open`.
        unsafe { pg_sys::FreeExecutorState(self.estate) };
        // SAFETY: opened by `open`.
        unsafe { pg_sys::table_close(self.relation, pg_sys::NoLock as c_int) };
    }
}
