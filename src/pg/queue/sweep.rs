//! Sweeps: a session loads live objects without a worker. `sweep()` loads all of them in one transaction, `run_sweep`
//! uses one transaction for each object, and so does `restore_range` for the objects of a range.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Instant;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::SpiClient;

use super::attempt::{self, Settled};
use super::claim::Claim;
use super::claiming;
use super::control::{self, Control};
use super::enqueue::enqueue;
use super::held_chunks;
use super::live;
use super::outage::{self, Probe};
use super::sweep_offsets;
use crate::error::Result;
use crate::error::verdict::Verdict;
use crate::model::queue_order::QueueOrder;
use crate::model::report::{LoadReport, Outcome};
use crate::pg::load::known::Version;
use crate::pg::load::offsets::Offsets;
use crate::pg::load::one::{self, PlannedLoad};
use crate::pg::load::plan::LoadPlan;
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::locks::Lock;
use crate::pg::session::target::{Target, as_owner};
use crate::pg::session::{guc, lock_room, lock_waits, report, spi};

/// The locks of an object that is claimed and loaded, without those of chunks.
const LOCKS_OF_CLAIM: usize = 2;

/// Loads up to `max_objects` pending objects in the caller's transaction, or all of them if there is no limit.
pub fn sweep(max_objects: Option<i32>) -> Result<Vec<LoadReport>> {
    let mut reports = Vec::new();
    let mut own = HashSet::new();
    while max_objects.is_none_or(|most| (reports.len() as i64) < i64::from(most)) {
        pgrx::check_for_interrupts!();
        if let Err(full) = lock_room::reserve(LOCKS_OF_CLAIM) {
            let (loaded, hint) = (reports.len(), full.hint().unwrap_or_default());
            report::notice(&format!("the sweep ends after {loaded} objects: {full}. {hint}"));
            break;
        }
        let Some((uri, probe)) = as_owner(|client, _| claim_next_for_transaction(client, &own))? else { break };
        own.insert(uri.clone());
        // A statement after the lock sees whether another session has loaded the object meanwhile.
        let claim = as_owner(|client, _| {
            let claim =
                claiming::check_and_record_lost(client, vec![uri])?.0.pop().map(|claim| Claim { probe, ..claim });
            claim.map(|claim| Ok((attempt::begin(client, &claim)?, claim))).transpose()
        })?;
        if let Some((true, claim)) = claim {
            reports.extend(load(&claim)?);
        }
    }
    Ok(reports)
}

/// Claims the next object until the transaction ends, because no other session sees before that it is loaded. Returns
/// also whether its load is to show that S3 answers again.
fn claim_next_for_transaction(client: &mut SpiClient<'_>, own: &HashSet<String>) -> Result<Option<(String, bool)>> {
    let Some(probe) = refresh_unless_paused(client)? else { return Ok(None) };
    let find = |client: &mut SpiClient<'_>, probe: Option<&Probe>| {
        live::find(client, guc::queue_order(), None, probe, |_, candidates| {
            let free = |uri: &String| !own.contains(uri) && Lock::Claim(uri).try_for_transaction();
            Ok(candidates.into_iter().find(free).map(|uri| (uri, probe.is_some())))
        })
    };
    if let Some(probe) = probe
        && let Some(found) = find(client, Some(&probe))?
    {
        return Ok(Some(found));
    }
    find(client, None)
}

/// Refreshes the queue, and looks whether S3 answers where objects wait for it. Returns `None` if nothing may be
/// loaded now, otherwise the prefix of which one object is to be tried.
fn refresh_unless_paused(client: &mut SpiClient<'_>) -> Result<Option<Option<Probe>>> {
    let Control { paused, probes } = control::read(client)?;
    if paused {
        return Ok(None);
    }
    let probe = outage::probe_in_transaction(client, probes)?;
    enqueue(client)?;
    live::retry_due(client, None)?;
    Ok(Some(probe))
}

thread_local! {
    /// The claim of this session's `run_sweep`, which lasts from one of its transactions to the next.
    static CLAIM: RefCell<Option<Claim>> = const { RefCell::new(None) };
}

/// Which objects a sweep loads.
pub enum Among {
    /// All that are due, of these assets or of all assets.
    Due {
        /// Symbols; `None` stands for all.
        assets: Option<Vec<String>>,
        /// Whether the newest ticks come first; `None` stands for the setting.
        newest: Option<bool>,
    },
    /// Those that hold ticks of dropped ranges which are wanted back.
    Wanted {
        /// Symbol.
        asset: String,
        /// A time in the first range.
        from: TimestampWithTimeZone,
        /// The end (exclusive) of the times.
        to: TimestampWithTimeZone,
    },
}

/// Does one step of `run_sweep` or `restore_range` in one transaction. It loads the object that the last step has
/// claimed, then claims the next object and begins the attempt at it. Returns whether it has claimed one.
pub fn step(among: &Among, claim_next: bool) -> Result<bool> {
    // A sweep that is stopped between two transactions must leave nothing locked.
    ffi::at_abort(|| {
        claiming::release_taken();
        if let Some(claim) = CLAIM.take() {
            claiming::release(&claim.uri);
        }
    });
    lock_waits::limit_in_transaction();
    let claimed = CLAIM.with_borrow(Option::clone);
    if let Some(claim) = claimed {
        // A statement between two steps may have released the session's locks.
        if as_owner(|_, _| Ok(claiming::keep(&claim.uri)))? {
            load(&claim)?;
        }
    }
    let next = as_owner(|client, _| if claim_next { claim_one(client, among) } else { Ok(None) })?;
    let more = next.is_some();
    let last = CLAIM.replace(next);
    claiming::taken_over();
    if let Some(last) = last {
        claiming::release_at_commit(&last.uri);
    }
    Ok(more)
}

