//! What the caller's session does: judges the arguments, writes or takes up the row, and asks for the workers.

use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::pattern::KeyPattern;
use crate::pg::target::as_owner;
use crate::pg::{ffi, guc, spi, worker};

/// More workers than this only wait for each other.
const MOST_WORKERS: i32 = 64;

/// The arguments of a backfill.
pub struct Plan {
    /// As they were given.
    pub prefixes: Vec<String>,
    /// Objects that can hold times from here on; null: all.
    pub from: Option<TimestampWithTimeZone>,
    /// Objects that can hold times before this; null: all.
    pub to: Option<TimestampWithTimeZone>,
    /// Workers.
    pub parallel: i32,
    /// `slice` or `chunk`.
    pub mode: String,
}

impl Plan {
    /// The prefixes, if all of them can be read and the other arguments can be meant.
    pub fn patterns(&self) -> Result<Vec<KeyPattern>> {
        if self.prefixes.is_empty() {
            return Err(invalid("prefixes is empty: name one s3://bucket/prefix at least"));
        }
        if let (Some(from), Some(to)) = (&self.from, &self.to)
            && from >= to
        {
            return Err(invalid("\"from\" must be before \"to\""));
        }
        if !(1..=MOST_WORKERS).contains(&self.parallel) {
            return Err(invalid(&format!("parallel must be between 1 and {MOST_WORKERS}")));
        }
        if !matches!(self.mode.as_str(), "slice" | "chunk") {
            return Err(invalid("mode must be 'slice' or 'chunk'"));
        }
        let allowed = guc::allowed_prefixes()?;
        let mut patterns = Vec::with_capacity(self.prefixes.len());
        for text in &self.prefixes {
            let pattern: KeyPattern = text.parse()?;
            if !allowed.may_hold(pattern.bucket(), pattern.prefix()) {
                return Err(Error::UriNotAllowed { allowed: guc::allowed_prefixes_text() });
            }
            patterns.push(pattern);
        }
        Ok(patterns)
    }
}

/// Writes the row of a new backfill, or takes up the unfinished one with the same prefixes, times and mode. Its id, and
/// whether it was taken up.
pub fn start(plan: &Plan) -> Result<(i64, bool)> {
    if ffi::in_transaction_block() {
        return Err(Error::InTransaction);
    }
    plan.patterns()?;
    as_owner(|client, _| {
        let requested_by = spi::json(client, "SELECT to_json(session_user)::text", &[])?;
        if plan.mode == "chunk" {
            let license = spi::json(client, "SELECT to_json(current_setting('timescaledb.license', true))::text", &[])?;
            if license != "timescale" {
                return Err(Error::NeedsCommunity { what: "mode => 'chunk'".into() });
            }
        }
        // Sessions that call at once begin one backfill. In a statement of its own, so that the next one sees what its last
        // holder did.
        spi::execute(client, "SELECT pg_advisory_xact_lock(hashtextextended('btc_ingest.start_backfill', 0))", &[])?;
        let args = [
            plan.prefixes.clone().into(),
            plan.from.into(),
            plan.to.into(),
            plan.parallel.into(),
            plan.mode.clone().into(),
            requested_by.as_str().unwrap_or_default().to_owned().into(),
        ];
        let found = spi::json(client, include_str!("../../../sql/queries/backfill_take_up.sql"), &args[..5])?;
        if let Some(id) = found["id"].as_i64() {
            return Ok((id, true));
        }
        let made = spi::json(client, include_str!("../../../sql/queries/backfill_new.sql"), &args)?;
        made["id"].as_i64().map(|id| (id, false)).ok_or_else(|| Error::Internal { why: "no new backfill".into() })
    })
}

/// Asks for the workers that an unfinished backfill lacks; how many were asked for.
pub fn start_workers(id: i64) -> Result<i32> {
    let slots = as_owner(|client, _| slots(client, id))?;
    // One that is about to be taken may look free: its second worker ends at once.
    let missing: Vec<i32> = slots.iter().filter(|(_, free)| *free).map(|(slot, _)| *slot).collect();
    let started = missing.iter().filter(|slot| worker::start_backfill(id, **slot).is_some()).count();
    if started == 0 && !missing.is_empty() && missing.len() == slots.len() {
        return Err(Error::NoWorker);
    }
    Ok(started as i32)
}

/// The slots for workers of an unfinished backfill, and whether each is free.
pub fn slots(client: &mut SpiClient<'_>, id: i64) -> Result<Vec<(i32, bool)>> {
    let found = spi::json_kept(client, include_str!("../../../sql/queries/backfill_slots.sql"), &[id.into()])?;
    let slot = |row: &Value| (row["slot"].as_i64().unwrap_or(0) as i32, row["free"] == true);
    Ok(found.as_array().into_iter().flatten().map(slot).collect())
}

fn invalid(what: &str) -> Error {
    Error::InvalidBackfill { what: what.to_owned() }
}
