//! One listing of one watch: its pages become batches of objects, which the caller registers.

use std::time::{Duration, Instant};

use pgrx::spi::SpiClient;
use serde_json::Value;

use super::register::Counts;
use super::watch::{Summary, Watch, now};
use crate::error::{Error, Result};
use crate::load::listing::Page;
use crate::model::cursors::Cursors;
use crate::model::pattern::KeyPattern;
use crate::model::watch::WatchOptions;
use crate::pg::listing::listed::{BATCH, Batch};
use crate::pg::listing::picker::Picker;
use crate::pg::session::ffi;
use crate::pg::session::shared::{Phase, Progress};

/// A listing that is running, or that has given its place to others.
pub struct Listing {
    /// The watch whose prefix is listed.
    pub watch: Watch,
    /// What was registered so far; the caller adds to it.
    pub counts: Counts,
    options: WatchOptions,
    picker: Picker,
    /// The thread that lists. `None` while others have the place.
    thread: Option<ffi::Thread<Page>>,
    /// Where the keys of each group begin that are to be listed.
    begins: Cursors,
    /// The last key that was listed.
    last: Option<String>,
    /// When the listing got its place, and the pages that have come since.
    place_since: Instant,
    pages: usize,
    progress: Progress,
    batch: Batch,
    /// Whether another page follows.
    more: bool,
    full: bool,
    /// How far each group of keys is listed. `None` if the keys do not sort by time.
    cursors: Option<Cursors>,
    began: Instant,
}

/// What a listing is to list. It is read before the listing begins.
pub struct ListingPlan {
    options: WatchOptions,
    pattern: KeyPattern,
    /// Where each group of keys is continued. `None` if everything is listed.
    cursors: Option<Cursors>,
}

impl ListingPlan {
    /// Plans a listing that continues the last one, or a full one if that is due or the keys do not sort by time.
    pub fn new(client: &mut SpiClient<'_>, watch: &Watch) -> Result<ListingPlan> {
        let plan = Self::full(watch)?;
        if watch.is_full_due(&plan.options, now()) || !plan.pattern.sorts_by_time() {
            return Ok(plan);
        }
        Ok(ListingPlan { cursors: watch.cursors(client)?, ..plan })
    }

    /// Plans a listing of everything under the prefix.
    pub fn full(watch: &Watch) -> Result<ListingPlan> {
        Ok(ListingPlan { options: watch.parsed()?, pattern: watch.pattern()?, cursors: None })
    }
}

impl Listing {
    /// Starts a thread that lists the prefix.
    pub fn begin(watch: Watch, plan: ListingPlan) -> Result<Listing> {
        let ListingPlan { options, pattern, cursors } = plan;
        let picker = Picker::for_watch(&pattern)?;
        let full = cursors.is_none();
        let cursors = cursors.unwrap_or_default();
        let mut listing = Listing {
            progress: Progress::begin(&watch.prefix, Phase::Listing),
            watch,
            counts: Counts::default(),
            options,
            picker,
            thread: None,
            begins: cursors.clone(),
            last: None,
            place_since: Instant::now(),
            pages: 0,
            batch: Batch::default(),
            more: true,
            full,
            cursors: pattern.sorts_by_time().then_some(cursors),
            began: Instant::now(),
        };
        listing.resume()?;
        Ok(listing)
    }

    /// Takes a place: starts a thread that lists what is left.
    pub fn resume(&mut self) -> Result<()> {
        let (begins, pattern) = (self.begins.clone(), self.watch.pattern()?);
        self.thread = Some(self.picker.list(self.last.clone(), move |key| begins.skip(&pattern, key))?);
        (self.place_since, self.pages) = (Instant::now(), 0);
        Ok(())
    }

    /// Gives the place to another listing. Returns what is not registered yet.
    pub fn suspend(&mut self) -> Batch {
        self.thread = None;
        std::mem::take(&mut self.batch)
    }

    /// Returns whether it has had a place for this long and has advanced in that time. Otherwise it would begin again
    /// where it began this time.
    pub fn has_advanced_for(&self, time: Duration) -> bool {
        self.pages > 0 && self.place_since.elapsed() >= time
    }

    /// Returns whether the last page was taken.
    pub fn is_over(&self) -> bool {
        !self.more
    }

    /// Takes the next page, and waits for it until `end`, or without limit if `end` is `None`. Returns `None`
    /// if there is nothing to register yet, otherwise a batch for the caller to register.
    pub fn next(&mut self, end: Option<Instant>) -> Result<Option<Batch>> {
        let Some(thread) = &mut self.thread else { return Ok(None) };
        let event = match end {
            None => thread.next()?,
            Some(end) => match thread.next_until(end) {
                None => return Ok(None),
                Some(event) => event?,
            },
        };
        let Some(Page { objects, more }) = event else {
            return Err(Error::Internal { why: "the listing ended without its last page".into() });
        };
        self.more = more;
        self.pages += 1;
        self.progress.show(|shown| shown.read += objects.len() as i64);
        self.last = objects.last().map(|object| object.key.clone()).or(self.last.take());
        let now = now();
        for object in objects {
            let key = object.key.clone();
            let facts = self.batch.add_with_options(&self.picker, object, &self.options)?;
            // A cursor that stands at a key from the future would hide all keys that are written until then.
            let facts = facts.filter(|facts| facts.span.as_ref().is_some_and(|span| span.start <= now));
            if let (Some(cursors), Some(place)) = (&mut self.cursors, facts.and_then(|facts| facts.place)) {
                cursors.note(&key[..place.group], &key[..place.moment]);
            }
        }
        let is_complete = self.batch.len() >= BATCH || !more;
        Ok(is_complete.then(|| std::mem::take(&mut self.batch)))
    }

    /// Returns what the listing has found so far.
    pub fn summary(&self) -> Summary {
        Summary {
            full: self.full,
            seconds: self.began.elapsed().as_secs_f64(),
            counts: self.counts,
            cursors: self.cursors.as_ref().map_or(Value::Null, Cursors::to_json),
        }
    }
}