fn claim_one(client: &mut SpiClient<'_>, among: &Among) -> Result<Option<Claim>> {
    let Some(probe) = refresh_unless_paused(client)? else { return Ok(None) };
    let own: HashSet<String> = CLAIM.with_borrow(|claim| claim.iter().map(|claim| claim.uri.clone()).collect());
    let probed = probe.map_or(Ok(None), |probe| among.claim_probe(client, &probe, &own))?;
    let claim = if probed.is_some() { probed } else { among.claim(client, &own)? };
    let Some(claim) = claim else { return Ok(None) };
    if claiming::begin(client, &claim)? && claiming::prove_begun(client, &claim.uri)? {
        return Ok(Some(claim));
    }
    claiming::release(&claim.uri);
    Ok(None)
}

impl Among {
    /// Claims the next object.
    fn claim(&self, client: &mut SpiClient<'_>, own: &HashSet<String>) -> Result<Option<Claim>> {
        let free = |client: &mut SpiClient<'_>, candidates| Ok(claiming::take(client, candidates, own, 1)?.pop());
        let (assets, newest) = match self {
            Among::Due { assets, newest } => (assets.as_deref(), newest),
            Among::Wanted { .. } => {
                let candidates = self.wanted(client, None)?;
                return free(client, candidates);
            }
        };
        let order = match newest {
            Some(true) => QueueOrder::Newest,
            Some(false) => QueueOrder::Oldest,
            None => guc::queue_order(),
        };
        live::find(client, order, assets, None, free)
    }

    /// Claims an object under a prefix that waits for S3.
    fn claim_probe(&self, client: &mut SpiClient<'_>, probe: &Probe, own: &HashSet<String>) -> Result<Option<Claim>> {
        match self {
            Among::Due { assets, .. } => live::claim_probe(client, probe, assets.as_deref(), own),
            Among::Wanted { .. } => {
                let candidates = self.wanted(client, Some(&probe.prefix))?;
                live::take_probe(client, probe, candidates, own)
            }
        }
    }

    /// Returns pending objects of the wanted ranges.
    fn wanted(&self, client: &mut SpiClient<'_>, prefix: Option<&str>) -> Result<Vec<String>> {
        let Among::Wanted { asset, from, to } = self else { return Ok(Vec::new()) };
        let args = [
            asset.clone().into(),
            (*from).into(),
            (*to).into(),
            prefix.map(str::to_owned).into(),
            live::LOOK_AT.into(),
        ];
        spi::fetch_kept(client, statement!("restore_next"), &args)
    }
}

/// Loads a claimed object whose attempt has begun. A failure is recorded and reported as a WARNING, and the
/// sweep goes on. Returns `None` if another session is loading the object or has changed it.
fn load(claim: &Claim) -> Result<Option<LoadReport>> {
    as_owner(|client, target| {
        lock_waits::limit_in_transaction();
        let mut late = sweep_offsets::get();
        if !late.is_empty() {
            late.write(client)?;
            sweep_offsets::set(late);
        }
        let asked = Instant::now();
        let (version, result) = match LoadPlan::attempt(client, &claim.uri) {
            Ok(plan) => {
                let mut left = Offsets::default();
                let result = ffi::attempt(|| load_planned(client, target, &plan, &mut left));
                // A trigger of the tables' owner may have called a sweep of its own meanwhile.
                if result.is_ok() && !left.is_empty() {
                    let mut late = sweep_offsets::get();
                    late.add(left);
                    sweep_offsets::set(late);
                }
                (plan.version, result)
            }
            Err(failure) => (Version::of_generation(claim.generation), Err(failure)),
        };
        let settled = attempt::settle(client, &claim.uri, &version, result, Verdict::Cancelled)?;
        if claim.probe && matches!(settled, Settled::Loaded(_) | Settled::Failed(_)) {
            outage::end_of(client, &claim.uri)?;
        }
        match settled {
            Settled::Loaded(report) => Ok(Some(report)),
            Settled::Busy | Settled::Changed => Ok(None),
            Settled::Unrecorded(failure) if failure.may_be_outage() => {
                let evidence = outage::evidence(client, &claim.uri, asked)?;
                let judged = outage::judge(&claim.uri, failure, &evidence)?;
                outage::record(client, &claim.uri, &judged, &version)?;
                Ok(Some(failed(claim, &judged.failure)))
            }
            // A cancelled or timed-out statement ends the whole sweep.
            Settled::Unrecorded(failure) => failure.unless_cancelled().map(|_| None),
            Settled::Failed(failure) => {
                held_chunks::note(&failure);
                Ok(Some(failed(claim, &failure)))
            }
        }
    })
}

/// Reports a failure as a WARNING, and returns the report of the object.
fn failed(claim: &Claim, failure: &Failure) -> LoadReport {
    let (sqlstate, message) = failure.sqlstate_and_message();
    report::warning(&format!("{}: {message} ({sqlstate})", claim.uri));
    LoadReport { uri: claim.uri.clone(), outcome: Outcome::Failed, ..LoadReport::default() }
}

fn load_planned(
    client: &mut SpiClient<'_>,
    target: &Target,
    plan: &LoadPlan,
    left: &mut Offsets,
) -> std::result::Result<PlannedLoad, Failure> {
    let mut thread = one::read(&plan.job)?;
    Ok(one::load_planned(client, target, plan, &mut thread, left)?)
}
