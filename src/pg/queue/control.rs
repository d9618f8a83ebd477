//! Whether anything may be taken on: what `pause_ingest()` says to workers and sweeps.

use pgrx::spi::SpiClient;

use crate::error::Result;
use crate::pg::spi;

/// Whether nothing new is to be begun.
pub fn is_paused(client: &mut SpiClient<'_>) -> Result<bool> {
    Ok(spi::json_kept(client, "SELECT to_json(paused)::text FROM ingestion.control", &[])? == true)
}
