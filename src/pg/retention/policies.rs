//! TimescaleDB's jobs as the rows of `ops.retention_jobs` want them. TimescaleDB's functions run with the privileges of
//! the tables' owner, because they may call functions that belong to a job.

use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::pg::session::ffi;
use crate::pg::session::shared::wake_at_commit;
use crate::pg::session::spi;
use crate::pg::session::target::{as_owner, as_reading_owner};

/// What the Apache edition lacks.
const NEEDS_COMMUNITY: &str = "compression needs TimescaleDB's Community edition";

/// The rows (`retention_rows.sql`).
#[derive(Deserialize)]
struct Rows {
    /// Whether TimescaleDB's edition has jobs and compression.
    community: bool,
    rows: Vec<Row>,
}

/// A row.
#[derive(Deserialize)]
struct Row {
    job: String,
    hypertable: String,
    /// The policy as the text of its JSON.
    policy: String,
    enabled: bool,
    compresses: bool,
    drops: bool,
}

/// What differs (`retention_calls.sql`).
#[derive(Deserialize)]
struct Calls {
    problems: Vec<Problem>,
    steps: Vec<Step>,
}

/// Why a row cannot be applied.
#[derive(Deserialize)]
struct Problem {
    job: String,
    what: String,
}

/// A statement, and what is wrong without it.
#[derive(Deserialize)]
struct Step {
    job: String,
    what: String,
    sql: String,
}

/// What was done for a row.
pub struct Applied {
    /// The name of the row.
    pub job: String,
    /// What was wrong and has been mended, or why nothing was done.
    pub done: String,
}

/// The difference between the rows and the jobs.
pub struct Drift {
    /// What is wrong, each with the name of its row.
    pub wrong: Vec<String>,
    /// What the Apache edition lacks for rows that are enabled, each with the name of its row.
    pub lacking: Vec<String>,
    /// The names of the enabled rows that drop chunks.
    pub drops: Vec<String>,
}

/// Makes the jobs those that the rows want.
pub fn apply() -> Result<Vec<Applied>> {
    let rows: Rows = as_owner(|client, _| spi::fetch(client, statement!("retention_rows"), &[]))?;
    // Workers drop chunks as soon as a row wants it.
    wake_at_commit();
    let enabled = checked(&rows)?;
    if !rows.community {
        let done = |job: &String| Applied { job: job.clone(), done: format!("nothing: {NEEDS_COMMUNITY}") };
        let compressing = rows.rows.iter().filter(|row| row.enabled && row.compresses);
        return Ok(compressing.map(|row| done(&row.job)).collect());
    }
    as_owner(|client, _| {
        let calls = calls(client, enabled)?;
        if let Some(Problem { job, what }) = calls.problems.into_iter().next() {
            return Err(Error::PolicyNotApplied { job, what });
        }
        calls.steps.iter().try_for_each(|step| spi::execute(client, &step.sql, &[]).map(drop))?;
        Ok(calls.steps.into_iter().map(|step| Applied { job: step.job, done: step.what }).collect())
    })
}

/// Compares the jobs with the rows, and changes nothing.
pub fn drift() -> Result<Drift> {
    let rows: Rows = as_reading_owner(|client| spi::fetch(client, statement!("retention_rows"), &[]))?;
    let enabled = rows.rows.iter().filter(|row| row.enabled);
    let drops = enabled.clone().filter(|row| row.drops).map(|row| row.job.clone()).collect();
    let mut drift = Drift { wrong: Vec::new(), lacking: Vec::new(), drops };
    match checked(&rows) {
        Err(error) => drift.wrong.push(error.to_string()),
        Ok(_) if !rows.community => {
            let compressing = enabled.filter(|row| row.compresses);
            drift.lacking = compressing.map(|row| format!("{}: {NEEDS_COMMUNITY}", row.job)).collect();
        }
        Ok(enabled) => {
            let Calls { problems, steps } = as_reading_owner(|client| calls(client, enabled))?;
            drift.wrong.extend(problems.into_iter().map(|Problem { job, what }| format!("{job}: {what}")));
            drift.wrong.extend(steps.into_iter().map(|step| format!("{}: {}", step.job, step.what)));
        }
    }
    Ok(drift)
}

fn calls(client: &mut SpiClient<'_>, enabled: Vec<String>) -> Result<Calls> {
    spi::fetch(client, statement!("retention_calls"), &[enabled.into(), ffi::has_shared_memory().into()])
}

/// Returns the names of the enabled rows, or the first one that is wrong. Rows that stood before the trigger may be.
fn checked(rows: &Rows) -> Result<Vec<String>> {
    let enabled: Vec<&Row> = rows.rows.iter().filter(|row| row.enabled).collect();
    for row in &enabled {
        let sql = "SELECT to_json(btc_ingest_internal.retention_fault($1, $2::jsonb, true))::text";
        let args = [row.hypertable.clone().into(), row.policy.clone().into()];
        // With the privileges of the extension's owner: it reads catalogs only.
        if let Some(what) = Spi::connect_mut(|client| spi::fetch::<Option<String>>(client, sql, &args))? {
            return Err(Error::BadPolicy { job: row.job.clone(), what });
        }
    }
    Ok(enabled.into_iter().map(|row| row.job.clone()).collect())
}
