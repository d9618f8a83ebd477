//! Rows that a load could not store (`landing.rejected_ticks`).

use pgrx::JsonB;
use pgrx::spi::SpiClient;
use serde_json::Value;

use crate::error::Result;
use crate::pg::session::spi;

/// Stores rows that were refused: (row of the object, reason, the row).
pub fn insert_rejects(
    client: &mut SpiClient<'_>,
    uri: &str,
    etag: &str,
    rejects: Vec<(u64, String, Value)>,
) -> Result<()> {
    if rejects.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(rejects.len());
    let mut reasons = Vec::with_capacity(rejects.len());
    let mut data = Vec::with_capacity(rejects.len());
    for (row, reason, values) in rejects {
        rows.push(row as i64);
        reasons.push(reason);
        data.push(JsonB(values));
    }
    let args = [uri.to_owned().into(), etag.to_owned().into(), rows.into(), reasons.into(), data.into()];
    spi::execute_kept(client, statement!("insert_rejects"), &args).map(drop)
}
