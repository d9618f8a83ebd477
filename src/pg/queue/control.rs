//! What holds up loads: outages of S3, and the pause switch. `pause_ingest()` and `resume_ingest()` set it, workers and
//! sweeps obey it.

use pgrx::spi::SpiClient;

use serde::Deserialize;

use super::outage::Probe;
use crate::error::Result;
use crate::pg::session::spi;

/// What holds up loads (`control.sql`).
#[derive(Debug, Deserialize)]
pub struct Control {
    /// Whether `pause_ingest()` is in force.
    pub paused: bool,
    /// The prefixes that wait for S3 and are to be looked at now.
    pub probes: Vec<Probe>,
}

/// Reads what holds up loads.
pub fn read(client: &mut SpiClient<'_>) -> Result<Control> {
    let found: Option<Control> = spi::fetch_kept(client, statement!("control"), &[])?;
    Ok(found.unwrap_or(Control { paused: false, probes: Vec::new() }))
}

/// Returns whether the switch is set. Workers and sweeps start no load then.
pub fn is_paused(client: &mut SpiClient<'_>) -> Result<bool> {
    let paused: Option<bool> = spi::fetch_kept(client, "SELECT to_json(paused)::text FROM ingestion.control", &[])?;
    Ok(paused == Some(true))
}

/// Sets the switch. Returns `false` if it has this value already.
pub fn set_paused(client: &mut SpiClient<'_>, paused: bool) -> Result<bool> {
    let sql = "UPDATE ingestion.control SET paused = $1, changed_by = session_user, changed_at = now()
                WHERE paused <> $1";
    Ok(spi::execute(client, sql, &[paused.into()])? > 0)
}
