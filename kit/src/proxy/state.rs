//! What a proxy and its connections share: the rules, the counters, and the requests so far.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::fault::{Fault, When};
use crate::chaos::Chaos;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    /// `GET`, `HEAD` …
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// The Range header.
    pub range: Option<String>,
    /// The If-Match header.
    pub if_match: Option<String>,
    /// The number of the SDK's attempt, from 1; `None` if another client sent the request.
    pub attempt: Option<u32>,
    /// The fault that struck it by chance.
    pub struck: Option<&'static str>,
    /// When it arrived.
    pub at: Instant,
}

/// The id of a rule, to ask how often it has acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(pub(super) u64);

#[derive(Debug)]
pub(super) struct Rule {
    pub id: RuleId,
    pub when: When,
    pub fault: Fault,
    pub matched: u64,
    pub acted: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub upstream: SocketAddr,
    pub rules: Mutex<Vec<Rule>>,
    pub chaos: Mutex<Option<Chaos>>,
    pub next_rule: AtomicU64,
    pub seen: Mutex<Vec<SeenRequest>>,
    pub bytes: AtomicU64,
    pub stalled: AtomicUsize,
    pub accept_delay: Mutex<Duration>,
    pub refuse: AtomicBool,
    pub refused: AtomicU64,
    pub served: AtomicU64,
    pub release: watch::Sender<u64>,
}

/// Holds until a release that comes after `release` was subscribed. One that came already counts.
pub(super) async fn stall(state: &State, mut release: watch::Receiver<u64>) {
    // Also counted down when the client disconnects and this future is dropped.
    struct Stalled<'a>(&'a AtomicUsize);
    impl Drop for Stalled<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    state.stalled.fetch_add(1, Ordering::SeqCst);
    let _stalled = Stalled(&state.stalled);
    let _ = release.changed().await;
}
