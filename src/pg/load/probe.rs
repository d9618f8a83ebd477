//! The probe: it looks by ranges of trade ids whether ticks of a batch may be stored already, in their own
//! bucket or in a neighbouring one.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::chunk::{Chunk, around};
use crate::error::Result;
use crate::pg::session::ffi::Plan;
use crate::pg::session::spi::{self, PlannedStatement};
use crate::pg::session::time::timestamp;
use crate::tuple::batch::SliceRun;

const SQL: &str = statement!("probe");

/// Trade ids of one slice.
pub struct IdRange {
    /// Microseconds since 1970.
    pub bucket: i64,
    /// The asset.
    pub symbol: Arc<str>,
    /// The lowest id.
    pub first_id: i64,
    /// The highest id.
    pub last_id: i64,
}

impl From<&SliceRun> for IdRange {
    fn from(run: &SliceRun) -> Self {
        IdRange { bucket: run.bucket, symbol: run.symbol.clone(), first_id: run.first_id, last_id: run.last_id }
    }
}

/// Where ticks are stored within the ranges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Met {
    /// In a range's own bucket.
    pub own: bool,
    /// In the bucket before or behind it.
    pub near: bool,
}

thread_local! {
    /// The name of the last chunk, and its statement. Consecutive slices go to the same chunk, and planning takes
    /// longer than the probe itself.
    static LAST: RefCell<Option<(String, PlannedStatement)>> = const { RefCell::new(None) };
}

/// Looks for stored ticks within the ranges, which are sorted by bucket. If the chunk holds all their
/// buckets and the neighbouring ones, only the chunk is read.
pub fn probe(client: &mut SpiClient<'_>, ranges: &[IdRange], chunk: Option<&Chunk>) -> Result<Met> {
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Ok(Met::default()) };
    let mut buckets = Vec::with_capacity(ranges.len());
    for range in ranges {
        buckets.push(timestamp(range.bucket)?);
    }
    let args: [DatumWithOid<'_>; 6] = [
        buckets.into(),
        ranges.iter().map(|range| range.symbol.to_string()).collect::<Vec<_>>().into(),
        ranges.iter().map(|range| range.first_id).collect::<Vec<_>>().into(),
        ranges.iter().map(|range| range.last_id).collect::<Vec<_>>().into(),
        timestamp(first.bucket)?.into(),
        timestamp(last.bucket)?.into(),
    ];
    let found: Met = match chunk.filter(|chunk| chunk.holds(&around(first.bucket, last.bucket))) {
        Some(chunk) => {
            let plan = statement(client, chunk, &args)?;
            spi::fetch_by(client, &plan, &args)?
        }
        None => spi::fetch(client, SQL, &args)?,
    };
    Ok(found)
}

/// Returns the plan of the statement for one chunk.
fn statement(client: &mut SpiClient<'_>, chunk: &Chunk, args: &[DatumWithOid<'_>]) -> Result<Rc<Plan>> {
    let known = LAST.take().filter(|(name, _)| name == chunk.name());
    let (name, mut statement) = known.unwrap_or_else(|| (chunk.name().to_owned(), PlannedStatement::default()));
    let plan = statement.plan(client, &chunk.instead_of_hypertable(SQL), args)?;
    LAST.set(Some((name, statement)));
    Ok(plan)
}
