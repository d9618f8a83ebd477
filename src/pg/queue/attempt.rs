//! Attempts to load objects. An attempt is counted before its load starts, so that it counts even if it ends
//! the process, and its result is judged afterwards.

use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::claim::Claim;
use crate::error::verdict::Verdict;
use crate::error::{Error, Result};
use crate::model::report::LoadReport;
use crate::model::status::Status;
use crate::pg::load::known::Version;
use crate::pg::load::one::PlannedLoad;
use crate::pg::session::ffi::Failure;
use crate::pg::session::{guc, spi};

/// SQLSTATE and message of an attempt that ended without a result.
const LOST: (&str, &str) =
    ("57P02", "the attempt has ended without a result, with its process or its statement; see the server's log");

/// What is added to the message of an attempt for which resources ran out although they suffice for others.
const SHORT_AGAIN: &str = "no other object meets that: check the object's times, or raise max_locks_per_transaction";

/// Counts an attempt at a claimed object. Returns `false`, and counts nothing, if the object has changed
/// since it was claimed or if another session has locked its row.
pub fn begin(client: &mut SpiClient<'_>, claim: &Claim) -> Result<bool> {
    let args = [claim.uri.clone().into(), claim.generation.into()];
    let begun: Option<i64> = spi::fetch_kept(client, statement!("attempt_begin"), &args)?;
    Ok(begun.is_some())
}

/// Counts an attempt at an object that this session has not claimed.
pub fn count(client: &mut SpiClient<'_>, uri: &str) -> Result<()> {
    let sql = "UPDATE ingestion.objects SET attempts = attempts + 1, attempt_started_at = clock_timestamp()
                WHERE s3_uri = $1";
    spi::execute_kept(client, sql, &[uri.to_owned().into()]).map(drop)
}

/// Takes back counted attempts whose load did not take place. It leaves out rows that another session has locked.
pub fn take_back(client: &mut SpiClient<'_>, uris: Vec<String>) -> Result<()> {
    if uris.is_empty() {
        return Ok(());
    }
    spi::execute_kept(client, statement!("attempt_take_back"), &[uris.into()]).map(drop)
}

/// Records an error that was found before the load of a claimed object started. The attempt must have begun.
pub fn refuse_begun(client: &mut SpiClient<'_>, claim: &Claim, failure: &Failure) -> Result<()> {
    fail(client, &claim.uri, failure, &Version::of_generation(claim.generation))
}

/// Counts an attempt at an object that cannot be loaded, and records its failure.
pub fn refuse(client: &mut SpiClient<'_>, uri: &str, failure: &Failure) -> Result<()> {
    count(client, uri)?;
    fail(client, uri, failure, &Version::default())
}

/// Records an attempt that has no result although no other session holds the object's claim. If another
/// session has locked one of the object's registry rows, it does nothing, and a later claim of the object
/// records the attempt.
pub fn record_lost(client: &mut SpiClient<'_>, uri: &str) -> Result<()> {
    let free: bool = spi::fetch_kept(client, statement!("registry_is_free"), &[uri.to_owned().into()])?;
    if !free {
        return Ok(());
    }
    let failure = Failure::Postgres { sqlstate: LOST.0.into(), message: LOST.1.into() };
    fail(client, uri, &failure, &Version::default())
}

/// What became of an attempt.
pub enum Settled {
    /// The object is loaded.
    Loaded(LoadReport),
    /// The failure is recorded.
    Failed(Failure),
    /// Another session is loading the object. The attempt is taken back.
    Busy,
    /// The object has changed since it was claimed, so that it may be claimed again. The attempt is taken back.
    Changed,
    /// The caller handles the failure, which is not recorded: its verdict is the one that the caller has named, or
    /// the object may not be the cause.
    Unrecorded(Failure),
}

/// Records the result of an attempt, unless it is a failure whose verdict is `unrecorded` or that `outage::judge` must
/// judge first.
pub fn settle(
    client: &mut SpiClient<'_>,
    uri: &str,
    version: &Version,
    result: std::result::Result<PlannedLoad, Failure>,
    unrecorded: Verdict,
) -> Result<Settled> {
    match result {
        Ok(PlannedLoad::Loaded(report)) => Ok(Settled::Loaded(report)),
        Ok(PlannedLoad::Busy) => take_back(client, vec![uri.to_owned()]).map(|()| Settled::Busy),
        Ok(PlannedLoad::Changed) => take_back(client, vec![uri.to_owned()]).map(|()| Settled::Changed),
        Err(failure) => {
            let verdict = judge(client, uri, &failure)?;
            if verdict == unrecorded || failure.may_be_outage() {
                return Ok(Settled::Unrecorded(failure));
            }
            fail_as(client, uri, &failure, verdict, version).map(|()| Settled::Failed(failure))
        }
    }
}

