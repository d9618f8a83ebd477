//! The library's shared memory, and the latches of other processes.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};

use super::state::State;

// SAFETY: numbers, bytes and enums without data outside of themselves; no pointer.
unsafe impl PGRXSharedMemory for State {}

// SAFETY: no other lock of this library's has the name.
static STATE: PgLwLock<State> = unsafe { PgLwLock::new(c"btc_ingest") };
/// Whether the postmaster has allocated the memory. Every process inherits the answer.
static THERE: AtomicBool = AtomicBool::new(false);

/// Asks the postmaster for the memory, while it loads shared_preload_libraries.
#[allow(unexpected_cfgs)]
pub fn request_shared_memory() {
    pg_shmem_init!(STATE = State::EMPTY);
    THERE.store(true, Ordering::Relaxed);
}

/// Reads the shared state. Returns `None` if the library was not preloaded.
pub fn shared<T>(work: impl FnOnce(&State) -> T) -> Option<T> {
    THERE.load(Ordering::Relaxed).then(|| work(&STATE.share()))
}

/// Changes the shared state. Returns `None` if the library was not preloaded. `work` runs while the lock is held, so it may neither wait, nor fail, nor take another lock.
pub fn shared_mut<T>(work: impl FnOnce(&mut State) -> T) -> Option<T> {
    THERE.load(Ordering::Relaxed).then(|| work(&mut STATE.exclusive()))
}

/// Returns whether a server process with this pid runs.
pub fn is_alive(pid: i32) -> bool {
    // SAFETY: looks the pid up in shared memory.
    !unsafe { pg_sys::BackendPidGetProc(pid) }.is_null()
}

/// Wakes a server process from its wait, if it runs.
pub fn set_latch(pid: i32) {
    // SAFETY: looks the pid up in shared memory.
    let process = unsafe { pg_sys::BackendPidGetProc(pid) };
    if !process.is_null() {
        // SAFETY: a latch in shared memory. Another process may own it by now; a needless wake-up does no harm.
        unsafe { pg_sys::SetLatch(&raw mut (*process).procLatch) };
    }
}
