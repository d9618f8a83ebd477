//! The thread beside the backend's own thread, with its runtime for I/O. When its work has ended well, it waits for
//! more, so that the next load of a session finds the thread and its connections to S3.

use std::io::Result;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;

/// How long the end of a thread waits for a name look-up, which cannot be interrupted. A look-up that takes longer
/// outlives the thread; it blocks all signals and uses nothing of PostgreSQL.
const SHUTDOWN: Duration = Duration::from_millis(50);

/// Work for the thread.
pub struct Task {
    /// Returns whether it ended well. If not, the thread ends, and all that the work has begun ends with it.
    pub work: Box<dyn FnOnce(&Handle) -> bool + Send>,
    /// How long the thread then waits for another task. It does not wait if this is zero.
    pub idle_timeout: Duration,
}

enum State {
    /// A task that the thread has not taken yet.
    Given(Task),
    Busy,
    /// The thread waits for a task.
    Idle,
    Ended,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A handle on the thread.
pub struct IoThread {
    shared: Arc<Shared>,
    handle: JoinHandle<()>,
}

impl IoThread {
    /// Starts the thread with its first task. The caller must have blocked all signals, because the thread inherits the
    /// mask.
    pub fn start(task: Task) -> Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::new(State::Given(task)), changed: Condvar::new() });
        let its = shared.clone();
        let handle = std::thread::Builder::new().name("btc_ingest".into()).spawn(move || its.work())?;
        Ok(IoThread { shared, handle })
    }

    /// Waits until the task has ended. Returns whether the thread waits for another one.
    fn is_idle_after_task(&self) -> bool {
        matches!(*self.shared.settled(), State::Idle)
    }

    /// Ends the thread when its task has ended.
    pub fn end(self) {
        let mut state = self.shared.settled();
        *state = State::Ended;
        drop(state);
        self.shared.changed.notify_all();
        let _ = self.handle.join();
    }
}

impl Shared {
    /// Runs tasks until one does not end well or none comes in time. If no runtime can be made, none runs.
    fn work(&self) {
        let _ended = Ended(self);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .thread_name("btc_ingest s3")
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        let mut idle_timeout = Duration::ZERO;
        while let Some(task) = self.next(idle_timeout) {
            idle_timeout = task.idle_timeout;
            if !(task.work)(runtime.handle()) || idle_timeout.is_zero() {
                break;
            }
            self.set(State::Idle);
        }
        runtime.shutdown_timeout(SHUTDOWN);
    }

    /// Waits for a task. Returns `None`, and takes no more, if there is none in time.
    fn next(&self, limit: Duration) -> Option<Task> {
        let is_idle = |state: &mut State| matches!(state, State::Idle);
        let waited = self.changed.wait_timeout_while(self.state(), limit, is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        match std::mem::replace(&mut *state, State::Busy) {
            State::Given(task) => Some(task),
            State::Busy | State::Idle | State::Ended => {
                *state = State::Ended;
                None
            }
        }
    }

    /// Waits until the thread has no task.
    fn settled(&self) -> MutexGuard<'_, State> {
        let has_task = |state: &mut State| matches!(state, State::Given(_) | State::Busy);
        self.changed.wait_while(self.state(), has_task).unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that the thread has ended, also after a panic.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.set(State::Ended);
    }
}

/// The thread that waits for a task, if one does.
#[derive(Default)]
pub struct KeptThread(Mutex<Option<IoThread>>);

impl KeptThread {
    /// No thread.
    pub const fn new() -> Self {
        KeptThread(Mutex::new(None))
    }

    /// Gives the task to the kept thread, or to a new one if there is none. The caller must have blocked all signals.
    pub fn start(&self, task: Task) -> Result<IoThread> {
        let Some(kept) = self.take() else { return IoThread::start(task) };
        let mut state = kept.shared.state();
        if matches!(*state, State::Idle) {
            *state = State::Given(task);
            drop(state);
            kept.shared.changed.notify_all();
            return Ok(kept);
        }
        drop(state);
        kept.end();
        IoThread::start(task)
    }

    /// Waits until the thread's task has ended, and keeps the thread if it waits for another one.
    pub fn keep(&self, thread: IoThread) {
        if !thread.is_idle_after_task() {
            return thread.end();
        }
        if let Some(other) = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(thread) {
            other.end();
        }
    }

    /// Takes the kept thread out.
    pub fn take(&self) -> Option<IoThread> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::ThreadId;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    /// Returns a task, and the id of the thread that ran it once it has ended.
    fn task(ends_well: bool, idle_timeout: Duration) -> (Task, Receiver<ThreadId>) {
        let (sender, ran) = channel();
        let work = move |_: &Handle| {
            let _ = sender.send(std::thread::current().id());
            ends_well
        };
        (Task { work: Box::new(work), idle_timeout }, ran)
    }

    /// Runs a task to its end and returns the thread that ran it.
    fn run(kept: &KeptThread, ends_well: bool, idle_timeout: Duration) -> ThreadId {
        let (task, ran) = task(ends_well, idle_timeout);
        kept.keep(kept.start(task).unwrap());
        ran.recv().unwrap()
    }

    #[test]
    fn a_task_that_ended_well_leaves_its_thread_to_the_next_one() {
        let kept = KeptThread::new();
        let first = run(&kept, true, LONG);
        assert_eq!(run(&kept, true, LONG), first);
        let last = kept.take();
        assert!(last.is_some());
        last.unwrap().end();
    }

    #[test]
    fn a_task_that_failed_takes_its_thread_along() {
        let kept = KeptThread::new();
        let first = run(&kept, true, LONG);
        assert_eq!(run(&kept, false, LONG), first);
        assert!(kept.take().is_none());
        assert_ne!(run(&kept, true, Duration::ZERO), first);
        assert!(kept.take().is_none(), "an idle timeout of zero keeps nothing");
    }

    #[test]
    fn a_thread_that_has_waited_long_enough_ends_and_the_next_task_gets_another_one() {
        let kept = KeptThread::new();
        let (task, ran) = task(true, Duration::from_millis(1));
        let thread = kept.start(task).unwrap();
        let ended = thread.shared.changed.wait_while(thread.shared.state(), |state| !matches!(state, State::Ended));
        drop(ended.unwrap());
        kept.0.lock().unwrap().replace(thread);
        assert_ne!(run(&kept, false, LONG), ran.recv().unwrap());
    }

    #[test]
    fn a_second_thread_is_not_kept_beside_the_first() {
        let kept = KeptThread::new();
        let ((one, ran), (two, also)) = (task(true, LONG), task(true, LONG));
        let (one, two) = (kept.start(one).unwrap(), kept.start(two).unwrap());
        kept.keep(one);
        kept.keep(two);
        assert_ne!(ran.recv().unwrap(), also.recv().unwrap());
        kept.take().unwrap().end();
    }
}
