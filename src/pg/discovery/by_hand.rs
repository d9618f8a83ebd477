//! `discover`: a session lists everything once, in its own transaction.

use serde_json::json;

use super::listing::{Listing, ListingPlan};
use super::register::{Counts, register};
use super::watch::{Ended, Watch};
use crate::error::Result;
use crate::pg::queue::control;
use crate::pg::session::target::as_owner;
use crate::pg::session::{report, shared};

/// What was found under one prefix.
#[derive(Debug)]
pub struct Found {
    /// The prefix.
    pub prefix: String,
    /// What became of its keys.
    pub counts: Counts,
    /// How long it took.
    pub seconds: f64,
    /// Why it could not be listed to its end.
    pub problem: Option<String>,
}

/// Lists a prefix, watched or not; or all that are watched and enabled, where one that cannot be listed holds up no other.
pub fn discover(prefix: Option<&str>) -> Result<Vec<Found>> {
    let (paused, mut watches) = as_owner(|client, _| Ok((control::is_paused(client)?, Watch::all(client)?)))?;
    if let Some(prefix) = prefix {
        watches.retain(|watch| watch.prefix == prefix);
        let watch = watches.pop().unwrap_or_else(|| Watch::new(prefix, json!({})));
        // What cannot be meant is said also while nothing is listed.
        let order = ListingPlan::full(&watch)?;
        if paused {
            return Ok(say_paused());
        }
        return list(&watch, order).map(|ended| vec![found(prefix, ended)]);
    }
    if paused {
        return Ok(say_paused());
    }
    watches.retain(|watch| watch.parsed().map_or(true, |options| options.enabled));
    let listed =
        watches.into_iter().map(|watch| match ListingPlan::full(&watch).and_then(|order| list(&watch, order)) {
            Ok(ended) => found(&watch.prefix, ended),
            Err(error) => {
                report::warning(&format!("{}: {error} ({})", watch.prefix, error.sqlstate()));
                let (counts, problem) = (Counts::default(), Some(error.to_string()));
                Found { prefix: watch.prefix, counts, seconds: 0.0, problem }
            }
        });
    Ok(listed.collect())
}

fn found(prefix: &str, Ended { counts, seconds, .. }: Ended) -> Found {
    Found { prefix: prefix.to_owned(), counts, seconds, problem: None }
}

fn say_paused() -> Vec<Found> {
    report::notice("nothing was listed: pause_ingest() is in force");
    Vec::new()
}

fn list(watch: &Watch, order: ListingPlan) -> Result<Ended> {
    let mut listing = Listing::begin(watch.clone(), order)?;
    while !listing.is_over() {
        if let Some(batch) = listing.next(None)? {
            let counts = as_owner(|client, _| register(client, batch))?;
            if counts.has_work() {
                shared::wake_at_commit();
            }
            listing.counts += counts;
        }
    }
    let ended = Ok(listing.ended());
    // Whether there is such a row or not.
    as_owner(|client, _| watch.end(client, &ended))?;
    Ok(listing.ended())
}
