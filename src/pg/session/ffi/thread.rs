//! The reading threads of this backend, and the wait for their events.

use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use crate::error::Result;
use crate::load::background::{Background, Events, Stopper};
use crate::s3::reads::Io;

/// The threads that run, for the exit callback: a FATAL error does not unwind, so no destructor would stop them. More than
/// one where an owner's trigger loads within a load.
static RUNNING: Mutex<Vec<Stopper>> = Mutex::new(Vec::new());
static REGISTER: Once = Once::new();
/// Bytes from which an allocation is given back to the system when it is freed: the value that glibc itself starts with.
const MAPPED_FROM: c_int = 128 << 10;

/// A [`Background`] thread that also ends when the backend exits.
pub struct Thread<E> {
    background: Background<E>,
    stopper: Stopper,
}

impl<E: Send + 'static> Thread<E> {
    /// Starts `work` with every signal blocked, as PostgreSQL's handlers must run on its own thread only.
    pub fn start(depth: usize, work: impl FnOnce(&Io, &Events<E>) -> Result<()> + Send + 'static) -> Result<Self> {
        REGISTER.call_once(|| {
            // glibc raises the size from which it maps memory separately whenever a large piece is freed; after that
            // freed windows and batches stay in the heap, half a memory limit of them. A fixed size gives them back.
            // SAFETY: sets one parameter of the allocator.
            unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM) };
            // SAFETY: the callback is a guarded C function that lives as long as the process.
            unsafe { pg_sys::before_shmem_exit(Some(stop_at_exit), pg_sys::Datum::from(0)) }
        });
        let background = with_signals_blocked(|| Background::start(depth, work))?;
        let stopper = background.stopper();
        running().push(stopper.clone());
        Ok(Thread { background, stopper })
    }

    /// Waits for the next event; answers cancel, timeout and shutdown meanwhile. `None`: the thread has ended.
    pub fn next(&mut self) -> Result<Option<E>> {
        loop {
            if let Some(event) = self.background.poll() {
                return event;
            }
            wait_readable(self.background.wake_fd(), None);
        }
    }

    /// The same, but waits at most until then; `None`: nothing has come.
    pub fn next_until(&mut self, end: Instant) -> Option<Result<Option<E>>> {
        loop {
            if let Some(event) = self.background.poll() {
                return Some(event);
            }
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            wait_readable(self.background.wake_fd(), Some(left));
        }
    }
}

impl<E> Drop for Thread<E> {
    fn drop(&mut self) {
        running().retain(|stopper| !stopper.is(&self.stopper));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn stop_at_exit(_code: c_int, _arg: pg_sys::Datum) {
    for stopper in running().drain(..) {
        stopper.stop();
    }
}

fn running() -> MutexGuard<'static, Vec<Stopper>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` while every signal is blocked on this thread; threads that it starts inherit the mask.
fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    let _blocked = BlockedSignals::block();
    work()
}

/// The mask that this thread had before. It is restored on drop, also when a panic unwinds.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn block() -> Self {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises the set it is given.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: `all` was initialised above, `before` is written by the call.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: written by the call above.
        BlockedSignals(unsafe { before.assume_init() })
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: a mask that this same thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// Returns when `fd` may be readable, or so much time has passed; raises PostgreSQL's own error on an interrupt.
fn wait_readable(fd: RawFd, limit: Option<Duration>) {
    let mut events = (pg_sys::WL_LATCH_SET | pg_sys::WL_SOCKET_READABLE | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int;
    let mut ms = -1;
    if let Some(limit) = limit {
        events |= pg_sys::WL_TIMEOUT as c_int;
        // Rounded up, or the last millisecond would be spent turning.
        ms = limit.as_millis() as c_long + 1;
    }
    // SAFETY: MyLatch is this backend's latch; the descriptor belongs to a live `Background`.
    let happened = unsafe { pg_sys::WaitLatchOrSocket(pg_sys::MyLatch, events, fd, ms, pg_sys::PG_WAIT_EXTENSION) };
    if happened & pg_sys::WL_LATCH_SET as c_int != 0 {
        // SAFETY: as above.
        unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    }
    pgrx::check_for_interrupts!();
}
