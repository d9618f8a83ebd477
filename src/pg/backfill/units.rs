//! Units: the chunks that a backfill in mode `chunk` builds as a whole. Each is planned, claimed, and finished once.

use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::row::Backfill;
use crate::error::Result;
use crate::pg::session::locks::Lock;
use crate::pg::session::spi;
use crate::pg::session::tx::tx;

/// Attempts that a unit has.
const MOST_ATTEMPTS: i32 = 3;

/// One chunk to be built, by its edges in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Unit {
    /// The first bucket.
    pub from: i64,
    /// The end, which is the first bucket of the next chunk.
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
    /// This unit is claimed.
    Unit(Unit),
    /// Other workers build the last ones.
    Wait,
    /// None is left.
    Over,
}

/// Plans the units of a backfill. Units that are planned already stay.
pub fn plan(backfill: &Backfill) -> Result<()> {
    tx(|client| {
        let args = [backfill.id.into(), backfill.interval.into()];
        spi::execute_kept(client, statement!("units_plan"), &args).map(drop)
    })
}

/// Claims the earliest unit that no other worker has claimed.
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
    spi::fetch_kept(client, statement!("unit_next"), &[backfill.id.into()])
}

/// Counts the attempt before it is made. After too many attempts that ended with their backend the unit's objects are loaded one
/// by one, and `false` is returned.
fn begin(client: &mut SpiClient<'_>, backfill: i64, unit: Unit) -> Result<bool> {
    let args = [backfill.into(), unit.from.into(), MOST_ATTEMPTS.into()];
    let status: Option<UnitStatus> = spi::fetch_kept(client, statement!("unit_begin"), &args)?;
    Ok(status == Some(UnitStatus::Pending))
}

impl Unit {
    fn lock(&self) -> Lock<'static> {
        Lock::Unit(self.from)
    }

    /// Releases the claim.
    pub fn release(&self) {
        self.lock().release();
    }
}
