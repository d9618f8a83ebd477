//! Keeps one other process running, and leaves it alone for a while when it ends again and again.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};

/// The first pause, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Whatever ran for so long has not failed at once.
const SETTLED: Duration = Duration::from_secs(30);

/// One process that is to be there.
#[derive(Default)]
pub struct Supervisor {
    child: Option<DynamicBackgroundWorker>,
    started: Option<Instant>,
    pause: Duration,
}

impl Supervisor {
    /// Starts the process unless it runs or has ended a moment ago; how long to wait then. Outside a transaction, whose memory the
    /// handle must outlive.
    pub fn keep(&mut self, start: impl FnOnce() -> Option<DynamicBackgroundWorker>) -> Option<Duration> {
        if self.is_running() {
            return None;
        }
        if let Some(started) = self.started {
            if self.child.take().is_some() {
                self.pause = if started.elapsed() > SETTLED { PAUSE } else { (self.pause * 2).clamp(PAUSE, LONGEST) };
                self.started = Some(Instant::now());
                return Some(self.pause);
            }
            let waited = started.elapsed();
            if waited < self.pause {
                return Some(self.pause - waited);
            }
        }
        self.started = Some(Instant::now());
        self.child = start();
        // No room for it: others may end.
        self.child.is_none().then_some(PAUSE)
    }

    /// Whether it is there, or about to be.
    fn is_running(&self) -> bool {
        self.child.as_ref().is_some_and(|child| {
            !matches!(child.pid(), Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied))
        })
    }
}
