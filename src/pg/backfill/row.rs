//! One row of `ingestion.backfills`: what a backfill is to do, and where it stands.

use pgrx::spi::SpiClient;
use serde::Deserialize;
use serde_json::Value;

use crate::error::Result;
use crate::model::backfill::{BackfillMode, BackfillStatus};
use crate::model::pattern::KeyPattern;
use crate::pg::queue::listed::within;
use crate::pg::session::spi;

/// The chunk interval of a hypertable whose dimension names none, microseconds.
const DEFAULT_INTERVAL: i64 = 604_800_000_000;

/// A backfill as its row describes it.
pub struct Backfill {
    /// Its id.
    pub id: i64,
    /// Where it stands.
    pub status: BackfillStatus,
    /// How it loads.
    pub mode: BackfillMode,
    /// What it lists.
    pub prefixes: Vec<KeyPattern>,
    /// How many workers it has at most.
    pub parallel: i32,
    /// Objects that can hold times from here on belong to it; microseconds since 1970.
    pub from: Option<i64>,
    /// Objects that can hold times before this belong to it; microseconds since 1970.
    pub to: Option<i64>,
    /// What its workers have noted.
    pub state: State,
    /// Whether `pause_ingest()` is in force.
    pub paused: bool,
    /// The chunk interval of the hypertable, microseconds.
    pub interval: i64,
}

/// The column `state`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct State {
    /// The number of the prefix at which the listing goes on.
    #[serde(default)]
    pub prefix: usize,
    /// The key behind which it goes on.
    pub after: Option<String>,
    /// The jobs of compression policies that are paused.
    pub paused_jobs: Option<Value>,
}

/// The row of `backfill_state.sql`.
#[derive(Deserialize)]
struct Row {
    status: BackfillStatus,
    mode: BackfillMode,
    prefixes: Vec<String>,
    parallel: i32,
    from: Option<i64>,
    to: Option<i64>,
    state: State,
    paused: bool,
    interval: Option<i64>,
}

impl Backfill {
    /// Reads the row. Returns `None` if there is none.
    pub fn read(client: &mut SpiClient<'_>, id: i64) -> Result<Option<Backfill>> {
        let row: Option<Row> = spi::fetch_kept(client, statement!("backfill_state"), &[id.into()])?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Backfill {
            id,
            status: row.status,
            mode: row.mode,
            prefixes: row.prefixes.iter().map(|text| text.parse()).collect::<Result<_>>()?,
            parallel: row.parallel,
            from: row.from,
            to: row.to,
            state: row.state,
            paused: row.paused,
            interval: row.interval.unwrap_or(DEFAULT_INTERVAL),
        }))
    }

    /// Returns whether it builds whole chunks.
    pub fn by_chunks(&self) -> bool {
        self.mode == BackfillMode::Chunk
    }

    /// Returns whether objects must be judged by their times, so that the times must be known before they are loaded.
    pub fn needs_times(&self) -> bool {
        self.by_chunks() || self.from.is_some() || self.to.is_some()
    }

    /// Returns whether its workers may go on.
    pub fn is_active(&self) -> bool {
        self.status.is_running() && !self.paused
    }

    /// Returns whether an object that can hold these times, microseconds since 1970, belongs to the backfill.
    pub fn wants(&self, first: i64, end: i64) -> bool {
        within(self.from, self.to, first, end)
    }
}

/// Returns the ids of backfills that are not finished.
pub fn unfinished(client: &mut SpiClient<'_>) -> Result<Vec<i64>> {
    let sql = "SELECT coalesce(json_agg(id), '[]')::text FROM ingestion.backfills
                WHERE status IN ('pending', 'listing', 'loading')";
    spi::fetch_kept(client, sql, &[])
}
