//! The library's shared memory, and the latches of other processes.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};

use super::state::State;

// SAFETY: the type holds numbers, bytes and enums, and no pointer, so every process may read what another
// one has written.
unsafe impl PGRXSharedMemory for State {}

// SAFETY: this library has no other lock, so the name is unique.
static STATE: PgLwLock<State> = unsafe { PgLwLock::new(c"btc_ingest") };
/// Whether the postmaster has allocated the memory. Every process inherits the answer.
static THERE: AtomicBool = AtomicBool::new(false);

/// Asks the postmaster for the memory, while it loads shared_preload_libraries.
#[allow(unexpected_cfgs)]
pub fn request_shared_memory() {
    pg_shmem_init!(STATE = State::EMPTY);
    THERE.store(true, Ordering::Relaxed);
}

/// Returns whether the library was preloaded, so that workers may run.
pub fn has_shared_memory() -> bool {
    THERE.load(Ordering::Relaxed)
}

/// Reads the shared state. Returns `None` if the library was not preloaded. `work` runs while the lock is
/// held, so it may neither wait, nor fail, nor take another lock.
pub fn shared<T>(work: impl FnOnce(&State) -> T) -> Option<T> {
    THERE.load(Ordering::Relaxed).then(|| work(&STATE.share()))
}

/// Changes the shared state. Returns `None` if the library was not preloaded. `work` runs while the lock is
/// held, so it may neither wait, nor fail, nor take another lock.
pub fn shared_mut<T>(work: impl FnOnce(&mut State) -> T) -> Option<T> {
    THERE.load(Ordering::Relaxed).then(|| work(&mut STATE.exclusive()))
}

/// Returns whether a server process with this pid runs.
pub fn is_alive(pid: i32) -> bool {
    // SAFETY: this process is attached to shared memory; the pid may be any number, and the pointer is not followed.
    !unsafe { pg_sys::BackendPidGetProc(pid) }.is_null()
}

/// Wakes a server process from its wait, if it runs.
pub fn set_latch(pid: i32) {
    // SAFETY: this process is attached to shared memory, and the pid may be any number.
    let process = unsafe { pg_sys::BackendPidGetProc(pid) };
    if !process.is_null() {
        // SAFETY: entries of the table of processes stay in shared memory for ever. Another process may own
        // this one by now, and a needless wake-up does no harm.
        unsafe { pg_sys::SetLatch(&raw mut (*process).procLatch) };
    }
}
