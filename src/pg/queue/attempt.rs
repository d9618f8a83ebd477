//! Attempts: counted before they are made, so that an object that kills its backend is counted, too, and judged afterwards.

use pgrx::spi::SpiClient;

use super::claim::Claim;
use crate::error::{Error, Result};
use crate::pg::ffi::Failure;
use crate::pg::registry::{Seen, count_attempt};
use crate::pg::{guc, spi};

/// What speaks of an attempt that ended without a word.
const LOST: (&str, &str) =
    ("57P02", "the attempt has ended without a result, with its process or its statement; see the server's log");

/// Burns an attempt. `false`: the object is not what was claimed.
pub fn begin(client: &mut SpiClient<'_>, claim: &Claim) -> Result<bool> {
    let args = [claim.uri.clone().into(), claim.generation.into()];
    let begun = spi::json_kept(client, include_str!("../../../sql/queries/attempt_begin.sql"), &args)?;
    Ok(!begun.is_null())
}

/// Attempts that did not take place.
pub fn take_back(client: &mut SpiClient<'_>, uris: Vec<String>) -> Result<()> {
    if uris.is_empty() {
        return Ok(());
    }
    spi::execute_kept(client, include_str!("../../../sql/queries/attempt_take_back.sql"), &[uris.into()]).map(drop)
}

/// Books a claimed object, whose attempt has begun, for what was found before its load began.
pub fn refuse_begun(client: &mut SpiClient<'_>, claim: &Claim, error: Error) -> Result<()> {
    let seen = Seen { generation: Some(claim.generation), rows: None };
    fail(client, &claim.uri, &Failure::Ours(error), &seen)
}

/// Books an object that cannot be loaded for what was found before its load began.
pub fn refuse(client: &mut SpiClient<'_>, uri: &str, error: Error) -> Result<()> {
    refuse_failure(client, uri, &Failure::Ours(error))
}

/// The same with whatever went wrong.
pub fn refuse_failure(client: &mut SpiClient<'_>, uri: &str, failure: &Failure) -> Result<()> {
    count_attempt(client, uri)?;
    fail(client, uri, failure, &Seen::default())
}

/// Books an attempt that has no result although nobody is at it, unless somebody holds a registry row of the object: he is not
/// waited for, it is booked another time.
pub fn lost(client: &mut SpiClient<'_>, uri: &str) -> Result<()> {
    let free = spi::json_kept(client, include_str!("../../../sql/queries/registry_is_free.sql"), &[uri.into()])?;
    if free != true {
        return Ok(());
    }
    let failure = Failure::Postgres { sqlstate: LOST.0.into(), message: LOST.1.into() };
    fail(client, uri, &failure, &Seen::default())
}

/// Books a failed attempt: when the next one is, or that there is none. An object that was registered anew since it was
/// `seen` stays pending.
pub fn fail(client: &mut SpiClient<'_>, uri: &str, failure: &Failure, seen: &Seen) -> Result<()> {
    let (sqlstate, message, transient) = match failure {
        Failure::Ours(error) => (error.sqlstate().to_owned(), words(error), error.is_transient()),
        Failure::Postgres { sqlstate, message } => (sqlstate.clone(), message.clone(), may_pass(sqlstate)),
    };
    let retry = guc::retry();
    let args = [
        uri.to_owned().into(),
        sqlstate.clone().into(),
        message.clone().into(),
        (!transient).into(),
        retry.max_attempts.into(),
        retry.backoff_ms.into(),
        retry.backoff_max_ms.into(),
        is_objects_fault(&sqlstate).into(),
        seen.generation.into(),
        seen.rows.clone().into(),
    ];
    let became = spi::json_kept(client, include_str!("../../../sql/queries/attempt_failed.sql"), &args)?;
    log(uri, &sqlstate, &message, &became, retry.max_attempts);
    Ok(())
}

/// One line for the server's log.
fn log(uri: &str, sqlstate: &str, message: &str, became: &serde_json::Value, most: i32) {
    let attempts = became["attempts"].as_i64().unwrap_or(0);
    let next = match (became["status"].as_str(), became["pause_ms"].as_f64()) {
        (Some("failed"), Some(ms)) => format!("attempt {attempts} of {most}, the next in {:.1} s", ms / 1e3),
        (Some("quarantined"), _) => format!("quarantined after {attempts} attempts"),
        _ => "registered anew meanwhile".to_owned(),
    };
    guc::log_load(&format!("btc_ingest: {uri} failed: {message} ({sqlstate}); {next}"));
}

fn words(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{error} ({detail})"),
        None => error.to_string(),
    }
}

/// SQLSTATEs of PostgreSQL's that pass by themselves: connections, resources, interventions, deadlocks, serialization.
pub fn may_pass(sqlstate: &str) -> bool {
    ["08", "40", "53", "55", "57"].iter().any(|class| sqlstate.starts_with(class))
}

/// Disk, memory or connections have run out.
pub fn is_out_of_resources(failure: &Failure) -> bool {
    matches!(failure, Failure::Postgres { sqlstate, .. } if sqlstate.starts_with("53"))
}

/// Resources that ran out and locks of others are no object's fault: such an attempt does not count.
fn is_objects_fault(sqlstate: &str) -> bool {
    !sqlstate.starts_with("53") && sqlstate != "55P03"
}
