//! Statements in the caller's transaction. Each statement takes a fresh snapshot, so that a check made
//! after a lock sees what the lock's last holder committed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::thread::LocalKey;

use pgrx::PgOid;
use pgrx::datum::DatumWithOid;
use pgrx::spi::{OwnedPreparedStatement, Query, SpiClient, SpiError, SpiTupleTable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::ffi::{self, Plan};
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
    // `select` keeps the snapshot of the calling statement, so it is used only where `update` is
    // impossible: `update` takes a transaction id, and a standby cannot assign one.
    let found = ffi::with_sqlstates(|| {
        if ffi::in_recovery() { client.select(query, None, args) } else { client.update(query, None, args) }
    });
    found.map_err(internal)
}

/// Runs a statement and returns the number of its rows.
pub fn execute(client: &mut SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<u64> {
    Ok(query(client, sql, args)?.len() as u64)
}

/// Plans by the text of their statement.
type Kept = RefCell<HashMap<&'static str, Rc<OwnedPreparedStatement>>>;

thread_local! {
    /// Plans that this session keeps, by the text of the statement. Only statements over plain tables: a
    /// statement over the hypertable needs a plan for the chunks that its arguments name, and a statement
    /// over `incoming_ticks` needs a plan for the current batch.
    static KEPT: Kept = RefCell::default();
}

/// [`query`] with a plan that the session keeps.
pub fn query_kept<'conn>(
    client: &mut SpiClient<'conn>,
    sql: &'static str,
    args: &[DatumWithOid<'_>],
) -> Result<SpiTupleTable<'conn>> {
    let plan = kept(&KEPT, sql, args, |types| Ok(client.prepare_mut(sql, types)?.keep()))?;
    run(client, &*plan, args)
}

