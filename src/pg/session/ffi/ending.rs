//! The end of a process: SIGTERM as a cancelled statement, and work that runs at exit.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::prelude::*;

// pgrx wraps this function into one that no signal handler may call.
unsafe extern "C-unwind" {
    fn StatementCancelHandler(signal: c_int);
}

/// Has `work` run when this process ends in whatever orderly way; the last one first. It may not run statements: FATAL errors
/// leave other extensions' hooks as they were, and the next statement that TimescaleDB plans after one in a planner crashes.
pub fn at_exit(work: fn()) {
    EXIT.with_borrow_mut(|works| works.push(work));
    // SAFETY: the callback is a guarded C function that lives as long as the process.
    unsafe { pg_sys::before_shmem_exit(Some(run_at_exit), pg_sys::Datum::from(0)) }
}

thread_local! {
    static EXIT: RefCell<Vec<fn()>> = const { RefCell::new(Vec::new()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn run_at_exit(_code: c_int, _arg: pg_sys::Datum) {
    if let Some(work) = EXIT.with_borrow_mut(Vec::pop) {
        // SAFETY: no transaction survives the process; PostgreSQL's own exit callbacks do the same.
        unsafe { pg_sys::AbortOutOfAnyTransaction() };
        work();
    }
}

/// SIGTERM has come to a process that called [`end_in_order`].
static ENDING: AtomicBool = AtomicBool::new(false);
/// It knows, and is at its last work.
static NOTICED: AtomicBool = AtomicBool::new(false);

/// From now on SIGTERM ends the running statement with an error, not the process in the middle of it: whoever calls this looks
/// at [`is_ending`] wherever it catches errors or waits, does its last work, and calls [`end_if_asked`].
pub fn end_in_order() {
    // SAFETY: a handler that does what PostgreSQL's own does, and sets a flag.
    unsafe { pg_sys::pqsignal(libc::SIGTERM, Some(cancel_to_end)) };
    // SAFETY: the callback is a guarded C function that lives as long as the process.
    unsafe { pg_sys::RegisterXactCallback(Some(cancel_again), std::ptr::null_mut()) };
}

/// A commit that waits for a standby answers a cancel by not waiting any more, and goes on: the next one would wait again.
#[pg_guard]
unsafe extern "C-unwind" fn cancel_again(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    if event == pg_sys::XactEvent::XACT_EVENT_COMMIT && ENDING.load(Ordering::SeqCst) && !NOTICED.load(Ordering::SeqCst)
    {
        // SAFETY: flags of this process, as the signal's handler sets them; they are answered after the commit.
        unsafe {
            pg_sys::QueryCancelPending = 1;
            pg_sys::InterruptPending = 1;
        }
    }
}

// Not guarded: a signal's handler may neither allocate nor unwind.
unsafe extern "C-unwind" fn cancel_to_end(signal: c_int) {
    ENDING.store(true, Ordering::SeqCst);
    if !NOTICED.load(Ordering::SeqCst) {
        // SAFETY: PostgreSQL's own handler of SIGINT.
        unsafe { StatementCancelHandler(signal) };
    }
}

/// Whether this process is to end. What it does from now on is not interrupted.
pub fn is_ending() -> bool {
    let ending = ENDING.load(Ordering::SeqCst);
    if ending {
        NOTICED.store(true, Ordering::SeqCst);
        // SAFETY: a flag of this process, whose handler sets it no more.
        unsafe { pg_sys::QueryCancelPending = 0 };
    }
    ending
}

/// Ends the process as SIGTERM asked for, with PostgreSQL's own words; the last call of a worker.
pub fn end_if_asked() {
    if is_ending() {
        // SAFETY: flags of this process, which the next line answers.
        unsafe {
            pg_sys::ProcDiePending = 1;
            pg_sys::InterruptPending = 1;
        }
        pgrx::check_for_interrupts!();
    }
}
