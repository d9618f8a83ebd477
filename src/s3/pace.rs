//! The least speed of an object's body. A body that only trickles would otherwise hold a worker without end, because
//! each of its bytes comes in time.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Measures one body, window after window.
#[derive(Debug)]
pub struct Pace {
    /// Bytes per second; 0 for no least speed.
    least: u64,
    window: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// Begins to measure. In each window of this length, the body must have at least `least` bytes per second.
    pub fn new(least: u64, window: Duration, now: Instant) -> Self {
        Pace { least, window, since: now, bytes: 0 }
    }

    /// Counts bytes that have come. Returns an error if a window is over and too few have come in it.
    pub fn took(&mut self, bytes: u64, now: Instant) -> Result<()> {
        self.bytes += bytes;
        let passed = now.saturating_duration_since(self.since);
        if passed < self.window {
            return Ok(());
        }
        let speed = (self.bytes as f64 / passed.as_secs_f64()) as u64;
        if speed < self.least {
            return Err(Error::BodySlow { speed, least: self.least, seconds: passed.as_secs() });
        }
        (self.since, self.bytes) = (now, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_body_that_trickles_is_too_slow_after_one_window_and_not_before() {
        let now = Instant::now();
        let mut pace = Pace::new(1_000, 10 * SECOND, now);
        assert_eq!(pace.took(1, now + 9 * SECOND), Ok(()));
        let slow = Error::BodySlow { speed: 0, least: 1_000, seconds: 10 };
        assert_eq!(pace.took(1, now + 10 * SECOND), Err(slow));
    }

    #[test]
    fn each_window_counts_for_itself() {
        let now = Instant::now();
        let mut pace = Pace::new(1_000, 10 * SECOND, now);
        // What came fast before does not make up for what trickles later.
        assert_eq!(pace.took(1 << 30, now + 10 * SECOND), Ok(()));
        assert_eq!(pace.took(9_000, now + 19 * SECOND), Ok(()));
        assert_eq!(pace.took(999, now + 20 * SECOND), Err(Error::BodySlow { speed: 999, least: 1_000, seconds: 10 }));
    }

    #[test]
    fn without_a_least_speed_nothing_is_too_slow() {
        let now = Instant::now();
        assert_eq!(Pace::new(0, SECOND, now).took(0, now + 100 * SECOND), Ok(()));
    }
}
