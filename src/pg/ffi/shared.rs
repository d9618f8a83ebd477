//! The library's piece of shared memory, and what reaches other processes through it: their latches.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};

use crate::pg::shared::State;

// SAFETY: plain numbers and bytes, no pointer.
unsafe impl PGRXSharedMemory for State {}

// SAFETY: no other lock of this library's has the name.
static STATE: PgLwLock<State> = unsafe { PgLwLock::new(c"btc_ingest") };
/// Whether the postmaster has made the memory: every process inherits the answer.
static THERE: AtomicBool = AtomicBool::new(false);

/// Asks the postmaster for the memory; while shared_preload_libraries is being worked off.
#[allow(unexpected_cfgs)]
pub fn request_shared_memory() {
    pg_shmem_init!(STATE = State::EMPTY);
    THERE.store(true, Ordering::Relaxed);
}

/// Reads the shared state; `None`: the library was not preloaded.
pub fn shared<T>(work: impl FnOnce(&State) -> T) -> Option<T> {
    THERE.load(Ordering::Relaxed).then(|| work(&STATE.share()))
}

/// Changes the shared state; `None`: the library was not preloaded. Nothing in `work` may wait or fail.
pub fn shared_mut<T>(work: impl FnOnce(&mut State) -> T) -> Option<T> {
    THERE.load(Ordering::Relaxed).then(|| work(&mut STATE.exclusive()))
}

/// Whether a server process with this pid is there.
pub fn is_alive(pid: i32) -> bool {
    // SAFETY: looks the pid up in shared memory.
    !unsafe { pg_sys::BackendPidGetProc(pid) }.is_null()
}

/// Wakes a server process from its wait, if it is there.
pub fn set_latch(pid: i32) {
    // SAFETY: looks the pid up in shared memory.
    let process = unsafe { pg_sys::BackendPidGetProc(pid) };
    if !process.is_null() {
        // SAFETY: a latch in shared memory, whoever owns it by now; waking somebody for nothing does no harm.
        unsafe { pg_sys::SetLatch(&raw mut (*process).procLatch) };
    }
}

/// This process.
pub fn my_pid() -> i32 {
    // SAFETY: set when the process began.
    unsafe { pg_sys::MyProcPid }
}
