//! The sets of trade ids per asset (`ingestion.id_sets`), from which holes are found. Triggers add a set for each
//! statement that writes slices; here the sets of an asset become one.

use pgrx::spi::SpiClient;

use crate::error::Result;
use crate::pg::session::{ffi, spi};

/// Slices that loads record between two merges, on average.
const EVERY: i64 = 256;
/// Ranges that a set may have. A set of more is rewritten too slowly; the slices are read instead.
const MAX_RANGES: i64 = 100_000;

/// Merges the sets after a load, once in a while: then few stand at any time, and a merge is cheap. The time decides,
/// so that sessions which load a single object do their share.
pub fn merge_sometimes(client: &mut SpiClient<'_>, slices: usize) -> Result<()> {
    if ffi::now().rem_euclid(EVERY) < slices as i64 { merge(client, false) } else { Ok(()) }
}

/// Merges the sets of all assets, and gathers the ids of assets that have lost some anew.
pub fn merge_all(client: &mut SpiClient<'_>) -> Result<()> {
    merge(client, true)
}

fn merge(client: &mut SpiClient<'_>, lost_as_well: bool) -> Result<()> {
    let args = [lost_as_well.into(), MAX_RANGES.into()];
    spi::execute_kept(client, statement!("ids_merge"), &args).map(drop)
}