/// Returns the verdict on the failure of an object. If disk aside, resources run out at this object again although
/// others were loaded since the first time, the object is the cause.
fn judge(client: &mut SpiClient<'_>, uri: &str, failure: &Failure) -> Result<Verdict> {
    let verdict = failure.verdict();
    if verdict != Verdict::OutOfResources || failure.is_disk_full() {
        return Ok(verdict);
    }
    let again: bool = spi::fetch_kept(client, statement!("attempt_short_again"), &[uri.to_owned().into()])?;
    Ok(if again { Verdict::Transient } else { verdict })
}

/// What became of a failed attempt (`attempt_failed.sql`).
#[derive(Deserialize)]
struct Failed {
    status: Status,
    /// Whether the object was registered again meanwhile.
    changed: bool,
    /// Whether the object would be quarantined if no other session held one of its registry rows.
    put_off: bool,
    attempts: i32,
    #[serde(deserialize_with = "spi::nullable")]
    pause_ms: Option<f64>,
}

impl Failed {
    fn what_follows(&self, max_attempts: i32) -> String {
        let attempts = self.attempts;
        let seconds = self.pause_ms.unwrap_or(0.0) / 1e3;
        match self.status {
            _ if self.changed => "registered anew meanwhile".to_owned(),
            Status::Skipped => "skipped".to_owned(),
            Status::Quarantined => format!("quarantined after {attempts} attempts"),
            _ if self.put_off => {
                format!("another session holds its registry row, so it is tried again in {seconds:.1} s")
            }
            _ => format!("attempt {attempts} of {max_attempts}, the next in {seconds:.1} s"),
        }
    }
}

/// Records a failed attempt without waiting for another session. The object is tried again after a pause, or it is
/// quarantined, or skipped if retention has dropped the range of its ticks. An object that was registered again after
/// `version` was read stays pending. If another session holds the object's row, the attempt stays without a result and
/// [`record_lost`] records it.
pub fn fail(client: &mut SpiClient<'_>, uri: &str, failure: &Failure, version: &Version) -> Result<()> {
    let verdict = judge(client, uri, failure)?;
    fail_as(client, uri, failure, verdict, version)
}

/// Does the same with a verdict that is not that of the failure alone.
pub fn fail_as(
    client: &mut SpiClient<'_>,
    uri: &str,
    failure: &Failure,
    verdict: Verdict,
    version: &Version,
) -> Result<()> {
    let (sqlstate, message) = match failure {
        Failure::Ours(error) => (error.sqlstate().to_owned(), with_detail(error)),
        Failure::Postgres { sqlstate, message } => (sqlstate.clone(), message.clone()),
    };
    let message = if verdict != failure.verdict() && failure.verdict() == Verdict::OutOfResources {
        format!("{message}; {SHORT_AGAIN}")
    } else {
        message
    };
    let retry = guc::retry();
    let args = [
        uri.to_owned().into(),
        sqlstate.clone().into(),
        message.clone().into(),
        (!verdict.is_worth_another_attempt()).into(),
        retry.max_attempts.into(),
        retry.backoff_ms.into(),
        retry.backoff_max_ms.into(),
        verdict.counts_against_object().into(),
        version.generation.into(),
        version.rows.clone().into(),
        matches!(failure, Failure::Ours(Error::DroppedRange { .. })).into(),
    ];
    let failed: Option<Failed> = spi::fetch_kept(client, statement!("attempt_failed"), &args)?;
    let next = match failed {
        Some(failed) => failed.what_follows(retry.max_attempts),
        None => "another session holds its row or has changed its status".to_owned(),
    };
    // An outage has one line in the log, and not one for each object.
    if verdict != Verdict::Outage {
        guc::log_load(&format!("btc_ingest: {uri} failed: {message} ({sqlstate}); {next}"));
    }
    Ok(())
}

fn with_detail(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{error} ({detail})"),
        None => error.to_string(),
    }
}
