//! Work at the ends of transactions and subtransactions, when no statement can run any more.

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::Once;

use pgrx::prelude::*;

/// How a subtransaction has ended.
#[derive(Debug, Clone, Copy)]
pub enum SubtransactionEnd {
    /// What it did belongs to its parent now.
    Committed {
        /// The subtransaction.
        id: u32,
        /// Its parent.
        parent: u32,
    },
    /// What it did is undone.
    Aborted {
        /// The subtransaction.
        id: u32,
    },
}

thread_local! {
    static AT_END: Cell<Option<fn(bool)>> = const { Cell::new(None) };
    static AT_SUBTRANSACTION_END: Cell<Option<fn(SubtransactionEnd)>> = const { Cell::new(None) };
}

/// Runs `work` whenever a transaction of this session has ended, with `true` if it has committed.
pub fn at_transaction_ends(work: fn(bool)) {
    static WATCH: Once = Once::new();
    // SAFETY: the callback is a guarded C function that is never unloaded, and it is registered once.
    WATCH.call_once(|| unsafe { pg_sys::RegisterXactCallback(Some(transaction_ended), std::ptr::null_mut()) });
    AT_END.set(Some(work));
}

/// Runs `work` whenever a subtransaction of this session has ended.
pub fn at_subtransaction_ends(work: fn(SubtransactionEnd)) {
    static WATCH: Once = Once::new();
    // SAFETY: the callback is a guarded C function that is never unloaded, and it is registered once.
    WATCH.call_once(|| unsafe { pg_sys::RegisterSubXactCallback(Some(subtransaction_ended), std::ptr::null_mut()) });
    AT_SUBTRANSACTION_END.set(Some(work));
}

/// Returns the id of the current subtransaction, which is unique within its transaction.
pub fn current_subtransaction() -> u32 {
    // SAFETY: inside a transaction, whose state the call reads.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_ended(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    let committed = match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT => true,
        // What a prepared transaction has left is not known after its commit.
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => false,
        _ => return,
    };
    if let Some(work) = AT_END.get() {
        work(committed);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn subtransaction_ended(
    event: pg_sys::SubXactEvent::Type,
    id: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    let end = match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => SubtransactionEnd::Committed { id, parent },
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => SubtransactionEnd::Aborted { id },
        _ => return,
    };
    if let Some(work) = AT_SUBTRANSACTION_END.get() {
        work(end);
    }
}
