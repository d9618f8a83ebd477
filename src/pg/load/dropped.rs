//! Ranges whose ticks retention has dropped: no load brings them back unless it is told to.

use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::pg::session::spi;
use crate::pg::session::time::{date, timestamp};
use crate::tuple::batch::SliceRun;

/// The dropped ranges that a load may meet. It asks only for those around its own buckets.
#[derive(Debug, Default)]
pub struct DroppedRanges {
    /// Where the buckets begin that it has asked for, and before which bucket they end.
    asked: Option<(i64, i64)>,
    /// Asset, start and end (exclusive), in microseconds since 1970.
    ranges: Vec<(String, i64, i64)>,
}

/// What is dropped around some buckets (`dropped_ranges.sql`).
#[derive(Deserialize)]
struct Around {
    ranges: Vec<(String, i64, i64)>,
    #[serde(deserialize_with = "spi::nullable")]
    next: Option<i64>,
}

impl DroppedRanges {
    /// Refuses ticks of a range that was dropped and that no role wants back. The runs are in the order of their
    /// buckets.
    pub fn refuse(&mut self, client: &mut SpiClient<'_>, runs: &[&SliceRun]) -> Result<()> {
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Ok(()) };
        if !self.asked.is_some_and(|(from, to)| from <= first.bucket && last.bucket < to) {
            self.ask(client, first.bucket, last.bucket)?;
        }
        let of = |run: &&SliceRun| {
            let holds =
                |(asset, from, to): &&(String, i64, i64)| **asset == *run.symbol && (*from..*to).contains(&run.bucket);
            self.ranges.iter().find(holds)
        };
        match runs.iter().find_map(of) {
            None => Ok(()),
            Some((asset, from, to)) => {
                Err(Error::DroppedRange { asset: asset.clone(), from: date(*from), to: date(*to) })
            }
        }
    }

    fn ask(&mut self, client: &mut SpiClient<'_>, first: i64, last: i64) -> Result<()> {
        let args = [timestamp(first)?.into(), timestamp(last)?.into()];
        let Around { ranges, next } = spi::fetch_kept(client, statement!("dropped_ranges"), &args)?;
        self.ranges = ranges;
        self.asked = Some((first, next.unwrap_or(i64::MAX)));
        Ok(())
    }
}

/// Returns whether a loaded version of an object holds ticks of dropped ranges only, so that it need not be read again.
pub fn holds_only_dropped(client: &mut SpiClient<'_>, uri: &str) -> Result<bool> {
    spi::fetch_kept(client, statement!("dropped_object"), &[uri.to_owned().into()])
}
