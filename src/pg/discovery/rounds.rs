//! The scheduler's listings. Several run at the same time, and each gets a short turn in every round; a listing that
//! takes long gives its place to others and continues later. So a prefix that is slow, or has millions of keys, delays
//! neither the other prefixes nor the scheduler's other work.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::listing::{Listing, ListingPlan};
use super::register::register;
use super::watch::{Problem, Summary, Watch, now};
use crate::error::Result;
use crate::pg::listing::listed::Batch;
use crate::pg::queue::control;
use crate::pg::session::tx::tx;
use crate::pg::session::{ffi, lock_waits, report, shared};

/// The most listings that run at the same time.
const MAX_RUNNING: usize = 4;
/// How long a listing keeps its place while others wait.
const STINT: Duration = Duration::from_secs(5);
/// The time of one listing in one round.
const TURN: Duration = Duration::from_millis(200);
/// The pause if no watch becomes due.
const NOTHING_DUE: Duration = Duration::from_secs(3600);
/// The pause after an error that belongs to no listing.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// The scheduler's listings.
#[derive(Default)]
pub struct Rounds {
    running: Vec<Listing>,
    /// Listings that have given their place to others, in the order in which they did.
    suspended: VecDeque<Listing>,
    /// Whether the last free place went to a listing that begins. The next one goes to a suspended one then.
    last_began: bool,
    /// Prefixes of watches whose last result could not be recorded, and the time until which they are not
    /// listed again. Their rows still say that they are due.
    unrecorded: HashMap<String, Instant>,
    /// The last error that was logged, so that an error that repeats itself is logged once.
    logged: Option<Problem>,
}

/// Which watches are due, and how long it takes until another one is.
struct Schedule<'a> {
    due: Vec<&'a Watch>,
    pause: Duration,
}

impl Rounds {
    /// Runs one round outside a transaction. Returns how long to wait until the next one.
    pub fn turn(&mut self) -> Duration {
        match survive(|| self.round()) {
            Ok(pause) => {
                self.logged = None;
                pause
            }
            Err(problem) => {
                shared::note_error(&problem.sqlstate, &problem.message);
                if self.logged.as_ref() != Some(&problem) {
                    report::log(&format!("btc_ingest discovery: {problem}"));
                    self.logged = Some(problem);
                }
                self.end_all();
                AFTER_ERROR
            }
        }
    }

    fn round(&mut self) -> Result<Duration> {
        let watches = tx(|client| if control::is_paused(client)? { Ok(None) } else { Watch::all(client).map(Some) })?;
        let Some(watches) = watches else {
            self.end_all();
            return Ok(NOTHING_DUE);
        };
        self.drop_outdated(&watches);
        let (pause, mut waiting) = self.fill_places(&watches);
        if self.running.is_empty() {
            return Ok(pause);
        }
        for mut listing in std::mem::take(&mut self.running) {
            ffi::show_activity(Some(&format!("listing {}", listing.watch.prefix)));
            match survive(|| work(&mut listing)) {
                Ok(()) if listing.is_over() => self.end(&listing.watch, Ok(listing.summary())),
                Ok(()) if waiting > 0 && listing.has_advanced_for(STINT) => {
                    waiting -= 1;
                    self.suspend(listing);
                }
                Ok(()) => self.running.push(listing),
                Err(problem) => self.end(&listing.watch, Err(problem)),
            }
        }
        Ok(Duration::ZERO)
    }

    fn suspend(&mut self, mut listing: Listing) {
        let rest = listing.suspend();
        match survive(|| record(&mut listing, rest)) {
            Ok(()) => self.suspended.push_back(listing),
            Err(problem) => self.end(&listing.watch, Err(problem)),
        }
    }

    fn end_all(&mut self) {
        self.running.clear();
        self.suspended.clear();
    }

    /// Drops listings whose watch was removed or has other options now.
    fn drop_outdated(&mut self, watches: &[Watch]) {
        let is_current = |listing: &Listing| {
            watches.iter().any(|watch| watch.prefix == listing.watch.prefix && watch.options == listing.watch.options)
        };
        self.running.retain(is_current);
        self.suspended.retain(is_current);
    }

