//! Waiting for a condition with a deadline: the only way a test may wait.

use std::time::{Duration, Instant};

/// Long enough for what takes less than a second on an idle machine.
pub const SOON: Duration = Duration::from_secs(30);
/// How often a condition is looked at. Short, because it bounds how much time a suite loses per wait.
const STEP: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; panics naming `what` when `limit` has passed without it.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || condition().then_some(()));
}

/// Waits until `look` finds something and returns it; panics naming `what` when `limit` has passed without it.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(STEP);
    }
}
