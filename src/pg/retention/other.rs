//! Chunks of candles and of other hypertables than the ticks. They are dropped because a row of `ops.retention_jobs`
//! says so: there are no objects that could prove anything.

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::chunk;
use super::outcome::Outcome;
use crate::error::Result;
use crate::pg::session::locks::Lock;
use crate::pg::session::time::timestamp;
use crate::pg::session::{report, spi};

/// A chunk that is due (`retention_other_next.sql`).
#[derive(Deserialize)]
struct Due {
    job: String,
    /// The hypertable or continuous aggregate, quoted.
    relation: String,
    /// The table of the chunk, quoted.
    chunk: String,
    /// Its start in microseconds since 1970.
    from: i64,
    /// Its end (exclusive).
    to: i64,
    /// Continuous aggregates over the hypertable.
    #[serde(deserialize_with = "spi::nullable")]
    based: Option<String>,
}

/// Does one step at the oldest chunk that is due and that the run, which began at `began`, has not looked at. Returns
/// `None` if there is none.
pub fn step(client: &mut SpiClient<'_>, began: TimestampWithTimeZone) -> Result<Option<Outcome>> {
    let due: Option<Due> = spi::fetch(client, statement!("retention_other_next"), &[began.into()])?;
    let Some(due) = due else {
        let gone = "DELETE FROM ops.chunk_drops k WHERE k.dropped_at IS NULL AND k.checked_at < $1";
        spi::execute(client, gone, &[began.into()])?;
        return Ok(None);
    };
    due.take_step(client).map(Some)
}

impl Due {
    fn take_step(&self, client: &mut SpiClient<'_>) -> Result<Outcome> {
        if let Some(based) = &self.based {
            return self.hold(client, format!("a refresh of {based} would lose what is dropped here"));
        }
        // A refresh may be computing its candles.
        if !Lock::Refresh.try_for_transaction() {
            return self.hold(client, "candles are being refreshed".into());
        }
        if !chunk::lock(client, &self.chunk)? {
            return self.hold(client, "another session uses it".into());
        }
        let count = format!("SELECT count(*)::text FROM {}", self.chunk);
        let rows: i64 = spi::fetch(client, &count, &[])?;
        self.record(client, Some(rows), None)?;
        chunk::drop_one(client, self.range()?, &self.relation)?;
        let Due { chunk, relation, job, .. } = self;
        report::log(&format!("btc_ingest retention: dropped {chunk} of {relation} with {rows} rows ({job})"));
        Ok(Outcome::Dropped)
    }

    fn range(&self) -> Result<[DatumWithOid<'static>; 2]> {
        Ok([timestamp(self.from)?.into(), timestamp(self.to)?.into()])
    }

    fn hold(&self, client: &mut SpiClient<'_>, why: String) -> Result<Outcome> {
        self.record(client, None, Some(why)).map(|()| Outcome::Held)
    }

    fn record(&self, client: &mut SpiClient<'_>, rows: Option<i64>, held_by: Option<String>) -> Result<()> {
        let [from, to] = self.range()?;
        let args = [self.relation.clone().into(), from, to, self.job.clone().into(), rows.into(), held_by.into()];
        spi::execute(client, statement!("retention_other_checked"), &args).map(drop)
    }
}
