//! Ranges whose ticks retention has dropped: no load brings them back unless it is told to.

use pgrx::spi::SpiClient;

use crate::error::{Error, Result};
use crate::pg::session::spi;
use crate::pg::session::time::date;
use crate::tuple::batch::SliceRun;

/// The dropped ranges that no role wants back: asset, start and end (exclusive) in microseconds since 1970.
#[derive(Debug, Default)]
pub struct DroppedRanges(Vec<(String, i64, i64)>);

impl DroppedRanges {
    /// Reads them. There are few: one per chunk and asset.
    pub fn read(client: &mut SpiClient<'_>) -> Result<DroppedRanges> {
        spi::fetch_kept(client, statement!("dropped_ranges"), &[]).map(DroppedRanges)
    }

    /// Refuses ticks of a range that was dropped.
    pub fn refuse(&self, runs: &[&SliceRun]) -> Result<()> {
        let of = |run: &&SliceRun| {
            let holds =
                |(asset, from, to): &&(String, i64, i64)| **asset == *run.symbol && (*from..*to).contains(&run.bucket);
            self.0.iter().find(holds)
        };
        match runs.iter().find_map(of) {
            None => Ok(()),
            Some((asset, from, to)) => {
                Err(Error::DroppedRange { asset: asset.clone(), from: date(*from), to: date(*to) })
            }
        }
    }
}

/// Returns whether a loaded version of an object holds ticks of dropped ranges only, so that it need not be read again.
pub fn holds_only_dropped(client: &mut SpiClient<'_>, uri: &str) -> Result<bool> {
    spi::fetch_kept(client, statement!("dropped_object"), &[uri.to_owned().into()])
}
