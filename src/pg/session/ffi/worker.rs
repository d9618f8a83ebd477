//! The process of a background worker: its start, its transactions and its waits.

use std::ffi::{CString, c_int};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::caught::{Failure, failure, restore_memory};
use super::ending::is_ending;
use super::fixed::fix_settings_of_worker;
use super::sqlstates::{callbacks, restore_callbacks, with_sqlstates};
use crate::error::Result;

// pgrx's declarations of these functions have a guard, which a signal handler may not run.
unsafe extern "C-unwind" {
    fn die(signal: c_int);
    fn StatementCancelHandler(signal: c_int);
    fn SignalHandlerForConfigReload(signal: c_int);
}

/// The database to which a worker connects.
#[derive(Debug, Clone, Copy)]
pub enum Database {
    /// No database: the worker sees the catalogs that all databases share, and no DROP DATABASE waits for it.
    None,
    /// A database by its oid, which a renaming does not change.
    Oid(pg_sys::Oid),
    /// A database and the role of the session, which must be allowed to log in.
    AsRole(pg_sys::Oid, pg_sys::Oid),
}

/// Connects this process to `database`, as the bootstrap superuser unless a role is named. SIGTERM ends the
/// process wherever it answers interrupts, as it ends a client's backend; pgrx's own handlers set a flag that
/// no wait of PostgreSQL checks.
pub fn become_worker(database: Database) {
    let handlers: [(c_int, unsafe extern "C-unwind" fn(c_int)); 3] =
        [(libc::SIGTERM, die), (libc::SIGINT, StatementCancelHandler), (libc::SIGHUP, SignalHandlerForConfigReload)];
    for (signal, handler) in handlers {
        // SAFETY: the handler is the one that PostgreSQL's own backends have for this signal.
        unsafe { pg_sys::pqsignal(signal, Some(handler)) };
    }
    // SAFETY: the handlers are set, and a background worker's main function calls this before anything else.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() };
    match database {
        // SAFETY: a worker's main function connects once, before its first transaction. InvalidOid as the
        // user stands for the bootstrap superuser.
        Database::Oid(oid) => unsafe { pg_sys::BackgroundWorkerInitializeConnectionByOid(oid, pg_sys::InvalidOid, 0) },
        // SAFETY: as above, with a user of the caller's choice.
        Database::AsRole(oid, role) => unsafe { pg_sys::BackgroundWorkerInitializeConnectionByOid(oid, role, 0) },
        Database::None => {
            // SAFETY: a worker's main function connects once. Null stands for no database and the bootstrap
            // superuser.
            unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) }
            return;
        }
    }
    fix_settings_of_worker();
}

/// Runs `work` in a transaction of its own. Commits it, or rolls it back if `work` returns an error. The
/// caller is outside a transaction.
pub fn transaction<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: the caller is outside a transaction, so one may begin, with a snapshot as a client's
    // statement has it.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
    let result = work();
    if result.is_ok() {
        // SAFETY: the transaction begun above is open, and `work` leaves the snapshot on top that was
        // pushed above.
        unsafe { pg_sys::PopActiveSnapshot() };
        // Deferred triggers fire here.
        // SAFETY: as above.
        with_sqlstates(|| unsafe { pg_sys::CommitTransactionCommand() });
    } else {
        // SAFETY: the transaction begun above is open; the call releases all that it holds, its snapshot included.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    // Autovacuum needs the counters of this worker.
    // SAFETY: the transaction has ended, as the call requires.
    unsafe { pg_sys::pgstat_report_stat(false) };
    result
}

/// Runs a part of a worker's loop, outside any transaction. Returns an error that `work` returns or that
/// PostgreSQL raises in it. The transaction that was open then is rolled back, and the worker can go on.
pub fn survive<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<T, Failure> {
    // SAFETY: a variable that only this thread writes.
    let memory = unsafe { pg_sys::CurrentMemoryContext };
    let callbacks = callbacks();
    let abort = move |error: CaughtError| {
        restore_callbacks(callbacks);
        // SAFETY: pgrx has copied the error and left PostgreSQL's error handling. The call ends the open
        // transaction, if there is one, and no frame of that transaction is left.
        unsafe { pg_sys::AbortCurrentTransaction() };
        restore_memory(memory);
        Err(failure(error))
    };
    PgTryBuilder::new(AssertUnwindSafe(|| work().map_err(Failure::Ours)))
        .catch_others(abort)
        .catch_rust_panic(abort)
        .execute()
}

/// Shows `text` in pg_stat_activity as this worker's query, or the worker as idle if there is none.
pub fn show_activity(text: Option<&str>) {
    let state = match text {
        Some(_) => pg_sys::BackendState::STATE_RUNNING,
        None => pg_sys::BackendState::STATE_IDLE,
    };
    let text = text.and_then(|text| CString::new(text).ok()).unwrap_or_default();
    // SAFETY: the text is NUL-terminated and outlives the call, which copies it.
    unsafe { pg_sys::pgstat_report_activity(state, text.as_ptr()) };
}

/// Waits until `limit` has passed, the latch is set, or SIGTERM asks the process to end. Answers interrupts
/// and reads changed settings.
pub fn idle(limit: std::time::Duration) {
    let events = (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int;
    if is_ending() {
        return;
    }
    // SAFETY: MyLatch is this process's own latch, as a wait requires.
    unsafe { pg_sys::WaitLatch(pg_sys::MyLatch, events, limit.as_millis() as _, pg_sys::PG_WAIT_EXTENSION) };
    // SAFETY: MyLatch is this process's own latch, which only its owner may reset.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    if !is_ending() {
        pgrx::check_for_interrupts!();
        reload_settings();
    }
}

/// Reads the configuration again if it was reloaded. The caller is outside a transaction.
pub fn reload_settings() {
    // SAFETY: a flag of this process, which the signal handler sets in one write.
    if unsafe { pg_sys::ConfigReloadPending } != 0 {
        // SAFETY: a flag of this process. A signal that arrives after this line sets it again, and is not lost.
        unsafe { pg_sys::ConfigReloadPending = 0 };
        // SAFETY: outside a transaction and outside a signal handler, as in the main loops of PostgreSQL's
        // own workers.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
    }
}
