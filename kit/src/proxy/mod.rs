//! A proxy between the extension and the S3 server that fails on purpose.
//!
//! Requests pass unchanged, the Host header included, because signatures cover it. Rules decide what goes wrong: a
//! [`When`] and a [`Fault`]. Every rule that matches a request acts on it, in the order in which the rules were
//! added.

mod body;
mod exchange;
mod fault;
mod state;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use fault::{Fault, When};
use state::{Rule, State};
pub use state::{RuleId, SeenRequest};
use tokio::sync::watch;

use crate::chaos::Chaos;
use crate::http::Server;
use crate::proxy::exchange::connection;
use crate::wait::wait_until;

/// A running proxy.
#[derive(Debug)]
pub struct FaultProxy {
    state: Arc<State>,
    server: Server,
}

impl FaultProxy {
    /// Starts a proxy in front of a server over plain HTTP, without any fault yet.
    pub fn start(upstream: SocketAddr) -> Self {
        let state = Arc::new(State {
            upstream,
            rules: Mutex::default(),
            chaos: Mutex::default(),
            next_rule: AtomicU64::new(1),
            seen: Mutex::default(),
            bytes: AtomicU64::new(0),
            stalled: AtomicUsize::new(0),
            accept_delay: Mutex::default(),
            refuse: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            served: AtomicU64::new(0),
            release: watch::Sender::new(0),
        });
        let shared = state.clone();
        let server = Server::start(0, move |stream| connection(shared.clone(), stream)).expect("a proxy");
        Self { state, server }
    }

    /// Starts a proxy in front of `server`.
    pub fn before(server: &crate::s3::S3Server) -> Self {
        Self::start(SocketAddr::from(([127, 0, 0, 1], server.port())))
    }

    /// Returns what `btc_ingest.s3_endpoint` needs.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Adds a rule.
    pub fn on(&self, when: When, fault: Fault) -> RuleId {
        let id = RuleId(self.state.next_rule.fetch_add(1, Ordering::SeqCst));
        self.state.rules.lock().unwrap().push(Rule { id, when, fault, matched: 0, acted: 0 });
        id
    }

    /// Counts how often a rule has acted; 0 if the rule was cleared.
    pub fn acted(&self, id: RuleId) -> u64 {
        self.state.rules.lock().unwrap().iter().find(|rule| rule.id == id).map_or(0, |rule| rule.acted)
    }

    /// Takes one rule away.
    pub fn remove(&self, id: RuleId) {
        self.state.rules.lock().unwrap().retain(|rule| rule.id != id);
    }

    /// Strikes requests by chance from now on, or no more if `chaos` is `None`.
    pub fn at_random(&self, chaos: Option<Chaos>) {
        *self.state.chaos.lock().unwrap() = chaos;
    }

    /// Takes all rules away; what stalls already goes on stalling.
    pub fn clear(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// Ends all stalls, and takes away the rules that stall, so that the next attempt does not stall again.
    pub fn release(&self) {
        self.state.rules.lock().unwrap().retain(|rule| !rule.fault.waits());
        self.state.release.send_modify(|generation| *generation += 1);
    }

    /// Counts the requests that stall now.
    pub fn stalled(&self) -> usize {
        self.state.stalled.load(Ordering::SeqCst)
    }

    /// Waits until some request stalls.
    #[track_caller]
    pub fn wait_until_stalled(&self, limit: Duration) {
        wait_until("a request that stalls", limit, || self.stalled() > 0);
    }

    /// Serves new connections only after this time, although they are made at once.
    pub fn delay_accept(&self, delay: Duration) {
        *self.state.accept_delay.lock().unwrap() = delay;
    }

    /// Resets new connections at once, or serves them again.
    pub fn refuse_connections(&self, refuse: bool) {
        self.state.refuse.store(refuse, Ordering::SeqCst);
    }

    /// Counts the connections that were reset at once.
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::SeqCst)
    }

    /// Counts the connections that were not.
    pub fn served(&self) -> u64 {
        self.state.served.load(Ordering::SeqCst)
    }

    /// Returns all requests so far.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Counts the requests of one method so far.
    pub fn count(&self, method: &str) -> usize {
        self.state.seen.lock().unwrap().iter().filter(|seen| seen.method == method).count()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.state.seen.lock().unwrap().clear();
        self.state.bytes.store(0, Ordering::SeqCst);
    }

    /// Counts the bytes of bodies that were passed on.
    pub fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::SeqCst)
    }
}
