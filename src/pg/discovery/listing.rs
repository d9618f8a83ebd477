//! One listing of one watch: page after page, into batches that its owner registers.

use std::time::Instant;

use pgrx::spi::SpiClient;
use serde_json::Value;

use super::register::Counts;
use super::watch::{Ended, Watch, now};
use crate::error::{Error, Result};
use crate::load::listing::Page;
use crate::model::cursors::Cursors;
use crate::model::pattern::KeyPattern;
use crate::model::watch::WatchOptions;
use crate::pg::queue::listed::{BATCH, Batch, Picker};
use crate::pg::session::ffi;

/// A listing in work.
pub struct Listing {
    /// Of this watch.
    pub watch: Watch,
    /// What was registered so far.
    pub counts: Counts,
    options: WatchOptions,
    picker: Picker,
    thread: ffi::Thread<Page>,
    batch: Batch,
    more: bool,
    full: bool,
    /// How far each group is listed, where keys sort by time.
    cursors: Option<Cursors>,
    began: Instant,
}

/// What must be known before one begins.
pub struct ListingPlan {
    options: WatchOptions,
    pattern: KeyPattern,
    /// Where to go on; `None`: everything is listed.
    cursors: Option<Cursors>,
}

impl ListingPlan {
    /// A listing behind what is known if that will do, else of everything.
    pub fn new(client: &mut SpiClient<'_>, watch: &Watch) -> Result<ListingPlan> {
        let full = Self::full(watch)?;
        let due = watch.is_full_due(&full.options, now()) || !full.pattern.sorts_by_time();
        let cursors = if due { None } else { watch.cursors(client)? };
        Ok(ListingPlan { cursors, ..full })
    }

    /// A listing of everything.
    pub fn full(watch: &Watch) -> Result<ListingPlan> {
        Ok(ListingPlan { options: watch.parsed()?, pattern: watch.pattern()?, cursors: None })
    }
}

impl Listing {
    /// Begins.
    pub fn begin(watch: Watch, order: ListingPlan) -> Result<Listing> {
        let ListingPlan { options, pattern, cursors } = order;
        let picker = Picker::for_watch(&pattern)?;
        let full = cursors.is_none();
        let behind = cursors.clone().unwrap_or_default();
        let thread = picker.list(None, {
            let pattern = pattern.clone();
            move |key| behind.skip(&pattern, key)
        })?;
        Ok(Listing {
            watch,
            counts: Counts::default(),
            options,
            picker,
            thread,
            batch: Batch::default(),
            more: true,
            full,
            cursors: pattern.sorts_by_time().then(|| cursors.unwrap_or_default()),
            began: Instant::now(),
        })
    }

    /// Whether no page follows.
    pub fn is_over(&self) -> bool {
        !self.more
    }

    /// Takes the next page, and waits for it until `end` at most (`None`: as long as it takes). `None`: nothing is to be
    /// registered yet.
    pub fn next(&mut self, end: Option<Instant>) -> Result<Option<Batch>> {
        let event = match end {
            None => self.thread.next()?,
            Some(end) => match self.thread.next_until(end) {
                None => return Ok(None),
                Some(event) => event?,
            },
        };
        let Some(Page { objects, more }) = event else {
            return Err(Error::Internal { why: "the listing ended without its last page".into() });
        };
        self.more = more;
        let now = now();
        for object in objects {
            let key = object.key.clone();
            let facts = self.batch.add_saying(&self.picker, object, &self.options.load)?;
            // A key from the future would hide all that are written until then.
            let facts = facts.filter(|facts| facts.span.as_ref().is_some_and(|span| span.start <= now));
            if let (Some(cursors), Some(place)) = (&mut self.cursors, facts.and_then(|facts| facts.place)) {
                cursors.note(&key[..place.group], &key[..place.moment]);
            }
        }
        let full = self.batch.len() >= BATCH || !more;
        Ok(full.then(|| std::mem::take(&mut self.batch)))
    }

    /// What it came to.
    pub fn ended(&self) -> Ended {
        Ended {
            full: self.full,
            seconds: self.began.elapsed().as_secs_f64(),
            counts: self.counts,
            cursors: self.cursors.as_ref().map_or(Value::Null, Cursors::to_json),
        }
    }
}
