//! Statements in the caller's transaction. Every one takes a fresh snapshot, so that a check made after a lock sees what
//! the lock's last holder committed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::PgOid;
use pgrx::datum::DatumWithOid;
use pgrx::spi::{OwnedPreparedStatement, Query, SpiClient, SpiError, SpiTupleTable};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ffi;
use crate::error::{Error, Result};

/// Runs a statement and returns its rows.
pub fn query<'conn>(
    client: &mut SpiClient<'conn>,
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Result<SpiTupleTable<'conn>> {
    run(client, sql, args)
}

fn run<'conn, Q: Query<'conn>>(
    client: &mut SpiClient<'conn>,
    query: Q,
    args: &[DatumWithOid<'_>],
) -> Result<SpiTupleTable<'conn>> {
    // `select` keeps the snapshot of the calling statement. `update` takes a transaction id, and a standby has none to give.
    let found = if ffi::in_recovery() { client.select(query, None, args) } else { client.update(query, None, args) };
    found.map_err(internal)
}

/// Runs a statement and returns how many rows it touched.
pub fn execute(client: &mut SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<u64> {
    Ok(query(client, sql, args)?.len() as u64)
}

thread_local! {
    /// Plans that this session keeps. Only statements over registry tables: those over the hypertable want a plan for the
    /// chunks that their arguments name, and those over `incoming_ticks` one for the batch of the moment.
    static KEPT: RefCell<HashMap<&'static str, Rc<OwnedPreparedStatement>>> = RefCell::default();
}

/// A statement whose plan its caller keeps.
pub fn prepare(client: &mut SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<Rc<OwnedPreparedStatement>> {
    let types: Vec<PgOid> = args.iter().map(|arg| PgOid::from(arg.oid())).collect();
    Ok(Rc::new(client.prepare_mut(sql, &types).map_err(internal)?.keep()))
}

/// Runs a statement whose plan the session keeps.
pub fn query_kept<'conn>(
    client: &mut SpiClient<'conn>,
    sql: &'static str,
    args: &[DatumWithOid<'_>],
) -> Result<SpiTupleTable<'conn>> {
    let known = KEPT.with_borrow(|kept| kept.get(sql).cloned());
    let plan = match known {
        Some(plan) => plan,
        None => {
            let plan = prepare(client, sql, args)?;
            KEPT.with_borrow_mut(|kept| kept.insert(sql, plan.clone()));
            plan
        }
    };
    run(client, &*plan, args)
}

/// [`execute`] with a plan that the session keeps.
pub fn execute_kept(client: &mut SpiClient<'_>, sql: &'static str, args: &[DatumWithOid<'_>]) -> Result<u64> {
    Ok(query_kept(client, sql, args)?.len() as u64)
}

/// [`json`] with a plan that the session keeps.
pub fn json_kept(client: &mut SpiClient<'_>, sql: &'static str, args: &[DatumWithOid<'_>]) -> Result<Value> {
    parsed(query_kept(client, sql, args)?)
}

/// Runs a statement whose one row has one text column that holds JSON; null if there is no row.
pub fn json(client: &mut SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<Value> {
    parsed(query(client, sql, args)?)
}

/// Runs a statement whose one row has one text column that holds JSON, and deserialises it. `Option` stands for a null and for
/// no row. A key that is missing, misspelt or of another type is an error.
pub fn fetch<T: DeserializeOwned>(client: &mut SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<T> {
    parsed(query(client, sql, args)?)
}

/// [`fetch`] with a plan that the session keeps.
pub fn fetch_kept<T: DeserializeOwned>(
    client: &mut SpiClient<'_>,
    sql: &'static str,
    args: &[DatumWithOid<'_>],
) -> Result<T> {
    parsed(query_kept(client, sql, args)?)
}

/// [`fetch`] of a prepared statement.
pub fn fetch_prepared<T: DeserializeOwned>(
    client: &mut SpiClient<'_>,
    plan: &OwnedPreparedStatement,
    args: &[DatumWithOid<'_>],
) -> Result<T> {
    parsed(run(client, plan, args)?)
}

fn parsed<T: DeserializeOwned>(table: SpiTupleTable<'_>) -> Result<T> {
    let text: Option<String> = if table.is_empty() { None } else { table.first().get(1).map_err(internal)? };
    serde_json::from_str(text.as_deref().unwrap_or("null")).map_err(|error| Error::Internal {
        why: format!("a statement of the extension returned an unexpected row: {error}"),
    })
}

/// An error of the interface itself; PostgreSQL's own errors do not come this way, they unwind.
pub fn internal(error: SpiError) -> Error {
    Error::Internal { why: format!("SPI: {error}") }
}
