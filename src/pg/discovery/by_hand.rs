//! `discover`: a session lists one prefix, or all watched ones, once and in its own transaction.

use serde_json::json;

use super::listing::{Listing, ListingPlan};
use super::register::{Counts, register};
use super::watch::{Summary, Watch};
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
    /// How many seconds the listing took.
    pub seconds: f64,
    /// Why the listing has failed.
    pub problem: Option<String>,
}

/// Lists a prefix, watched or not, and returns an error if that fails. Without a prefix it lists all watched
/// prefixes that are enabled, and goes on with the next one if a listing fails.
pub fn discover(prefix: Option<&str>) -> Result<Vec<Found>> {
    let (paused, mut watches) = as_owner(|client, _| Ok((control::is_paused(client)?, Watch::all(client)?)))?;
    if let Some(prefix) = prefix {
        watches.retain(|watch| watch.prefix == prefix);
        let watch = watches.pop().unwrap_or_else(|| Watch::new(prefix, json!({})));
        // A prefix that cannot be listed is an error also while the ingest is paused.
        let plan = ListingPlan::full(&watch)?;
        if paused {
            return Ok(nothing_while_paused());
        }
        return Ok(vec![list(&watch, plan)?]);
    }
    if paused {
        return Ok(nothing_while_paused());
    }
    watches.retain(|watch| watch.parsed().map_or(true, |options| options.enabled));
    Ok(watches.iter().map(list_or_warn).collect())
}

fn nothing_while_paused() -> Vec<Found> {
    report::notice("nothing was listed: pause_ingest() is in force");
    Vec::new()
}

/// Lists a watched prefix, and reports a failure as a WARNING.
fn list_or_warn(watch: &Watch) -> Found {
    ListingPlan::full(watch).and_then(|plan| list(watch, plan)).unwrap_or_else(|error| {
        report::warning(&format!("{}: {error} ({})", watch.prefix, error.sqlstate()));
        let problem = Some(error.to_string());
        Found { prefix: watch.prefix.clone(), counts: Counts::default(), seconds: 0.0, problem }
    })
}

fn list(watch: &Watch, plan: ListingPlan) -> Result<Found> {
    let mut listing = Listing::begin(watch.clone(), plan)?;
    while !listing.is_over() {
        if let Some(batch) = listing.next(None)? {
            let counts = as_owner(|client, _| register(client, &watch.prefix, batch))?;
            if counts.has_work() {
                shared::wake_at_commit();
            }
            listing.counts += counts;
        }
    }
    let summary = listing.summary();
    // A prefix that is not watched has no row, so nothing is recorded for it.
    as_owner(|client, _| watch.record(client, Ok(&summary)))?;
    let Summary { counts, seconds, .. } = summary;
    Ok(Found { prefix: watch.prefix.clone(), counts, seconds, problem: None })
}
