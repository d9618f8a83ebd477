//! PostgreSQL's functions that fill an index, as PostgreSQL 15 declares them.
//!
//! pgrx guards each call of its own declarations against PostgreSQL's longjmp. These are called millions of times per
//! second, or are missing there, so they are declared without that guard, and many calls share one: they may only be
//! called within `pg_guard_ffi_boundary`, by a closure that owns nothing that needs dropping.

use std::ffi::{c_int, c_void};

use pgrx::pg_sys;

/// The beginning of `BTScanInsertData`: the keys that a search compares with.
#[repr(C)]
pub struct ScanKey {
    pub heap_key_space: bool,
    pub all_equal_image: bool,
    pub any_null_keys: bool,
    pub next_key: bool,
    pub pivot_search: bool,
    /// The place that decides between equal keys, or null.
    pub tid: *mut pg_sys::ItemPointerData,
}

/// `BTInsertStateData`.
#[repr(C)]
pub struct InsertState {
    pub tuple: pg_sys::IndexTuple,
    pub size: pg_sys::Size,
    pub key: *mut ScanKey,
    pub buffer: pg_sys::Buffer,
    pub bounds_valid: bool,
    pub low: pg_sys::OffsetNumber,
    pub strict_high: pg_sys::OffsetNumber,
    pub posting: c_int,
}

/// `BTOptions`.
#[repr(C)]
pub struct Options {
    length: i32,
    pub fillfactor: c_int,
    unused: f64,
    pub deduplicate: bool,
}

/// `BUFFER_LOCK_EXCLUSIVE`.
pub const WRITE: c_int = 2;
/// `P_NEW`.
pub const NEW: pg_sys::BlockNumber = pg_sys::InvalidBlockNumber;

unsafe extern "C-unwind" {
    pub fn ExecStoreMinimalTuple(
        tuple: pg_sys::MinimalTuple,
        slot: *mut pg_sys::TupleTableSlot,
        free: bool,
    ) -> *mut pg_sys::TupleTableSlot;
    pub fn FormIndexDatum(
        info: *mut pg_sys::IndexInfo,
        slot: *mut pg_sys::TupleTableSlot,
        estate: *mut pg_sys::EState,
        values: *mut pg_sys::Datum,
        nulls: *mut bool,
    );
    pub fn index_insert(
        index: pg_sys::Relation,
        values: *mut pg_sys::Datum,
        nulls: *mut bool,
        tid: pg_sys::ItemPointer,
        heap: pg_sys::Relation,
        check: pg_sys::IndexUniqueCheck::Type,
        unchanged: bool,
        info: *mut pg_sys::IndexInfo,
    ) -> bool;
    pub fn ProcessInterrupts();
    pub fn MemoryContextReset(context: pg_sys::MemoryContext);
    pub fn lc_collate_is_c(collation: pg_sys::Oid) -> bool;

    pub fn _bt_metaversion(index: pg_sys::Relation, heap_key_space: *mut bool, all_equal_image: *mut bool);
    pub fn _bt_mkscankey(index: pg_sys::Relation, tuple: pg_sys::IndexTuple) -> *mut ScanKey;
    pub fn _bt_search(
        index: pg_sys::Relation,
        key: *mut ScanKey,
        buffer: *mut pg_sys::Buffer,
        access: c_int,
        snapshot: pg_sys::Snapshot,
    ) -> *mut c_void;
    pub fn _bt_binsrch_insert(index: pg_sys::Relation, state: *mut InsertState) -> pg_sys::OffsetNumber;
    pub fn _bt_compare(
        index: pg_sys::Relation,
        key: *mut ScanKey,
        page: pg_sys::Page,
        number: pg_sys::OffsetNumber,
    ) -> i32;
    pub fn _bt_truncate(
        index: pg_sys::Relation,
        last_left: pg_sys::IndexTuple,
        first_right: pg_sys::IndexTuple,
        key: *mut ScanKey,
    ) -> pg_sys::IndexTuple;
    pub fn _bt_getbuf(index: pg_sys::Relation, block: pg_sys::BlockNumber, access: c_int) -> pg_sys::Buffer;
    pub fn _bt_relbuf(index: pg_sys::Relation, buffer: pg_sys::Buffer);
    pub fn _bt_vacuum_cycleid(index: pg_sys::Relation) -> u16;
    pub fn _bt_finish_split(index: pg_sys::Relation, left: pg_sys::Buffer, stack: *mut c_void);

    pub fn BufferGetBlockNumber(buffer: pg_sys::Buffer) -> pg_sys::BlockNumber;
    pub fn CheckForSerializableConflictIn(
        relation: pg_sys::Relation,
        tid: *mut pg_sys::ItemPointerData,
        block: pg_sys::BlockNumber,
    );
    pub fn PredicateLockPageSplit(relation: pg_sys::Relation, old: pg_sys::BlockNumber, new: pg_sys::BlockNumber);
    pub fn GenericXLogStart(relation: pg_sys::Relation) -> *mut pg_sys::GenericXLogState;
    pub fn GenericXLogRegisterBuffer(
        state: *mut pg_sys::GenericXLogState,
        buffer: pg_sys::Buffer,
        flags: c_int,
    ) -> pg_sys::Page;
    pub fn GenericXLogFinish(state: *mut pg_sys::GenericXLogState) -> pg_sys::XLogRecPtr;
    pub fn GenericXLogAbort(state: *mut pg_sys::GenericXLogState);
}
