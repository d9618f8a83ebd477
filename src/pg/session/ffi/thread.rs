//! What runs beside this backend and reads from S3, and the wait for its events.

use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use crate::error::Result;
use crate::load::background::{Background, Events, Keep, Stopper};
use crate::load::io_thread::KeptThread;
use crate::s3::reads::Io;

/// The work that runs, for the exit callback: a FATAL error does not unwind, so no destructor stops it
/// then. There is more than one thread where a prefetcher reads several objects, or where a trigger of the tables'
/// owner loads within a load.
static RUNNING: Mutex<Vec<Stopper>> = Mutex::new(Vec::new());
/// The thread that waits for the next load of this session.
static KEPT: KeptThread = KeptThread::new();
static REGISTER: Once = Once::new();
/// Bytes from which an allocation is returned to the system when it is freed: the value with which glibc
/// itself starts.
const MAPPED_FROM: c_int = 128 << 10;
/// So many free bytes may stay in the heap when the work of a thread has ended.
const FREE_AT_MOST: usize = 8 << 20;

/// [`Background`] work on a thread that also ends when the backend exits.
pub struct Thread<E> {
    background: Background<E>,
    stopper: Stopper,
    /// Dropped last, when the work has ended and freed its memory.
    _trimmed: TrimmedHeap,
}

impl<E: Send + 'static> Thread<E> {
    /// Starts `work` in a thread with every signal blocked, as PostgreSQL's handlers must run on the
    /// backend's own thread only.
    pub fn start(depth: usize, work: impl FnOnce(&Io, &Events<E>) -> Result<()> + Send + 'static) -> Result<Self> {
        Self::start_or_continue(None, depth, work)
    }

    /// Does the same by the thread that this session has kept, if it has one, and keeps it again for
    /// `idle_timeout` if the work ends well.
    pub fn start_kept(
        idle_timeout: Duration,
        depth: usize,
        work: impl FnOnce(&Io, &Events<E>) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        Self::start_or_continue(Some(Keep { thread: &KEPT, idle_timeout }), depth, work)
    }

    fn start_or_continue(
        keep: Option<Keep>,
        depth: usize,
        work: impl FnOnce(&Io, &Events<E>) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        REGISTER.call_once(|| {
            // glibc raises the size from which it maps memory separately whenever a large piece is freed.
            // Freed windows and batches, half a memory limit of them, would then stay in the heap. A fixed
            // size returns them.
            // SAFETY: glibc allows this at any time, also after allocations; it changes one number of the allocator.
            unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM) };
            // SAFETY: the callback is a guarded C function that is never unloaded, and it is registered once.
            unsafe { pg_sys::before_shmem_exit(Some(stop_at_exit), pg_sys::Datum::from(0)) }
        });
        let background = with_signals_blocked(|| Background::start(keep, depth, work))?;
        let stopper = background.stopper();
        running().push(stopper.clone());
        Ok(Thread { background, stopper, _trimmed: TrimmedHeap })
    }

    /// Waits for the next event, and answers cancel, timeout and shutdown while it waits. Returns `None` if
    /// the work has ended.
    pub fn next(&mut self) -> Result<Option<E>> {
        loop {
            if let Some(event) = self.background.poll() {
                return event;
            }
            wait_readable(self.background.wake_fd(), None);
        }
    }

    /// Waits for the next event, but at most until `end`. Returns `None` if no event has come by then.
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

/// Returns free memory of the heap to the operating system on drop. Answers of S3 come in pieces that are too small to
/// be mapped separately.
struct TrimmedHeap;

impl Drop for TrimmedHeap {
    fn drop(&mut self) {
        // SAFETY: the call only counts, under the locks of the allocator.
        let free = unsafe { libc::mallinfo2() }.fordblks;
        if free > FREE_AT_MOST {
            // SAFETY: glibc allows this at any time; it touches free memory only.
            unsafe { libc::malloc_trim(0) };
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn stop_at_exit(_code: c_int, _arg: pg_sys::Datum) {
    for stopper in running().drain(..) {
        stopper.stop();
    }
    if let Some(idle) = KEPT.take() {
        idle.end();
    }
}

fn running() -> MutexGuard<'static, Vec<Stopper>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` while every signal is blocked on this thread. Threads that `work` starts inherit the mask.
fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    let _blocked = BlockedSignals::block();
    work()
}

/// The signal mask that this thread had before. It is restored on drop, also when a panic unwinds.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn block() -> Self {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the pointer is to a whole set, which the call initialises.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: `all` is initialised above, and `before` has room for the set that the call writes.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: the call above has written it; with these arguments it cannot fail.
        BlockedSignals(unsafe { before.assume_init() })
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the mask is initialised, and this same thread had it before: the value never leaves its thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// Waits until `fd` may be readable or `limit` has passed. Raises PostgreSQL's own error on an interrupt.
fn wait_readable(fd: RawFd, limit: Option<Duration>) {
    let mut events = (pg_sys::WL_LATCH_SET | pg_sys::WL_SOCKET_READABLE | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int;
    let mut ms = -1;
    if let Some(limit) = limit {
        events |= pg_sys::WL_TIMEOUT as c_int;
        // Rounded up, or the caller would spin during the last millisecond.
        ms = limit.as_millis() as c_long + 1;
    }
    // SAFETY: MyLatch is this backend's latch, and the caller's `Background` keeps the descriptor open
    // during the wait.
    let happened = unsafe { pg_sys::WaitLatchOrSocket(pg_sys::MyLatch, events, fd, ms, pg_sys::PG_WAIT_EXTENSION) };
    if happened & pg_sys::WL_LATCH_SET as c_int != 0 {
        // SAFETY: MyLatch is this backend's latch, which only its owner may reset.
        unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    }
    pgrx::check_for_interrupts!();
}