    /// Gives the free places to listings that are due and to suspended ones, in turn. Returns how long it takes until
    /// another watch is due, and how many listings wait for a place.
    fn fill_places(&mut self, watches: &[Watch]) -> (Duration, usize) {
        let at = Instant::now();
        self.unrecorded.retain(|_, until| *until > at);
        let is_idle = |watch: &&Watch| {
            self.running.iter().chain(&self.suspended).all(|listing| listing.watch.prefix != watch.prefix)
        };
        let Schedule { due, pause } = schedule(watches.iter().filter(is_idle), now(), |prefix| {
            self.unrecorded.get(prefix).map_or(Duration::ZERO, |until| until.saturating_duration_since(at))
        });
        let mut due = due.into_iter();
        while self.running.len() < MAX_RUNNING {
            let is_new = due.len() > 0 && (self.suspended.is_empty() || !self.last_began);
            let Some((watch, listing)) = (if is_new { due.next().map(begin) } else { self.resume() }) else { break };
            self.last_began = is_new;
            match listing {
                Ok(listing) => self.running.push(listing),
                Err(problem) => self.end(&watch, Err(problem)),
            }
        }
        (pause, due.len() + self.suspended.len())
    }

    fn resume(&mut self) -> Option<Attempted> {
        let mut listing = self.suspended.pop_front()?;
        let watch = listing.watch.clone();
        let resumed = survive(move || {
            listing.resume()?;
            Ok(listing)
        });
        Some((watch, resumed))
    }

    /// Records the result of a listing, and logs it if the watch's listings fail for a new reason or succeed
    /// again.
    fn end(&mut self, watch: &Watch, result: std::result::Result<Summary, Problem>) {
        match (&watch.problem, &result) {
            (Some(_), Ok(_)) => report::log(&format!("btc_ingest: {} can be listed again", watch.prefix)),
            (known, Err(problem)) if known.as_ref() != Some(problem) => {
                report::log(&format!("btc_ingest: {} cannot be listed: {problem}", watch.prefix));
            }
            _ => {}
        }
        if !matches!(survive(|| tx(|client| watch.record(client, result.as_ref()))), Ok(true)) {
            // The row of a watch has its last failure, and doctor() shows each of them. This one is not in a row.
            if let Err(Problem { sqlstate, message }) = &result {
                shared::note_error(sqlstate, &format!("{}: {message}", watch.prefix));
            }
            let interval = watch.parsed().unwrap_or_default().interval;
            self.unrecorded.insert(watch.prefix.clone(), Instant::now() + interval);
        }
    }
}

/// Divides enabled watches into those that are due and those that are not. `now` is in microseconds since
/// 1970. `rest` returns how long a prefix must not be listed, even if its row says that it is due.
fn schedule<'a>(watches: impl Iterator<Item = &'a Watch>, now: i64, rest: impl Fn(&str) -> Duration) -> Schedule<'a> {
    let mut schedule = Schedule { due: Vec::new(), pause: NOTHING_DUE };
    for watch in watches {
        // Options that cannot be parsed are reported when the listing begins.
        let options = watch.parsed().unwrap_or_default();
        if !options.enabled {
            continue;
        }
        let wait = watch.until_due(&options, now).max(rest(&watch.prefix));
        if wait.is_zero() {
            schedule.due.push(watch);
        } else {
            schedule.pause = schedule.pause.min(wait);
        }
    }
    schedule
}

/// Works on a listing for one turn.
fn work(listing: &mut Listing) -> Result<()> {
    let end = Instant::now() + TURN;
    while !listing.is_over() && Instant::now() < end {
        let Some(batch) = listing.next(Some(end))? else { continue };
        record(listing, batch)?;
    }
    Ok(())
}

/// Registers a batch of a listing.
fn record(listing: &mut Listing, batch: Batch) -> Result<()> {
    let counts = tx(|client| {
        lock_waits::limit_in_transaction();
        register(client, &listing.watch.prefix, batch)
    })?;
    listing.counts += counts;
    if counts.has_work() {
        shared::wake();
    }
    Ok(())
}

/// A watch, and its listing or why it cannot be listed.
type Attempted = (Watch, std::result::Result<Listing, Problem>);

fn begin(watch: &Watch) -> Attempted {
    let listing = || Listing::begin(watch.clone(), tx(|client| ListingPlan::new(client, watch))?);
    (watch.clone(), survive(listing))
}

/// Runs work outside a transaction, and returns an error as a problem that can be recorded.
fn survive<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<T, Problem> {
    ffi::survive(work).map_err(Problem::from)
}
