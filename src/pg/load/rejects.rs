//! Rows that a load could not store (`landing.rejected_ticks`).

use pgrx::JsonB;
use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiClient;
use serde_json::Value;

use crate::error::Result;
use crate::pg::session::spi;

/// A row of an object that is not stored.
pub struct Reject {
    /// The row's number in the object.
    pub row: u64,
    /// Reason and values of the row. `None` if the row is beyond the number of rejected rows that the load keeps.
    pub kept: Option<(String, Value)>,
}

impl Reject {
    /// Runs a statement that returns row_number, reason and row_data, the last two of which may be null.
    pub fn query(client: &mut SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<Vec<Reject>> {
        let mut rejects = Vec::new();
        for row in spi::query(client, sql, args)? {
            let number: Option<i64> = row.get_by_name("row_number").map_err(spi::internal)?;
            let reason: Option<String> = row.get_by_name("reason").map_err(spi::internal)?;
            let data: Option<JsonB> = row.get_by_name("row_data").map_err(spi::internal)?;
            let number = number.ok_or_else(|| spi::unexpected("row_number is null"))?;
            rejects.push(Reject { row: number as u64, kept: reason.zip(data.map(|data| data.0)) });
        }
        Ok(rejects)
    }

    /// Returns why the row is not stored, if its reason is known.
    pub fn reason(&self) -> Option<&str> {
        self.kept.as_ref().map(|(reason, _)| reason.as_str())
    }
}

/// Stores rejected rows of one version of an object. A row without reason and values is left out.
pub fn insert_rejects(client: &mut SpiClient<'_>, uri: &str, etag: &str, rejects: Vec<Reject>) -> Result<()> {
    let mut rows = Vec::with_capacity(rejects.len());
    let mut reasons = Vec::with_capacity(rejects.len());
    let mut data = Vec::with_capacity(rejects.len());
    for reject in rejects {
        let Some((reason, values)) = reject.kept else { continue };
        rows.push(reject.row as i64);
        reasons.push(reason);
        data.push(JsonB(values));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let args = [uri.to_owned().into(), etag.to_owned().into(), rows.into(), reasons.into(), data.into()];
    spi::execute_kept(client, statement!("insert_rejects"), &args).map(drop)
}
