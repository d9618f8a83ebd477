//! Session-level advisory locks that must go with a transaction's end, where no statement can run any more.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::Once;

use pgrx::prelude::*;

/// Of `pg_advisory_lock(bigint)`.
const BIGINT_KEY: u16 = 1;

thread_local! {
    static AT_COMMIT: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
    static AT_ABORT: Cell<Option<fn()>> = const { Cell::new(None) };
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

/// Releases the lock of `pg_advisory_lock(key)`, if this session has it.
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
