//! Listings by the scheduler: whatever is due, a few at a time and a little of each in turn, so that neither a slow prefix nor
//! one that does not answer holds up the others, or the scheduler's other work.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::listing::{Listing, ListingPlan};
use super::register::register;
use super::watch::{Watch, now};
use crate::error::Result;
use crate::pg::queue::control;
use crate::pg::queue::loading::limit_lock_waits;
use crate::pg::session::ffi;
use crate::pg::session::tx::tx;
use crate::pg::session::{report, shared};

/// Listings at the same time.
const MOST: usize = 4;
/// How long one is worked on before the next one's turn comes.
const SLICE: Duration = Duration::from_millis(200);
/// Where nothing is due.
const LONG: Duration = Duration::from_secs(3600);
/// After an error that is no listing's.
const TROUBLE: Duration = Duration::from_secs(5);

/// SQLSTATE and message.
type Problem = (String, String);

/// The scheduler's listings.
#[derive(Default)]
pub struct Rounds {
    running: Vec<Listing>,
    /// Watches that could not be told of their last listing, so that their rows still call them due.
    held: HashMap<String, Instant>,
    said: Option<Problem>,
}

impl Rounds {
    /// One round; how long until the next is due. Outside a transaction.
    pub fn turn(&mut self) -> Duration {
        match ffi::survive(|| self.round()) {
            Ok(pause) => {
                self.said = None;
                pause
            }
            Err(failure) => {
                let problem = failure.sqlstate_and_message();
                shared::note_error(&problem.0, &problem.1);
                if self.said.as_ref() != Some(&problem) {
                    report::log(&format!("btc_ingest discovery: {} ({})", problem.1, problem.0));
                    self.said = Some(problem);
                }
                self.running.clear();
                TROUBLE
            }
        }
    }

    fn round(&mut self) -> Result<Duration> {
        let watches = tx(|client| if control::is_paused(client)? { Ok(None) } else { Watch::all(client).map(Some) })?;
        let Some(watches) = watches else {
            self.running.clear();
            return Ok(LONG);
        };
        let pause = self.begin_due(&watches);
        if self.running.is_empty() {
            return Ok(pause);
        }
        for mut listing in std::mem::take(&mut self.running) {
            ffi::show_activity(Some(&format!("listing {}", listing.watch.prefix)));
            match survive(|| step(&mut listing)) {
                Ok(()) if listing.is_over() => self.end(&listing.watch, Ok(&listing)),
                Ok(()) => self.running.push(listing),
                Err(problem) => self.end(&listing.watch, Err(problem)),
            }
        }
        Ok(Duration::ZERO)
    }

    /// Ends listings that nobody wants any more, and begins those that are due; how long until another one is.
    fn begin_due(&mut self, watches: &[Watch]) -> Duration {
        self.running.retain(|listing| {
            watches.iter().any(|watch| watch.prefix == listing.watch.prefix && watch.options == listing.watch.options)
        });
        self.held.retain(|_, until| *until > Instant::now());
        let mut pause = LONG;
        for watch in watches {
            if self.running.iter().any(|listing| listing.watch.prefix == watch.prefix) {
                continue;
            }
            // Options that cannot be read fail when it is begun.
            let options = watch.parsed().unwrap_or_default();
            if !options.enabled {
                continue;
            }
            let rest = watch.rest(&options, now());
            let held = self.held.get(&watch.prefix).map_or(Duration::ZERO, |until| *until - Instant::now());
            let rest = rest.max(held);
            if !rest.is_zero() {
                pause = pause.min(rest);
            } else if self.running.len() < MOST {
                match survive(|| Listing::begin(watch.clone(), tx(|client| ListingPlan::new(client, watch))?)) {
                    Ok(listing) => self.running.push(listing),
                    Err(problem) => self.end(watch, Err(problem)),
                }
            }
        }
        pause
    }

    /// Writes what a listing came to, and says what has changed.
    fn end(&mut self, watch: &Watch, came_to: std::result::Result<&Listing, Problem>) {
        let ended = came_to.map(Listing::ended);
        if let Err((sqlstate, message)) = &ended {
            shared::note_error(sqlstate, &format!("{}: {message}", watch.prefix));
        }
        match (&watch.problem, &ended) {
            (Some(_), Ok(_)) => report::log(&format!("btc_ingest: {} can be listed again", watch.prefix)),
            (known, Err(problem)) if known.as_ref() != Some(problem) => {
                report::log(&format!("btc_ingest: {} cannot be listed: {} ({})", watch.prefix, problem.1, problem.0));
            }
            _ => {}
        }
        if !matches!(survive(|| tx(|client| watch.end(client, &ended))), Ok(true)) {
            let interval = watch.parsed().unwrap_or_default().interval;
            self.held.insert(watch.prefix.clone(), Instant::now() + interval);
        }
    }
}

/// A slice of one listing.
fn step(listing: &mut Listing) -> Result<()> {
    let end = Instant::now() + SLICE;
    while !listing.is_over() && Instant::now() < end {
        let Some(batch) = listing.next(Some(end))? else { continue };
        let counts = tx(|client| {
            limit_lock_waits();
            register(client, batch)
        })?;
        listing.counts += counts;
        if counts.has_work() {
            shared::wake();
        }
    }
    Ok(())
}

/// Runs a part of a listing. An error is returned as SQLSTATE and message.
fn survive<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<T, Problem> {
    ffi::survive(work).map_err(|failure| failure.sqlstate_and_message())
}
