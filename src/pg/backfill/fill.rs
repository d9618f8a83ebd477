//! Fills a staging table with the ticks of the unit's objects.

use std::ops::Range;
use std::time::Instant;

use pgrx::spi::SpiClient;

use super::refused::Refused;
use super::row::Backfill;
use super::staging::{Staged, StagingTable};
use super::units::{MOST_CHUNKS, Unit};
use crate::error::Result;
use crate::error::verdict::Verdict;
use crate::load::pipeline::Job;
use crate::model::report::LoadReport;
use crate::pg::load::plan::LoadPlan;
use crate::pg::queue::attempt::refuse;
use crate::pg::queue::outage;
use crate::pg::queue::prefetch::Prefetcher;
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::spi;

/// Most subtransactions of one unit. A transaction with more than 64 of them makes the snapshots of all
/// sessions slower.
const GROUPS: usize = 40;

/// What a staging table holds, and what became of the unit's objects.
#[derive(Debug, Default)]
pub struct Filled {
    /// Rows in the table.
    pub rows: i64,
    /// Rows that were stored of the objects that are loaded now, by this unit and earlier ones.
    pub inserted: i64,
    /// Bytes that were fetched of the objects that are loaded now.
    pub bytes: i64,
    /// The reports of the objects that are loaded now.
    pub loaded: Vec<LoadReport>,
    /// Objects that have failed.
    pub failed: i64,
    /// Objects that are loaded in part. A later load of each object stores the rest.
    partial: i64,
}

impl Filled {
    /// Returns the note for the unit's row.
    pub fn note(&self) -> Option<String> {
        let what = "objects reach over the chunk or meet other objects; the rest of them is loaded object by object";
        (self.partial > 0).then(|| format!("{} {what}", self.partial))
    }

    fn add(&mut self, staged: Staged) {
        self.rows += staged.rows();
        match staged {
            Staged::Loaded { report, .. } => {
                self.inserted += report.inserted;
                self.bytes += report.bytes;
                self.loaded.push(*report);
            }
            Staged::Partial { .. } => self.partial += 1,
        }
    }
}

/// Fills the table, one subtransaction per group of objects: an object that fails costs only the time of its
/// group. A failure that is not the object's fault refuses the unit.
pub fn fill(
    client: &mut SpiClient<'_>,
    backfill: &Backfill,
    unit: Unit,
    staging: &mut StagingTable,
) -> std::result::Result<Filled, Refused> {
    let mut filled = Filled::default();
    let mut plans = plans(client, backfill, unit, &mut filled)?;
    let size = plans.len().div_ceil(GROUPS).max(1);
    let mut prefetcher = Prefetcher::start(jobs(&mut plans))?;
    let mut at = 0;
    while at < plans.len() {
        let group = at..(at + size).min(plans.len());
        ffi::show_activity(Some(&format!("filling a chunk: {at} of {} objects", plans.len())));
        let mark = staging.mark();
        match load_group(client, &plans, group.clone(), staging, &mut prefetcher) {
            Ok(done) => {
                done.into_iter().for_each(|staged| filled.add(staged));
                at = group.end;
            }
            Err((failed_at, failure)) => {
                let uri = plans[failed_at].uri();
                let evidence = outage::evidence(client, &uri, plans[failed_at].asked)?;
                let judged = outage::judge(&uri, failure, &evidence)?;
                match judged.verdict {
                    Verdict::Permanent => {}
                    Verdict::Outage => return Err(Refused::Outage(uri, judged)),
                    _ => return Err(judged.failure.into()),
                }
                staging.roll_back_to(mark);
                refuse(client, &uri, &judged.failure)?;
                filled.failed += 1;
                plans.remove(failed_at);
                prefetcher = Prefetcher::start(jobs(&mut plans[at..]))?;
            }
        }
    }
    Ok(filled)
}

/// Plans the loads of the unit's objects. Records the failure of an object whose load cannot be planned.
fn plans(client: &mut SpiClient<'_>, backfill: &Backfill, unit: Unit, filled: &mut Filled) -> Result<Vec<LoadPlan>> {
    let (from, to) = unit.times()?;
    let args = [backfill.id.into(), from.into(), to.into(), MOST_CHUNKS.into()];
    let uris: Vec<String> = spi::fetch_kept(client, statement!("unit_objects"), &args)?;
    let mut plans = Vec::with_capacity(uris.len());
    for uri in &uris {
        match LoadPlan::new(client, uri) {
            Ok(plan) => plans.push(plan),
            Err(error) => {
                refuse(client, uri, &error.into())?;
                filled.failed += 1;
            }
        }
    }
    Ok(plans)
}

fn jobs(plans: &mut [LoadPlan]) -> Vec<Job> {
    let ask = |plan: &mut LoadPlan| {
        plan.asked = Instant::now();
        // The vectors are made of the finished chunk.
        Job { embed: false, ..plan.job.clone() }
    };
    plans.iter_mut().map(ask).collect()
}

/// Loads a group of objects in a subtransaction. An error comes with the index of the object that failed.
fn load_group(
    client: &mut SpiClient<'_>,
    plans: &[LoadPlan],
    group: Range<usize>,
    staging: &mut StagingTable,
    prefetcher: &mut Prefetcher,
) -> std::result::Result<Vec<Staged>, (usize, Failure)> {
    let mut failed_at = group.start;
    let load = || {
        let mut done = Vec::with_capacity(group.len());
        for at in group {
            failed_at = at;
            done.push(staging.load(client, &plans[at], prefetcher.thread())?);
        }
        Ok(done)
    };
    ffi::attempt::<_, Failure>(load).map_err(|failure| (failed_at, failure))
}
