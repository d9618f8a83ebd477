//! Advisory locks by key, relation locks, and work at the end of a transaction, when no statement can run
//! any more.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::sync::Once;

use pgrx::prelude::*;

/// `field4` of the lock tag of `pg_advisory_lock(bigint)`.
const BIGINT_KEY: u16 = 1;

// common/hashfn.h; pgrx has no binding for it.
unsafe extern "C-unwind" {
    fn hash_bytes_extended(bytes: *const u8, len: c_int, seed: u64) -> u64;
}

thread_local! {
    static AT_COMMIT: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
    static AT_ABORT: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// How long an advisory lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockLevel {
    /// Until it is released or the process ends.
    Session,
    /// Until the transaction ends.
    Transaction,
}

/// Returns the key of the advisory lock with this name: `hashtextextended(name, 0)`.
pub fn lock_key(name: &str) -> i64 {
    // SAFETY: pointer and length are those of a live text, which is only read.
    unsafe { hash_bytes_extended(name.as_ptr(), name.len() as c_int, 0) as i64 }
}

/// Takes an advisory lock. Returns `false` if another session holds it and `wait` is `false`.
pub fn acquire_lock(key: i64, level: LockLevel, wait: bool) -> bool {
    let mode = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: every field of the tag is set, and the caller is inside a transaction. An interrupt or
    // `lock_timeout` ends a wait by an error, and no value here needs dropping.
    let result = unsafe { pg_sys::LockAcquire(&tag(key), mode, level == LockLevel::Session, !wait) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Releases a session-level advisory lock, if this session holds it. Callable outside a transaction.
pub fn release_session_lock(key: i64) {
    // SAFETY: every field of the tag is set. If the lock is not held, PostgreSQL warns and changes nothing.
    unsafe { pg_sys::LockRelease(&tag(key), pg_sys::ExclusiveLock as pg_sys::LOCKMODE, true) };
}

/// Releases a session-level advisory lock after the transaction's commit, when other sessions see what it
/// did, or at its rollback.
pub fn release_session_lock_at_commit(key: i64) {
    watch_ends();
    AT_COMMIT.with_borrow_mut(|keys| keys.push(key));
}

/// Releases all session-level advisory locks of this session.
pub fn release_all_session_locks() {
    // SAFETY: `pg_advisory_unlock_all()` makes the same call, which needs no transaction.
    unsafe { pg_sys::LockReleaseSession(pg_sys::USER_LOCKMETHOD as pg_sys::LOCKMETHODID) };
}

/// Returns (key, pid) of every advisory lock with a bigint key that is held in this database.
pub fn held_locks() -> Vec<(i64, i32)> {
    // SAFETY: the call returns a copy of the lock table in the current memory context, which outlives this function.
    let data = unsafe { &*pg_sys::GetLockStatusData() };
    // SAFETY: `locks` points to `nelements` initialised elements, also if there are none.
    let locks = unsafe { std::slice::from_raw_parts(data.locks, data.nelements as usize) };
    // SAFETY: the variable was set when the session began and does not change.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    let ours = locks.iter().filter(|lock| {
        let tag = &lock.locktag;
        lock.holdMask != 0
            && tag.locktag_type == pg_sys::LockTagType::LOCKTAG_ADVISORY as u8
            && tag.locktag_field4 == BIGINT_KEY
            && tag.locktag_field1 == database
    });
    let key = |tag: &pg_sys::LOCKTAG| (i64::from(tag.locktag_field2) << 32) | i64::from(tag.locktag_field3);
    ours.map(|lock| (key(&lock.locktag), lock.pid)).collect()
}

fn tag(key: i64) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: the variable was set when the session began and does not change.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: (key >> 32) as u32,
        locktag_field3: key as u32,
        locktag_field4: BIGINT_KEY,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// Locks a relation as an INSERT does, until the transaction ends. The relation may have been dropped.
/// Afterwards this process knows of every change that was committed before, also if it held the lock already.
pub fn lock_for_writing(relation: pg_sys::Oid) {
    // SAFETY: inside a transaction, which releases the lock; an oid of a dropped relation may be locked, too.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) };
    // LockRelationOid does this only if the lock was not held before.
    // SAFETY: inside a transaction, as the call needs one to rebuild what it invalidates.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Runs `work` whenever a transaction of this session is rolled back. `work` may not run statements.
pub fn at_abort(work: fn()) {
    watch_ends();
    AT_ABORT.set(Some(work));
}

fn watch_ends() {
    static WATCH: Once = Once::new();
    // SAFETY: the callback is a guarded C function that is never unloaded, and it is registered once.
    WATCH.call_once(|| unsafe { pg_sys::RegisterXactCallback(Some(transaction_ended), std::ptr::null_mut()) });
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_ended(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT => AT_COMMIT.take().into_iter().for_each(release_session_lock),
        pg_sys::XactEvent::XACT_EVENT_ABORT => {
            AT_COMMIT.take().into_iter().for_each(release_session_lock);
            if let Some(work) = AT_ABORT.get() {
                work();
            }
        }
        _ => {}
    }
}
