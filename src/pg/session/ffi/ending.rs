//! The end of a process: SIGTERM cancels the running statement, and work runs at exit.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::prelude::*;

// pgrx wraps this function into one that no signal handler may call.
unsafe extern "C-unwind" {
    fn StatementCancelHandler(signal: c_int);
}

/// Runs `work` when this process ends in any orderly way. Work that was registered last runs first. It may
/// not run statements: a FATAL error in the planner leaves TimescaleDB's planner hooks in the middle of
/// their work, and the next statement would crash the process.
pub fn at_exit(work: fn()) {
    EXIT.with_borrow_mut(|works| works.push(work));
    // SAFETY: the callback is a guarded C function that is never unloaded.
    unsafe { pg_sys::before_shmem_exit(Some(run_at_exit), pg_sys::Datum::from(0)) }
}

thread_local! {
    static EXIT: RefCell<Vec<fn()>> = const { RefCell::new(Vec::new()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn run_at_exit(_code: c_int, _arg: pg_sys::Datum) {
    if let Some(work) = EXIT.with_borrow_mut(Vec::pop) {
        // SAFETY: the process is ending, so no frame goes on with the transaction; PostgreSQL's own exit
        // callbacks call this, too.
        unsafe { pg_sys::AbortOutOfAnyTransaction() };
        work();
    }
}

/// Whether SIGTERM has come to a process that has called [`end_in_order`].
static ENDING: AtomicBool = AtomicBool::new(false);
/// Whether the process has noticed, and is doing its last work.
static NOTICED: AtomicBool = AtomicBool::new(false);

/// Makes SIGTERM end the running statement with an error, not the process in the middle of the statement.
/// The caller checks [`is_ending`] wherever it catches errors or waits, does its last work, and calls
/// [`end_if_asked`].
pub fn end_in_order() {
    // SAFETY: the handler calls nothing but PostgreSQL's own handler of SIGINT and changes an atomic flag.
    unsafe { pg_sys::pqsignal(libc::SIGTERM, Some(cancel_to_end)) };
    // SAFETY: the callback is a guarded C function that is never unloaded.
    unsafe { pg_sys::RegisterXactCallback(Some(cancel_again), std::ptr::null_mut()) };
}

/// Cancels again after a commit. A commit that waits for a standby answers a cancel by waiting no longer,
/// and the process goes on to the next commit, which would wait again.
#[pg_guard]
unsafe extern "C-unwind" fn cancel_again(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    if event == pg_sys::XactEvent::XACT_EVENT_COMMIT && ENDING.load(Ordering::SeqCst) && !NOTICED.load(Ordering::SeqCst)
    {
        // SAFETY: flags of this process, which a signal handler may set at any time; they are answered
        // after the commit.
        unsafe {
            pg_sys::QueryCancelPending = 1;
            pg_sys::InterruptPending = 1;
        }
    }
}

// Without a guard, because a signal handler may neither allocate nor unwind.
unsafe extern "C-unwind" fn cancel_to_end(signal: c_int) {
    ENDING.store(true, Ordering::SeqCst);
    if !NOTICED.load(Ordering::SeqCst) {
        // SAFETY: PostgreSQL's handler of SIGINT, called in a signal handler, as it is written for.
        unsafe { StatementCancelHandler(signal) };
    }
}

/// Returns whether SIGTERM asks this process to end. After `true` no later SIGTERM cancels a statement, so
/// that the process can do its last work.
pub fn is_ending() -> bool {
    let ending = ENDING.load(Ordering::SeqCst);
    if ending {
        NOTICED.store(true, Ordering::SeqCst);
        // SAFETY: a flag of this process. Its handler no longer sets it, as NOTICED is true.
        unsafe { pg_sys::QueryCancelPending = 0 };
    }
    ending
}

/// Ends the process with PostgreSQL's own message, if SIGTERM has asked for it. The last call of a worker.
pub fn end_if_asked() {
    if is_ending() {
        // SAFETY: flags of this process, which the check below answers.
        unsafe {
            pg_sys::ProcDiePending = 1;
            pg_sys::InterruptPending = 1;
        }
        pgrx::check_for_interrupts!();
    }
}