/// Returns the plan of a statement, and makes it if there is none.
fn kept(
    plans: &'static LocalKey<Kept>,
    sql: &'static str,
    args: &[DatumWithOid<'_>],
    prepare: impl FnOnce(&[PgOid]) -> std::result::Result<OwnedPreparedStatement, SpiError>,
) -> Result<Rc<OwnedPreparedStatement>> {
    if let Some(plan) = plans.with_borrow(|plans| plans.get(sql).cloned()) {
        return Ok(plan);
    }
    let types: Vec<PgOid> = args.iter().map(|arg| PgOid::from(arg.oid())).collect();
    let plan = Rc::new(ffi::with_sqlstates(|| prepare(&types)).map_err(internal)?);
    plans.with_borrow_mut(|plans| plans.insert(sql, plan.clone()));
    Ok(plan)
}

/// [`execute`] with a plan that the session keeps.
pub fn execute_kept(client: &mut SpiClient<'_>, sql: &'static str, args: &[DatumWithOid<'_>]) -> Result<u64> {
    Ok(query_kept(client, sql, args)?.len() as u64)
}

/// The most uses of a plan for all arguments.
const MOST_USES: u32 = 1024;

/// A statement with one plan for all arguments. PostgreSQL itself would plan a statement with arrays each time, which
/// takes longer than the statement.
///
/// The plan fits the tables as they were when it was made, and these may have been empty. So it is made anew after one
/// use, after two more, after four more and so on: the tables that such a statement reads do not grow much meanwhile.
#[derive(Default)]
pub struct PlannedStatement {
    plan: Option<Rc<Plan>>,
    /// How many more uses the plan has.
    left: u32,
    /// How many it had at first.
    uses: u32,
}

impl PlannedStatement {
    /// Returns the plan. The text is always the same, and so are the types of the arguments.
    pub fn plan(&mut self, client: &SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<Rc<Plan>> {
        if let Some(plan) = self.plan.as_ref().filter(|_| self.left > 0) {
            self.left -= 1;
            return Ok(plan.clone());
        }
        let plan = Rc::new(Plan::prepare(client, sql, args)?);
        self.uses = self.uses.saturating_mul(2).clamp(1, MOST_USES);
        self.left = self.uses - 1;
        self.plan = Some(plan.clone());
        Ok(plan)
    }
}

thread_local! {
    /// Statements with one plan for all arguments that this session keeps, by their texts. There are few texts.
    static PLANNED: RefCell<HashMap<String, PlannedStatement>> = RefCell::default();
}

/// [`execute`] with one plan for all arguments.
pub fn execute_planned(client: &mut SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<u64> {
    planned(client, sql, args)?.execute(client, args)
}

/// [`fetch`] with one plan for all arguments.
pub fn fetch_planned<T: DeserializeOwned>(
    client: &mut SpiClient<'_>,
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Result<T> {
    let plan = planned(client, sql, args)?;
    fetch_by(client, &plan, args)
}

fn planned(client: &mut SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<Rc<Plan>> {
    // Nothing is borrowed while PostgreSQL prepares.
    let known = PLANNED.with_borrow_mut(|planned| planned.remove_entry(sql));
    let (text, mut statement) = known.unwrap_or_else(|| (sql.to_owned(), PlannedStatement::default()));
    let plan = statement.plan(client, sql, args)?;
    PLANNED.with_borrow_mut(|planned| planned.insert(text, statement));
    Ok(plan)
}

/// Runs a statement whose one row has one text column that holds JSON, and deserialises it. Null and no row
/// become `None` if `T` is an `Option`, and an error if it is not. A key that is missing, misspelt or of
/// another type is an error; for a key that may be null the field needs [`nullable`], because serde reads a
/// missing `Option` as `None` by itself.
pub fn fetch<T: DeserializeOwned>(client: &mut SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<T> {
    parsed(query(client, sql, args)?)
}

/// [`fetch`] in the snapshot of the calling statement: several such statements of one call see the same rows.
pub fn fetch_in_snapshot<T: DeserializeOwned>(
    client: &SpiClient<'_>,
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Result<T> {
    parsed(ffi::with_sqlstates(|| client.select(sql, None, args)).map_err(internal)?)
}

thread_local! {
    /// Plans of statements that only read in the snapshot of their caller, by their texts. Whether a plan may do that
    /// is settled when it is made, so none of [`KEPT`] is used for it.
    static READING: Kept = RefCell::default();
}

/// [`fetch_in_snapshot`] with a plan that the session keeps.
pub fn fetch_kept_in_snapshot<T: DeserializeOwned>(
    client: &SpiClient<'_>,
    sql: &'static str,
    args: &[DatumWithOid<'_>],
) -> Result<T> {
    let plan = kept(&READING, sql, args, |types| Ok(client.prepare(sql, types)?.keep()))?;
    parsed(ffi::with_sqlstates(|| client.select(&*plan, None, args)).map_err(internal)?)
}

/// [`fetch`] with a plan that the session keeps.
pub fn fetch_kept<T: DeserializeOwned>(
    client: &mut SpiClient<'_>,
    sql: &'static str,
    args: &[DatumWithOid<'_>],
) -> Result<T> {
    parsed(query_kept(client, sql, args)?)
}

/// [`fetch`] with a plan.
pub fn fetch_by<T: DeserializeOwned>(client: &mut SpiClient<'_>, plan: &Plan, args: &[DatumWithOid<'_>]) -> Result<T> {
    read(plan.text(client, args)?)
}

fn parsed<T: DeserializeOwned>(table: SpiTupleTable<'_>) -> Result<T> {
    read(if table.is_empty() { None } else { table.first().get(1).map_err(internal)? })
}

fn read<T: DeserializeOwned>(text: Option<String>) -> Result<T> {
    serde_json::from_str(text.as_deref().unwrap_or("null")).map_err(|error| unexpected(&error.to_string()))
}

/// Returns the error of a row that is not what the statement is written to return.
pub fn unexpected(why: &str) -> Error {
    Error::Internal { why: format!("a statement of the extension returned an unexpected row: {why}") }
}

/// Deserialises a key that must be there and may be null: `#[serde(deserialize_with = "spi::nullable")]`.
pub fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(key: D) -> std::result::Result<Option<T>, D::Error> {
    Option::deserialize(key)
}

/// Converts an error of the interface itself. An error that a statement raises does not come this way: it unwinds.
pub fn internal(error: SpiError) -> Error {
    Error::Internal { why: format!("SPI: {error}") }
}
