//! A background worker's process: how it becomes one, its transactions, its waits.

use std::ffi::{CString, c_int};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::caught::{Failure, failure, restore_memory};
use super::ending::is_ending;
use super::session::set_for_session;
use crate::error::Result;

// pgrx wraps these functions into ones that no signal handler may call.
unsafe extern "C-unwind" {
    fn die(signal: c_int);
    fn StatementCancelHandler(signal: c_int);
    fn SignalHandlerForConfigReload(signal: c_int);
}

/// Which database a worker is to work in.
#[derive(Debug, Clone, Copy)]
pub enum Database {
    /// None: it sees the catalogs that all databases share, and keeps nobody from dropping any.
    None,
    /// By its oid, which survives a renaming.
    Oid(pg_sys::Oid),
}

/// Makes this process a worker in `database` with the rights of the cluster's owner. SIGTERM ends it wherever it answers
/// interrupts, as it ends a client's backend; pgrx's own handlers set a flag that no wait of PostgreSQL looks at.
pub fn become_worker(database: Database) {
    let handlers: [(c_int, unsafe extern "C-unwind" fn(c_int)); 3] =
        [(libc::SIGTERM, die), (libc::SIGINT, StatementCancelHandler), (libc::SIGHUP, SignalHandlerForConfigReload)];
    for (signal, handler) in handlers {
        // SAFETY: PostgreSQL's own handler for this signal.
        unsafe { pg_sys::pqsignal(signal, Some(handler)) };
    }
    // SAFETY: in a background worker's main function, before anything else.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() };
    match database {
        // SAFETY: as above; no user means the bootstrap superuser.
        Database::Oid(oid) => unsafe { pg_sys::BackgroundWorkerInitializeConnectionByOid(oid, pg_sys::InvalidOid, 0) },
        Database::None => {
            // SAFETY: as above.
            unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) }
            return;
        }
    }
    set_for_session(c"search_path", c"pg_catalog, pg_temp");
    set_for_session(c"jit", c"off");
}

/// Runs `work` in a transaction of its own: commits it, or rolls it back if `work` returns an error.
pub fn transaction<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: outside a transaction; begins one with a snapshot, as every statement of a client does.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
    let result = work();
    if result.is_ok() {
        // SAFETY: ends the transaction begun above; `work` leaves the snapshot on top that was pushed above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
    } else {
        // SAFETY: rolls back the transaction begun above and releases all that it holds, its snapshot included.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    // SAFETY: outside a transaction; sends this worker's counters, which autovacuum reads.
    unsafe { pg_sys::pgstat_report_stat(false) };
    result
}

/// Runs a part of a worker's loop outside any transaction. An error that `work` returns, or that PostgreSQL raises in it, is
/// returned; the transaction that was open then is rolled back, and the worker can go on.
pub fn survive<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<T, Failure> {
    // SAFETY: reads a global of this process.
    let memory = unsafe { pg_sys::CurrentMemoryContext };
    let abort = move |error: CaughtError| {
        // SAFETY: outside of any other error; ends the open transaction, if there is one, and releases all that it holds.
        unsafe { pg_sys::AbortCurrentTransaction() };
        restore_memory(memory);
        Err(failure(error))
    };
    PgTryBuilder::new(AssertUnwindSafe(|| work().map_err(Failure::Ours)))
        .catch_others(abort)
        .catch_rust_panic(abort)
        .execute()
}

/// What pg_stat_activity shows as this worker's query; nothing: it is idle.
pub fn show_activity(text: Option<&str>) {
    let state = match text {
        Some(_) => pg_sys::BackendState::STATE_RUNNING,
        None => pg_sys::BackendState::STATE_IDLE,
    };
    let text = text.and_then(|text| CString::new(text).ok()).unwrap_or_default();
    // SAFETY: copies a NUL-terminated string.
    unsafe { pg_sys::pgstat_report_activity(state, text.as_ptr()) };
}

/// Waits at most so long, or until the latch is set or the process is to end; answers interrupts and reads changed settings.
pub fn idle(limit: std::time::Duration) {
    let events = (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int;
    if is_ending() {
        return;
    }
    // SAFETY: MyLatch is this process's latch.
    unsafe { pg_sys::WaitLatch(pg_sys::MyLatch, events, limit.as_millis() as _, pg_sys::PG_WAIT_EXTENSION) };
    // SAFETY: as above.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    if !is_ending() {
        pgrx::check_for_interrupts!();
        reload_settings();
    }
}

/// Reads the configuration anew if the postmaster was told to. Outside a transaction.
pub fn reload_settings() {
    // SAFETY: a flag that only the signal's handler sets.
    if unsafe { pg_sys::ConfigReloadPending } != 0 {
        // SAFETY: as above.
        unsafe { pg_sys::ConfigReloadPending = 0 };
        // SAFETY: outside a transaction, as PostgreSQL's own workers do.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
    }
}
