//! Statements in the caller's transaction. Every one takes a fresh snapshot, so that a check made after a lock sees what
//! the lock's last holder committed.

use pgrx::datum::DatumWithOid;
use pgrx::spi::{SpiClient, SpiError, SpiTupleTable};
use serde_json::Value;

use crate::error::{Error, Result};

/// Runs a statement and returns its rows.
pub fn query<'conn>(
    client: &mut SpiClient<'conn>,
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Result<SpiTupleTable<'conn>> {
    // `update` rather than `select`: the latter keeps the snapshot of the calling statement.
    client.update(sql, None, args).map_err(internal)
}

/// Runs a statement and returns how many rows it touched.
pub fn execute(client: &mut SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<u64> {
    Ok(query(client, sql, args)?.len() as u64)
}

/// Runs a statement whose one row has one text column that holds JSON; null for no row.
pub fn json(client: &mut SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<Value> {
    let table = query(client, sql, args)?;
    if table.is_empty() {
        return Ok(Value::Null);
    }
    let text: Option<String> = table.first().get(1).map_err(internal)?;
    text.map_or(Ok(Value::Null), |text| {
        serde_json::from_str(&text).map_err(|error| Error::Internal { why: error.to_string() })
    })
}

/// An error of the interface itself; PostgreSQL's own errors do not come this way, they unwind.
pub fn internal(error: SpiError) -> Error {
    Error::Internal { why: format!("SPI: {error}") }
}
