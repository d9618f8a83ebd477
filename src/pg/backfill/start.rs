//! The start of a backfill in the caller's session: checks the arguments, writes or takes up the row, and
//! asks the postmaster for the workers.

use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::row::unfinished;
use crate::error::{Error, Result};
use crate::model::backfill::{BackfillMode, BackfillStatus};
use crate::model::pattern::KeyPattern;
use crate::pg::session::locks::Lock;
use crate::pg::session::target::as_owner;
use crate::pg::session::{ffi, guc, processes, spi};

/// The most workers of a backfill. More would only wait for each other.
pub const MOST_WORKERS: i32 = 64;

/// The arguments of a backfill.
pub struct Plan {
    /// The prefixes as the caller wrote them.
    pub prefixes: Vec<String>,
    /// Objects that can hold times from here on are loaded. `None` sets no limit.
    pub from: Option<TimestampWithTimeZone>,
    /// Objects that can hold times before this are loaded. `None` sets no limit.
    pub to: Option<TimestampWithTimeZone>,
    /// The number of workers.
    pub parallel: i32,
    /// `object` or `chunk`.
    pub mode: String,
    /// Whether loaded objects are loaded again.
    pub force: bool,
}

impl Plan {
    /// Parses the mode.
    pub fn mode(&self) -> Result<BackfillMode> {
        self.mode.parse()
    }

    /// Checks all arguments, and returns the parsed prefixes.
    pub fn patterns(&self) -> Result<Vec<KeyPattern>> {
        if self.prefixes.is_empty() {
            return Err(invalid("prefixes is empty: name one s3://bucket/prefix at least"));
        }
        if let (Some(from), Some(to)) = (&self.from, &self.to)
            && from >= to
        {
            return Err(invalid("\"from\" must be before \"to\""));
        }
        if self.from == Some(TimestampWithTimeZone::positive_infinity())
            || self.to == Some(TimestampWithTimeZone::negative_infinity())
        {
            return Err(invalid("no object has times after \"from\" and before \"to\""));
        }
        if !(1..=MOST_WORKERS).contains(&self.parallel) {
            return Err(invalid(&format!("parallel must be between 1 and {MOST_WORKERS}")));
        }
        let most = guc::max_backfill_workers();
        if self.parallel > most {
            let parallel = self.parallel;
            let what = format!("parallel is {parallel}, but btc_ingest.max_backfill_workers is {most}");
            return Err(invalid(&what));
        }
        self.mode()?;
        let allowed = guc::allowed_prefixes()?;
        let mut patterns = Vec::with_capacity(self.prefixes.len());
        for text in &self.prefixes {
            let pattern: KeyPattern = text.parse()?;
            if !allowed.may_hold(pattern.bucket(), pattern.prefix()) {
                return Err(guc::not_allowed(pattern.bucket(), pattern.prefix()));
            }
            patterns.push(pattern);
        }
        Ok(patterns)
    }
}

/// Writes the row of a new backfill, or takes up the unfinished one with the same arguments.
/// Returns its id, and whether it was taken up.
pub fn start(plan: &Plan) -> Result<(i64, bool)> {
    if ffi::in_transaction_block() {
        return Err(Error::InTransaction);
    }
    plan.patterns()?;
    let mode = plan.mode()?;
    let (id, taken_up) = insert(plan, mode)?;
    let what = if taken_up { "goes on" } else { "has begun" };
    let (prefixes, workers) = (plan.prefixes.join(", "), plan.parallel);
    guc::log_load(&format!("btc_ingest: backfill {id} {what}: mode {mode}, {workers} workers, {prefixes}"));
    Ok((id, taken_up))
}

fn insert(plan: &Plan, mode: BackfillMode) -> Result<(i64, bool)> {
    as_owner(|client, target| {
        target.must_have_key()?;
        if mode == BackfillMode::Chunk {
            let license = "SELECT to_json(current_setting('timescaledb.license', true))::text";
            if spi::fetch::<Option<String>>(client, license, &[])?.as_deref() != Some("timescale") {
                return Err(Error::NeedsCommunity { what: "mode => 'chunk'".into() });
            }
            let may_create = "SELECT has_schema_privilege('ingestion', 'CREATE')::text";
            if !spi::fetch::<bool>(client, may_create, &[])? {
                return Err(Error::OwnerMayNotCreate);
            }
        }
        // Calls with the same arguments at the same time start one backfill. A statement after the lock sees
        // what its last holder did.
        Lock::StartBackfill.take_for_transaction();
        let args = [
            plan.prefixes.clone().into(),
            plan.from.into(),
            plan.to.into(),
            plan.parallel.into(),
            mode.to_string().into(),
            plan.force.into(),
        ];
        if let Some(id) = spi::fetch(client, statement!("backfill_take_up"), &args)? {
            return Ok((id, true));
        }
        Ok((spi::fetch(client, statement!("backfill_new"), &args)?, false))
    })
}

/// A worker's place in a backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The backfill's id.
    pub backfill: i64,
    /// The number of the worker.
    pub slot: i32,
}

/// Asks the postmaster for the workers that an unfinished backfill lacks, as far as
/// `btc_ingest.max_backfill_workers` allows it. Returns how many it asked for.
pub fn start_workers(id: i64) -> Result<i32> {
    let (slots, missing) = as_owner(|client, _| {
        let missing = missing(client)?.into_iter().filter(|place| place.backfill == id);
        Ok((slots(client, id)?.len(), missing.collect::<Vec<_>>()))
    })?;
    // A slot that a process is about to take may look free. The second process of a slot ends at once.
    let started = missing.iter().filter(|place| processes::start_backfill(id, place.slot).is_some()).count();
    if started == 0 && !missing.is_empty() && missing.len() == slots {
        return Err(Error::NoWorker);
    }
    Ok(started as i32)
}

/// Returns the places for which a worker may be started: not more than `btc_ingest.max_backfill_workers` allows
/// for all backfills together, so that workers are left for live objects. Earlier backfills come first.
pub fn missing(client: &mut SpiClient<'_>) -> Result<Vec<Place>> {
    let mut backfills = unfinished(client)?;
    backfills.sort_unstable();
    let (mut busy, mut free) = (0, Vec::new());
    for backfill in backfills {
        for (slot, is_free) in slots(client, backfill)? {
            if is_free { free.push(Place { backfill, slot }) } else { busy += 1 }
        }
    }
    free.truncate((guc::max_backfill_workers() as usize).saturating_sub(busy));
    Ok(free)
}

/// How many workers a backfill has while it runs.
#[derive(Deserialize)]
struct Workers {
    parallel: i32,
    status: BackfillStatus,
}

/// Returns the worker slots of an unfinished backfill, and whether each is free. A backfill that has ended has none.
fn slots(client: &mut SpiClient<'_>, backfill: i64) -> Result<Vec<(i32, bool)>> {
    let sql = "SELECT json_build_object('parallel', parallel, 'status', status)::text
                 FROM ingestion.backfills WHERE id = $1";
    let row: Option<Workers> = spi::fetch_kept(client, sql, &[backfill.into()])?;
    let parallel = row.filter(|row| row.status.is_running()).map_or(0, |row| row.parallel);
    let is_free = |slot| {
        let lock = Lock::BackfillWorker { backfill, slot };
        let free = lock.try_for_session();
        if free {
            lock.release();
        }
        free
    };
    Ok((0..parallel).map(|slot| (slot, is_free(slot))).collect())
}

fn invalid(what: &str) -> Error {
    Error::InvalidBackfill { what: what.to_owned() }
}
