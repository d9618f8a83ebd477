//! Session-level advisory locks that must go with a transaction's end, where no statement can run any more.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::sync::Once;

use pgrx::prelude::*;

/// Of `pg_advisory_lock(bigint)`.
const BIGINT_KEY: u16 = 1;

// common/hashfn.h, of which pgrx knows nothing.
unsafe extern "C-unwind" {
    fn hash_bytes_extended(bytes: *const u8, len: c_int, seed: u64) -> u64;
}

thread_local! {
    static AT_COMMIT: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
    static AT_ABORT: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// The key of an advisory lock, as `hashtextextended(class || name, 0)` gives it.
pub fn lock_key(class: &str, name: &str) -> i64 {
    let text = format!("{class}{name}");
    // SAFETY: reads that many bytes.
    unsafe { hash_bytes_extended(text.as_ptr(), text.len() as c_int, 0) as i64 }
}

/// `pg_advisory_xact_lock(key)`.
pub fn lock_in_transaction(key: i64) {
    // SAFETY: PostgreSQL's function of one bigint, which returns nothing.
    unsafe { pgrx::direct_function_call::<()>(pg_sys::pg_advisory_xact_lock_int8, &[key.into_datum()]) };
}

/// `pg_try_advisory_xact_lock(key)`.
pub fn try_lock_in_transaction(key: i64) -> bool {
    // SAFETY: PostgreSQL's function of one bigint, which returns a boolean.
    let free =
        unsafe { pgrx::direct_function_call::<bool>(pg_sys::pg_try_advisory_xact_lock_int8, &[key.into_datum()]) };
    free == Some(true)
}

/// Locks a relation as an INSERT does, until the transaction ends; it may be gone. Afterwards this process knows of every change
/// that was committed before, even if the lock was its own already.
pub fn lock_for_writing(relation: pg_sys::Oid) {
    // SAFETY: any oid may be locked; inside a transaction.
    unsafe {
        pg_sys::LockRelationOid(relation, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        pg_sys::AcceptInvalidationMessages();
    }
}

/// Has `work` run whenever a transaction of this session is rolled back. It may not run statements.
pub fn at_abort(work: fn()) {
    watch_ends();
    AT_ABORT.set(Some(work));
}

/// Releases the lock of `pg_advisory_lock(key)` when the transaction has committed, and others can see what it did.
pub fn release_session_lock_at_commit(key: i64) {
    watch_ends();
    AT_COMMIT.with_borrow_mut(|keys| keys.push(key));
}

/// Releases the lock of `pg_advisory_lock(key)`, if this session has it. Outside a transaction as well.
pub fn release_session_lock(key: i64) {
    let tag = pg_sys::LOCKTAG {
        // SAFETY: set when the session began.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: (key >> 32) as u32,
        locktag_field3: key as u32,
        locktag_field4: BIGINT_KEY,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    };
    // SAFETY: a complete tag; a lock that is not held is a warning.
    unsafe { pg_sys::LockRelease(&tag, pg_sys::ExclusiveLock as pg_sys::LOCKMODE, true) };
}

fn watch_ends() {
    static WATCH: Once = Once::new();
    // SAFETY: the callback is a guarded C function that lives as long as the process.
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
