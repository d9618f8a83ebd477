//! One row of `ingestion.backfills`: the arguments of a backfill, and where it stands.

use pgrx::spi::SpiClient;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::model::backfill::{BackfillMode, BackfillStatus};
use crate::model::pattern::KeyPattern;
use crate::pg::listing::picker::within;
use crate::pg::queue::control::{self, Control};
use crate::pg::queue::outage::Probe;
use crate::pg::session::spi;

/// The chunk interval if the catalog names none, microseconds.
const DEFAULT_INTERVAL: i64 = 604_800_000_000;

/// A backfill as its row describes it.
pub struct Backfill {
    /// Its id.
    pub id: i64,
    /// Where it stands.
    pub status: BackfillStatus,
    /// How it loads.
    pub mode: BackfillMode,
    /// The prefixes that it lists.
    pub prefixes: Vec<KeyPattern>,
    /// The number of its workers.
    pub parallel: i32,
    /// Whether loaded objects are loaded again.
    pub force: bool,
    /// Objects that can hold times from here on belong to it; microseconds since 1970.
    pub from: Option<i64>,
    /// Objects that can hold times before this belong to it; microseconds since 1970.
    pub to: Option<i64>,
    /// Notes of its workers.
    pub state: State,
    /// Whether `pause_ingest()` has stopped all workers.
    pub paused: bool,
    /// Whether objects under one of its prefixes wait until S3 answers.
    pub waits_for_s3: bool,
    /// The prefixes that wait for S3, its own or not, and are to be looked at now.
    pub probes: Vec<Probe>,
    /// The chunk interval of the hypertable, microseconds.
    pub interval: i64,
}

/// The column `state`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct State {
    /// Where the listing continues.
    #[serde(flatten)]
    pub listing: ListingPosition,
    /// The jobs of the compression policies that the backfill has paused.
    pub paused_jobs: Option<Vec<i64>>,
}

/// Where a listing continues.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingPosition {
    /// The index of the prefix that is listed next.
    #[serde(default)]
    pub prefix: usize,
    /// The last key that was listed under this prefix.
    pub after: Option<String>,
}

/// The row of `backfill_state.sql`.
#[derive(Deserialize)]
struct Row {
    status: BackfillStatus,
    mode: BackfillMode,
    prefixes: Vec<String>,
    parallel: i32,
    force: bool,
    #[serde(deserialize_with = "spi::nullable")]
    from: Option<i64>,
    #[serde(deserialize_with = "spi::nullable")]
    to: Option<i64>,
    state: State,
    waits_for_s3: bool,
    #[serde(deserialize_with = "spi::nullable")]
    interval: Option<i64>,
}

impl Backfill {
    /// Reads the row. Returns `None` if there is none.
    pub fn read(client: &mut SpiClient<'_>, id: i64) -> Result<Option<Backfill>> {
        let row: Option<Row> = spi::fetch_kept(client, statement!("backfill_state"), &[id.into()])?;
        let Some(row) = row else { return Ok(None) };
        let Control { paused, probes } = control::read(client)?;
        Ok(Some(Backfill {
            id,
            status: row.status,
            mode: row.mode,
            prefixes: row.prefixes.iter().map(|text| text.parse()).collect::<Result<_>>()?,
            parallel: row.parallel,
            force: row.force,
            from: row.from,
            to: row.to,
            state: row.state,
            paused,
            waits_for_s3: row.waits_for_s3,
            probes,
            interval: row.interval.unwrap_or(DEFAULT_INTERVAL),
        }))
    }

    /// Returns whether the backfill builds whole chunks.
    pub fn by_chunks(&self) -> bool {
        self.mode == BackfillMode::Chunk
    }

    /// Returns whether the times of all objects must be known before the first one is loaded.
    pub fn needs_times(&self) -> bool {
        self.by_chunks() || self.from.is_some() || self.to.is_some()
    }

    /// Returns whether all objects must be listed before the first one is loaded. Objects that are loaded again wait
    /// for others, which must be known.
    pub fn lists_first(&self) -> bool {
        self.needs_times() || self.force
    }

    /// Returns whether a part of the prefix that is to be listed, or all that are to be listed, could be listed before.
    pub fn has_listed(&self) -> bool {
        let ListingPosition { prefix, after } = &self.state.listing;
        after.is_some() || *prefix >= self.prefixes.len()
    }

    /// Returns whether its workers may start more work.
    pub fn is_active(&self) -> bool {
        self.status.is_running() && !self.paused
    }

    /// Returns whether an object that can hold these times, microseconds since 1970, belongs to the backfill.
    pub fn wants(&self, first: i64, end: i64) -> bool {
        within(self.from, self.to, first, end)
    }
}

/// Returns the ids of the backfills that have work left for workers.
pub fn unfinished(client: &mut SpiClient<'_>) -> Result<Vec<i64>> {
    let sql = "SELECT coalesce(json_agg(id), '[]')::text FROM ingestion.backfills
                WHERE status IN ('pending', 'listing', 'loading')";
    spi::fetch_kept(client, sql, &[])
}
