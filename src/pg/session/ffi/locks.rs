//! The extension's own heavyweight locks, relation locks, and work at the end of a transaction, when no statement can
//! run any more.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::sync::Once;

use pgrx::prelude::*;

/// `field4` of the lock tag of the kind 0; the other kinds follow. SQL takes advisory locks with 1 and 2 only
/// (`pg_advisory_lock`), so no role reaches ours. `pg_locks` shows the number in the column objsubid,
/// a smallint.
const FIRST_KIND: u16 = 21_040;
/// As many numbers are ours.
const KINDS: u16 = 32;

// common/hashfn.h; pgrx has no binding for it.
unsafe extern "C-unwind" {
    fn hash_bytes_extended(bytes: *const u8, len: c_int, seed: u64) -> u64;
}

/// One lock of the extension in this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockTag {
    /// What it protects, from 0.
    pub kind: u8,
    /// Which one of its kind.
    pub key: i64,
}

thread_local! {
    static AT_COMMIT: RefCell<Vec<LockTag>> = const { RefCell::new(Vec::new()) };
    static AT_ABORT: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// How long a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockLevel {
    /// Until it is released or the process ends.
    Session,
    /// Until the transaction ends.
    Transaction,
}

/// Returns the key of a lock that is named by a text: `hashtextextended(name, 0)`.
pub fn lock_key(name: &str) -> i64 {
    // SAFETY: pointer and length are those of a live text, which is only read.
    unsafe { hash_bytes_extended(name.as_ptr(), name.len() as c_int, 0) as i64 }
}

/// Takes a lock. Returns `false` if another session holds it and `wait` is `false`.
pub fn acquire_lock(tag: LockTag, level: LockLevel, wait: bool) -> bool {
    // SAFETY: every field of the tag is set, and the caller is inside a transaction. An interrupt or
    // `lock_timeout` ends a wait by an error, and no value here needs dropping.
    let result = unsafe { pg_sys::LockAcquire(&tag.of_postgres(), MODE, level == LockLevel::Session, !wait) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Returns whether this session holds a lock. Callable outside a transaction.
pub fn holds_lock(tag: LockTag) -> bool {
    // SAFETY: every field of the tag is set; the call looks into a table of this process.
    unsafe { pg_sys::LockHeldByMe(&tag.of_postgres(), MODE) }
}

/// Releases a session-level lock, if this session holds it. Callable outside a transaction. A statement of the session
/// may have released it: `pg_advisory_unlock_all()` and DISCARD ALL release all session-level locks of the lock method
/// of advisory locks, also those that SQL cannot take.
pub fn release_session_lock(tag: LockTag) {
    if holds_lock(tag) {
        // SAFETY: every field of the tag is set, and the session holds the lock.
        unsafe { pg_sys::LockRelease(&tag.of_postgres(), MODE, true) };
    }
}

/// Releases a lock that the caller has taken until the end of the transaction, in the same subtransaction.
pub fn release_transaction_lock(tag: LockTag) {
    // SAFETY: every field of the tag is set. PostgreSQL reports a lock that is not held by a WARNING.
    unsafe { pg_sys::LockRelease(&tag.of_postgres(), MODE, false) };
}

/// Releases a session-level lock after the transaction's commit, when other sessions see what it did, or at its
/// rollback.
pub fn release_session_lock_at_commit(tag: LockTag) {
    watch_ends();
    AT_COMMIT.with_borrow_mut(|tags| tags.push(tag));
}

/// Releases all session-level locks of this session that are advisory locks or the extension's own.
pub fn release_all_session_locks() {
    // SAFETY: `pg_advisory_unlock_all()` makes the same call, which needs no transaction.
    unsafe { pg_sys::LockReleaseSession(pg_sys::USER_LOCKMETHOD as pg_sys::LOCKMETHODID) };
}

/// Returns each lock of the extension that is held in this database, with the pid of its holder.
pub fn held_locks() -> Vec<(LockTag, i32)> {
    // SAFETY: the call returns a copy of the lock table in the current memory context, which outlives this function.
    let data = unsafe { &*pg_sys::GetLockStatusData() };
    // SAFETY: `locks` points to `nelements` initialised elements, also if there are none.
    let locks = unsafe { std::slice::from_raw_parts(data.locks, data.nelements as usize) };
    let held = locks.iter().filter(|lock| lock.holdMask != 0);
    held.filter_map(|lock| Some((LockTag::of(&lock.locktag)?, lock.pid))).collect()
}

/// Returns how many locks of any kind this session holds.
pub fn count_own_locks() -> usize {
    // SAFETY: the call returns a copy of the lock table in the current memory context.
    let data = unsafe { pg_sys::GetLockStatusData() };
    // SAFETY: `data` points to the copy, and `locks` to its `nelements` initialised elements, also if there are none.
    let locks = unsafe { std::slice::from_raw_parts((*data).locks, (*data).nelements as usize) };
    let pid = super::my_pid();
    let count = locks.iter().filter(|lock| lock.pid == pid && lock.holdMask != 0).count();
    // SAFETY: both were allocated by the call above, and nothing refers to them any more.
    unsafe { pg_sys::pfree((*data).locks.cast()) };
    // SAFETY: as above. A long transaction counts often, and its memory context may live as long.
    unsafe { pg_sys::pfree(data.cast()) };
    count
}

/// The mode in which all locks of the extension are taken.
const MODE: pg_sys::LOCKMODE = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;

impl LockTag {
    /// The lock method is that of advisory locks: a session-level lock of the other method would end with any
    /// rollback.
    fn of_postgres(self) -> pg_sys::LOCKTAG {
        pg_sys::LOCKTAG {
            locktag_field1: super::current_database().to_u32(),
            locktag_field2: (self.key >> 32) as u32,
            locktag_field3: self.key as u32,
            locktag_field4: FIRST_KIND + u16::from(self.kind),
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        }
    }

    /// Returns `None` if it is no lock of the extension in this database.
    fn of(tag: &pg_sys::LOCKTAG) -> Option<Self> {
        let kind = tag.locktag_field4.checked_sub(FIRST_KIND).filter(|kind| *kind < KINDS)?;
        let is_here = tag.locktag_type == pg_sys::LockTagType::LOCKTAG_ADVISORY as u8
            && tag.locktag_field1 == super::current_database().to_u32();
        let key = (i64::from(tag.locktag_field2) << 32) | i64::from(tag.locktag_field3);
        is_here.then_some(LockTag { kind: kind as u8, key })
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
