//! Outages of S3. A fault that may be S3's, the network's or the settings' counts against an object only if S3 serves
//! the objects beside it. Otherwise the whole prefix waits: no load of it begins, and one worker at a time looks
//! whether S3 answers again.

use std::time::{Duration, Instant};

use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::attempt;
use crate::error::verdict::Verdict;
use crate::error::{Error, Result};
use crate::load::reach;
use crate::model::uri::{S3Uri, Scope};
use crate::pg::load::known::Version;
use crate::pg::load::plan::allowed_uri;
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::locks::Lock;
use crate::pg::session::shared::wake_at_commit;
use crate::pg::session::tx::tx;
use crate::pg::session::{guc, lock_waits, report, spi};

/// The longest pause between two looks. A minute more makes no difference after an outage that was that long.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An outage whose prefix is to be looked at now (`control.sql`).
#[derive(Debug, Clone, Deserialize)]
pub struct Probe {
    /// The prefix that waits.
    pub prefix: String,
    /// How often it was looked at before.
    pub probes: i64,
}

impl Probe {
    /// Puts another object first at each look, so that one that cannot be read hides no other.
    pub fn put_first(&self, candidates: &mut [String]) {
        if !candidates.is_empty() {
            candidates.rotate_left(self.probes.unsigned_abs() as usize % candidates.len());
        }
    }
}

/// What is known of an object whose load has failed (`outage_known.sql`).
#[derive(Debug, Deserialize)]
pub struct Evidence {
    /// Whether its prefix waits already.
    outage: bool,
    /// Whether another object of the prefix was loaded since an attempt at this one failed for the first time.
    others_loaded: bool,
    /// Whether an outage of the prefix has ended since the object was asked for.
    over: bool,
    /// When S3 was asked for the object.
    #[serde(skip, default = "Instant::now")]
    asked: Instant,
}

/// A failure, and whose fault it is.
pub struct Judged {
    /// The failure of the load, or that of the prefix if it says more.
    pub failure: Failure,
    /// `Outage` if nothing under the prefix can be read, or could be when the object was asked for.
    pub verdict: Verdict,
    /// Whether the prefix is to wait.
    waits: bool,
    /// When S3 was asked for the object, if the prefix could be listed after the failure.
    listed: Option<Instant>,
}

impl Judged {
    fn of(failure: Failure, verdict: Verdict) -> Judged {
        Judged { failure, verdict, waits: verdict == Verdict::Outage, listed: None }
    }
}

/// Returns the prefix that an object shares an outage with: the one of `btc_ingest.allowed_prefixes` that allows it.
/// It is what the administrator has named, and what policies are written for. Returns `None` if none allows it.
fn scope(uri: &str) -> Result<Option<Scope>> {
    let Ok(uri) = uri.parse::<S3Uri>() else { return Ok(None) };
    Ok(guc::allowed_prefixes()?.scope(&uri))
}

/// Reads what the tables tell about whose fault the failure of an object is. S3 was asked for the object at `asked`.
pub fn evidence(client: &mut SpiClient<'_>, uri: &str, asked: Instant) -> Result<Evidence> {
    let prefix = scope(uri)?.map(|scope| scope.to_string());
    let ms = asked.elapsed().as_secs_f64() * 1e3;
    let args = [uri.to_owned().into(), prefix.into(), ms.into()];
    let evidence: Evidence = spi::fetch_kept(client, statement!("outage_known"), &args)?;
    Ok(Evidence { asked, ..evidence })
}

/// Judges the failure of a load. If its cause may lie outside the object, the object's prefix is listed. It may be
/// called outside a transaction.
pub fn judge(uri: &str, failure: Failure, evidence: &Evidence) -> Result<Judged> {
    let verdict = failure.verdict();
    let scope = if failure.may_be_outage() { scope(uri)? } else { None };
    let Some(scope) = scope else { return Ok(Judged::of(failure, verdict)) };
    if evidence.outage {
        return Ok(Judged::of(failure, Verdict::Outage));
    }
    let listed = look(&scope)?;
    if evidence.over && (listed.is_ok() || evidence.others_loaded) {
        return Ok(Judged { waits: false, ..Judged::of(failure, Verdict::Outage) });
    }
    match listed {
        Ok(()) => Ok(Judged { listed: Some(evidence.asked), ..Judged::of(failure, verdict) }),
        // The role may read objects although it may not list them.
        Err(_) if evidence.others_loaded => Ok(Judged::of(failure, Verdict::Transient)),
        Err(error) => Ok(Judged::of(if is_vague(&failure) { error.into() } else { failure }, Verdict::Outage)),
    }
}

/// Returns whether the prefix may say more: to the question for the size of an object, S3 answers the same if the
/// bucket is missing and if the object is.
fn is_vague(failure: &Failure) -> bool {
    matches!(failure, Failure::Ours(Error::NoSuchKey { .. }))
}

/// Asks S3 for one key of a prefix. The outer error ends the caller's work.
fn look(scope: &Scope) -> Result<std::result::Result<(), Error>> {
    ffi::show_activity(Some(&format!("looking whether S3 lists {scope}")));
    let (s3, scope) = (guc::s3(), scope.clone());
    answer(ffi::Thread::start(1, move |io, events| reach::run(&s3, &scope.bucket, &scope.prefix, io, events))?)
}

/// Waits for the answer to a look.
fn answer(mut thread: ffi::Thread<()>) -> Result<std::result::Result<(), Error>> {
    match thread.next() {
        Ok(_) => Ok(Ok(())),
        Err(error @ (Error::Cancelled | Error::Internal { .. })) => Err(error),
        Err(error) => Ok(Err(error)),
    }
}

