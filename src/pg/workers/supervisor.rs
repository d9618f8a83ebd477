//! A supervisor keeps one other process running. If the process ends again and again, the supervisor waits
//! longer and longer before it starts the next one.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};

/// The first pause before a process is started again, and the pause if the server has no room for the process.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause before a process is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A process that ran for longer did not fail at its start, so the next pause is the first one again.
const SETTLED: Duration = Duration::from_secs(30);

/// Keeps one process running.
#[derive(Default)]
pub struct Supervisor {
    child: Option<DynamicBackgroundWorker>,
    /// When the process was started, or when it was found to have ended.
    since: Option<Instant>,
    pause: Duration,
}

impl Supervisor {
    /// Starts the process by `start`, unless it runs or has ended a short time ago. Returns `None` if the
    /// process runs or was started, otherwise how long to wait before the next call. It is called outside a
    /// transaction, because the handle of the process must outlive the memory of a transaction.
    pub fn keep(&mut self, start: impl FnOnce() -> Option<DynamicBackgroundWorker>) -> Option<Duration> {
        if self.is_running() {
            return None;
        }
        if let Some(since) = self.since {
            if self.child.take().is_some() {
                self.pause = if since.elapsed() > SETTLED {
                    FIRST_PAUSE
                } else {
                    (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
                };
                self.since = Some(Instant::now());
                return Some(self.pause);
            }
            let waited = since.elapsed();
            if waited < self.pause {
                return Some(self.pause - waited);
            }
        }
        self.since = Some(Instant::now());
        self.child = start();
        // If the server had no room, another worker may end soon.
        self.child.is_none().then_some(FIRST_PAUSE)
    }

    /// Returns whether the process runs or is about to start.
    fn is_running(&self) -> bool {
        self.child.as_ref().is_some_and(|child| {
            !matches!(child.pid(), Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied))
        })
    }
}
