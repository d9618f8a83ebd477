//! An estimate before a backfill: what lies under the prefixes, and how much time and disk it would take.
//! Registers nothing.

use std::collections::HashSet;

use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::start::Plan;
use crate::error::Result;
use crate::load::footers::{self, Footer};
use crate::load::listing::Page;
use crate::model::options::LoadOptions;
use crate::model::uri::S3Uri;
use crate::pg::listing::picker::Picker;
use crate::pg::session::target::as_owner;
use crate::pg::session::time::since_1970;
use crate::pg::session::{ffi, guc, spi};
use crate::s3::head::ObjectHead;
use crate::s3::listing::ListedObject;

/// Objects whose footers are read for an estimate of rows.
const SAMPLE: usize = 32;
/// Bytes of heap and indexes per tick, a high estimate. Used until the hypertable holds enough ticks to
/// measure them.
const BYTES_PER_ROW: f64 = 280.0;
/// Rows per second and worker. Used until there is a history of loads.
const ROWS_PER_SECOND: f64 = 150_000.0;

/// A listed object that a backfill would take.
type Candidate = (S3Uri, ObjectHead);

/// What a backfill would load, and what that takes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Survey {
    /// Objects under the prefixes, within the times.
    pub objects: i64,
    /// Those of them that are loaded already at the same etag, or skipped.
    pub known: i64,
    /// Keys that are no Parquet files, do not match the pattern, or lie outside the times.
    pub passed_over: i64,
    /// Bytes that would be fetched.
    pub bytes: i64,
    /// Rows that would be loaded, estimated from a sample of footers.
    pub rows: i64,
    /// Bytes that they would take on the disk.
    pub disk: i64,
    /// Bytes that are free on that disk.
    pub free: i64,
    /// Seconds that the backfill would take.
    pub seconds: f64,
}

/// Lists the prefixes and reads a few footers.
pub fn survey(plan: &Plan) -> Result<Survey> {
    let mut found = Survey::default();
    let mut sample = Sample::default();
    let (from, to) = (plan.from.and_then(since_1970), plan.to.and_then(since_1970));
    let patterns = plan.patterns()?;
    // The tables are checked before the first request to S3.
    as_owner(|_, _| Ok(()))?;
    for pattern in patterns {
        let picker = Picker::for_backfill(&pattern, from, to)?;
        let mut thread = picker.list(None, |_| None)?;
        while let Some(Page { objects, more }) = thread.next()? {
            found.add(&picker, objects, plan.force, &mut sample)?;
            if !more {
                break;
            }
        }
    }
    estimate(&mut found, sample, plan.parallel)?;
    Ok(found)
}

impl Survey {
    /// Adds a page of a listing.
    fn add(&mut self, picker: &Picker, objects: Vec<ListedObject>, force: bool, sample: &mut Sample) -> Result<()> {
        let listed = objects.len() as i64;
        let wanted: Vec<Candidate> =
            objects.into_iter().filter_map(|object| Some((picker.pick(&object.key)?.0, object.head))).collect();
        self.objects += wanted.len() as i64;
        self.passed_over += listed - wanted.len() as i64;
        let known = as_owner(|client, _| known(client, &wanted, force))?;
        for (uri, head) in wanted {
            if known.contains(&uri.to_string()) {
                self.known += 1;
                continue;
            }
            self.bytes += head.size as i64;
            // Without an etag in the listing, each footer would take another request.
            if !head.etag.is_empty() {
                sample.offer((uri, head));
            }
        }
        Ok(())
    }
}

/// Returns the uris of the objects that need no load.
fn known(client: &mut SpiClient<'_>, objects: &[Candidate], force: bool) -> Result<HashSet<String>> {
    let uris: Vec<String> = objects.iter().map(|(uri, _)| uri.to_string()).collect();
    let etags: Vec<String> = objects.iter().map(|(_, head)| head.etag.clone()).collect();
    spi::fetch(client, statement!("survey_known"), &[uris.into(), etags.into(), force.into()])
}

/// A sample that is spread evenly over a listing of unknown length: every n-th object, with n doubled when
/// the sample is full.
#[derive(Default)]
struct Sample {
    seen: usize,
    stride: usize,
    objects: Vec<Candidate>,
}

impl Sample {
    fn offer(&mut self, object: Candidate) {
        self.stride = self.stride.max(1);
        if self.seen.is_multiple_of(self.stride) {
            self.objects.push(object);
            if self.objects.len() == SAMPLE {
                let mut at = 0;
                self.objects.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                self.stride *= 2;
            }
        }
        self.seen += 1;
    }
}

/// Sizes and speed that were measured on this server (`survey_rates.sql`).
#[derive(Deserialize)]
struct Rates {
    /// The directory of the ticks.
    directory: String,
    /// `None` if too few ticks are stored.
    #[serde(deserialize_with = "spi::nullable")]
    bytes_per_row: Option<f64>,
    /// `None` if there is no history of loads.
    #[serde(deserialize_with = "spi::nullable")]
    rows_per_second: Option<f64>,
}

/// Estimates rows, disk and time from the sample and from what was measured.
fn estimate(found: &mut Survey, sample: Sample, parallel: i32) -> Result<()> {
    let (mut rows, mut bytes) = (0.0, 0.0);
    if !sample.objects.is_empty() {
        let (s3, limits) = (guc::s3(), guc::limits());
        let jobs = sample.objects.into_iter().map(|(uri, head)| (uri, head, LoadOptions::default())).collect();
        let mut thread = ffi::Thread::start(1, move |reads, events| footers::run(jobs, &s3, limits, reads, events))?;
        while let Some(Footer { size, read, .. }) = thread.next()? {
            // A damaged object does not count in the sample.
            if let Ok(read) = read {
                rows += read.rows as f64;
                bytes += size as f64;
            }
        }
    }
    let rates: Rates = as_owner(|client, _| spi::fetch(client, statement!("survey_rates"), &[]))?;
    let per_row = rates.bytes_per_row.unwrap_or(BYTES_PER_ROW);
    let rate = rates.rows_per_second.unwrap_or(ROWS_PER_SECOND) * f64::from(parallel.max(1));
    found.rows = if bytes > 0.0 { (found.bytes as f64 * rows / bytes) as i64 } else { 0 };
    found.disk = (found.rows as f64 * per_row) as i64;
    found.seconds = found.rows as f64 / rate;
    let directory = std::ffi::CString::new(rates.directory).unwrap_or_default();
    found.free = ffi::disk(&directory).map_or(0, |disk| disk.free as i64);
    Ok(())
}
