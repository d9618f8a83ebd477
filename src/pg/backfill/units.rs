//! Units: the chunks that a backfill in mode `chunk` builds as a whole. Each is planned, claimed, and
//! finished once.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::row::Backfill;
use super::start::MOST_WORKERS;
use crate::error::Result;
use crate::pg::session::locks::Lock;
use crate::pg::session::spi;
use crate::pg::session::time::timestamp;
use crate::pg::session::tx::tx;

/// How often a unit is attempted.
const MOST_ATTEMPTS: i32 = 3;

/// How many chunks an object may reach over to be read for each of them. An object that reaches over more is loaded on
/// its own.
pub const MOST_CHUNKS: i64 = 64;
/// Units that are looked at to find a free one. Fewer are claimed: there are at most [`MOST_WORKERS`] workers.
const LOOK_AT: i64 = MOST_WORKERS as i64 + 1;

/// One chunk to be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Unit {
    /// The first bucket, microseconds since 1970.
    pub from: i64,
    /// The first bucket of the next chunk, microseconds since 1970.
    pub to: i64,
}

/// Where a unit stands (`backfill_chunks.status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitStatus {
    /// It is to be built.
    Pending,
    /// It is a chunk of the hypertable.
    Attached,
    /// Its objects are loaded one by one.
    Objects,
}

impl UnitStatus {
    /// Returns the text that the table holds.
    pub fn as_str(self) -> &'static str {
        match self {
            UnitStatus::Pending => "pending",
            UnitStatus::Attached => "attached",
            UnitStatus::Objects => "objects",
        }
    }
}

/// The next thing to do with a backfill's units.
pub enum Next {
    /// This unit is claimed and must be built.
    Unit(Unit),
    /// Other workers build the last units.
    Wait,
    /// No unit is left.
    Over,
}

/// Plans the units of a backfill. Units that are planned already stay as they are.
pub fn plan(backfill: &Backfill) -> Result<()> {
    tx(|client| {
        let args = [backfill.id.into(), backfill.interval.into(), MOST_CHUNKS.into()];
        spi::execute_kept(client, statement!("units_plan"), &args).map(drop)
    })
}

/// Claims the earliest unit that no other worker has claimed, and counts the attempt.
pub fn next(backfill: &Backfill) -> Result<Next> {
    tx(|client| {
        let units = pending(client, backfill)?;
        for unit in &units {
            if !unit.lock().try_for_session() {
                continue;
            }
            // A statement after the lock sees what its last holder did.
            if pending(client, backfill)?.iter().any(|other| other.from == unit.from)
                && begin(client, backfill.id, *unit)?
            {
                return Ok(Next::Unit(*unit));
            }
            unit.release();
        }
        Ok(if units.is_empty() { Next::Over } else { Next::Wait })
    })
}

fn pending(client: &mut SpiClient<'_>, backfill: &Backfill) -> Result<Vec<Unit>> {
    spi::fetch_kept(client, statement!("unit_next"), &[backfill.id.into(), LOOK_AT.into()])
}

/// Counts an attempt before the unit is built, so that an attempt that ends its backend is counted as well.
/// Returns `false` if the unit has had all its attempts; its objects are then loaded one by one.
fn begin(client: &mut SpiClient<'_>, backfill: i64, unit: Unit) -> Result<bool> {
    let args = [backfill.into(), unit.times()?.0.into(), MOST_ATTEMPTS.into()];
    let status: Option<UnitStatus> = spi::fetch_kept(client, statement!("unit_begin"), &args)?;
    Ok(status == Some(UnitStatus::Pending))
}

impl Unit {
    /// Returns the start and the end of the chunk.
    pub fn times(&self) -> Result<(TimestampWithTimeZone, TimestampWithTimeZone)> {
        Ok((timestamp(self.from)?, timestamp(self.to)?))
    }

    fn lock(&self) -> Lock<'static> {
        Lock::Unit(self.from)
    }

    /// Returns whether this worker still has the claim, or has it again. Inside a transaction.
    pub fn keep(&self) -> bool {
        self.lock().keep()
    }

    /// Releases the claim, in a transaction or outside.
    pub fn release(&self) {
        self.lock().release();
    }
}