/// Records the failure of a begun attempt, and lets the prefix wait if its verdict is `Outage`.
pub fn record(client: &mut SpiClient<'_>, uri: &str, judged: &Judged, version: &Version) -> Result<()> {
    // Another worker may have found an outage while this one listed the prefix, and S3 may have come back in between.
    let evidence = judged.listed.map(|asked| evidence(client, uri, asked)).transpose()?;
    let verdict =
        if evidence.is_some_and(|found| found.outage || found.over) { Verdict::Outage } else { judged.verdict };
    attempt::fail_as(client, uri, &judged.failure, verdict, version)?;
    match scope(uri)? {
        Some(scope) if judged.waits => begin(client, &scope, uri, &judged.failure),
        _ => Ok(()),
    }
}

/// Lets a prefix wait. If it waits already, the object was a probe that has failed.
fn begin(client: &mut SpiClient<'_>, scope: &Scope, uri: &str, failure: &Failure) -> Result<()> {
    let prefix = scope.to_string();
    // A session that holds the lock is about to write the row, or sees whether S3 answers.
    if !Lock::Outage(&prefix).try_for_transaction() {
        return Ok(());
    }
    let (sqlstate, message) = failure.sqlstate_and_message();
    let retry = guc::retry();
    let args = [
        prefix.clone().into(),
        sqlstate.clone().into(),
        message.clone().into(),
        uri.to_owned().into(),
        retry.backoff_ms.into(),
        longest_pause_ms().into(),
        is_vague(failure).into(),
    ];
    let is_new: bool = spi::fetch_kept(client, statement!("outage_begin"), &args)?;
    if is_new {
        report::log(&format!(
            "btc_ingest: loads under {prefix} wait until S3 answers; {uri} failed: {message} ({sqlstate})"
        ));
        wake_at_commit();
    }
    Ok(())
}

fn longest_pause_ms() -> f64 {
    guc::retry().backoff_max_ms.min(LONGEST_PAUSE.as_secs_f64() * 1e3)
}

/// Ends the outage of the prefix that holds an object, because S3 has answered a read of the object.
pub fn end_of(client: &mut SpiClient<'_>, uri: &str) -> Result<()> {
    match scope(uri)? {
        Some(scope) => end(client, &scope.to_string(), "S3 answers again"),
        None => Ok(()),
    }
}

fn end(client: &mut SpiClient<'_>, prefix: &str, why: &str) -> Result<()> {
    if !Lock::Outage(prefix).try_for_transaction() {
        return Ok(());
    }
    let seconds: Option<f64> = spi::fetch_kept(client, statement!("outage_end"), &[prefix.to_owned().into()])?;
    if let Some(seconds) = seconds {
        report::log(&format!("btc_ingest: {why}: loads under {prefix} go on after {seconds:.0} s"));
        wake_at_commit();
    }
    Ok(())
}

/// Looks at the prefixes that are due, outside a transaction. Returns one that cannot be listed, of which the caller
/// is to try one object, because its role may read objects although it may not list them.
pub fn probe(due: Vec<Probe>) -> Result<Option<Probe>> {
    for probe in due {
        let lock = Lock::Outage(&probe.prefix);
        if !tx(|_| Ok(lock.try_for_session()))? {
            continue;
        }
        let answers = answers(&probe);
        let done = answers.and_then(|answers| {
            tx(|client| {
                lock_waits::limit_in_transaction();
                note(client, &probe, answers)
            })
        });
        lock.release();
        if done? {
            return Ok(Some(probe));
        }
    }
    Ok(None)
}

/// Reads an object under a prefix that cannot be listed, without loading it. The outage ends if that succeeds. Outside
/// a transaction.
pub fn read(uri: &str) -> Result<()> {
    ffi::show_activity(Some(&format!("looking whether S3 answers for {uri}")));
    let (s3, object) = (guc::s3(), allowed_uri(uri)?);
    match answer(ffi::Thread::start(1, move |io, events| reach::read(&s3, &object, io, events))?)? {
        Ok(()) => tx(|client| {
            lock_waits::limit_in_transaction();
            end_of(client, uri)
        }),
        Err(_) => Ok(()),
    }
}

/// Does the same as [`probe`] in the caller's transaction.
pub fn probe_in_transaction(client: &mut SpiClient<'_>, due: Vec<Probe>) -> Result<Option<Probe>> {
    for probe in due {
        if Lock::Outage(&probe.prefix).try_for_transaction() && note(client, &probe, answers(&probe)?)? {
            return Ok(Some(probe));
        }
    }
    Ok(None)
}

/// Returns whether the prefix of a probe can be listed, or `None` if it is no prefix of the settings any more.
fn answers(probe: &Probe) -> Result<Option<bool>> {
    let scopes = guc::allowed_prefixes()?.scopes();
    match scopes.into_iter().find(|scope| scope.to_string() == probe.prefix) {
        Some(scope) => Ok(Some(look(&scope)?.is_ok())),
        None => Ok(None),
    }
}

/// Records the result of a look. Returns whether the prefix still waits.
fn note(client: &mut SpiClient<'_>, probe: &Probe, answers: Option<bool>) -> Result<bool> {
    match answers {
        Some(false) => {
            let args = [probe.prefix.clone().into(), guc::retry().backoff_ms.into(), longest_pause_ms().into()];
            spi::execute_kept(client, statement!("outage_probed"), &args)?;
            return Ok(true);
        }
        Some(true) => end(client, &probe.prefix, "S3 answers again")?,
        None => end(client, &probe.prefix, "btc_ingest.allowed_prefixes has changed")?,
    }
    Ok(false)
}
