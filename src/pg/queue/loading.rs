//! A worker's loads: one object after another, each in a transaction of its own. The transaction of a load
//! also begins the attempt at the next object and claims the objects behind it, so that neither costs a
//! commit of its own.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use pgrx::spi::SpiClient;

use super::attempt::{self, Settled};
use super::claim::Claim;
use super::claiming;
use super::held_chunks;
use super::outage;
use super::prefetch::Prefetcher;
use crate::error::verdict::Verdict;
use crate::error::{Error, Result};
use crate::load::prefetch::MAX_PREFETCHED;
use crate::load::prefetch_depth::PrefetchDepth;
use crate::model::report::LoadReport;
use crate::pg::load::known::Version;
use crate::pg::load::late_offsets::LateOffsets;
use crate::pg::load::offsets::Offsets;
use crate::pg::load::one;
use crate::pg::load::plan::LoadPlan;
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::lock_waits;
use crate::pg::session::locks::Lock;
use crate::pg::session::report;
use crate::pg::session::target::Target;
use crate::pg::session::tx::{tx, tx_with_target, tx_without_standby};

/// The number of loads after which a worker looks for new work.
const TURN: usize = MAX_PREFETCHED / 2;

/// Decides which objects a worker loads, and counts the results.
pub trait Source {
    /// Makes new objects pending, and objects that are due for another attempt.
    fn refresh_queue(&mut self, client: &mut SpiClient<'_>) -> Result<()>;
    /// Claims the next objects, except the worker's `own` ones. It claims more than `most` only if no other
    /// worker may load them. It often runs in the transaction of a load and therefore never waits for another
    /// session.
    fn claim(&mut self, client: &mut SpiClient<'_>, own: &HashSet<String>, most: usize) -> Result<Vec<Claim>>;
    /// Counts an object in the transaction that records its result. `loaded` is the report and the time when
    /// the load began, or `None` if the attempt failed.
    fn count(&self, client: &mut SpiClient<'_>, claim: &Claim, loaded: Option<(&LoadReport, Instant)>) -> Result<()>;
    /// Reacts to a load that failed because disk, memory, connections or locks are exhausted. It is called
    /// outside a transaction, after the load was rolled back.
    fn out_of_resources(&mut self, uri: &str, version: &Version, failure: &Failure) -> Result<()>;
}

/// A claimed object that the prefetcher was told to read.
struct Planned {
    claim: Claim,
    plan: LoadPlan,
    /// Whether its attempt has begun, which means that it is counted.
    begun: bool,
}

/// A claimed object, and its plan or the error that prevents one.
type Found = (Claim, std::result::Result<LoadPlan, Failure>);

/// A worker that loads one object after another.
pub struct Loading {
    /// The lock of the worker's own place, which it must hold while it loads.
    place: Lock<'static>,
    /// The next objects, in the order in which the prefetcher reads them.
    planned: VecDeque<Planned>,
    /// The uris of all claimed objects, also of those that an error has left without a plan.
    claimed: Vec<String>,
    prefetcher: Option<Prefetcher>,
    /// Offsets that are still to be written, because another session had locked them.
    late: LateOffsets,
    /// How many objects are prefetched.
    prefetch_depth: PrefetchDepth,
    /// The object that is being loaded. It is known here when an error has ended its transaction.
    current: Option<(String, Version)>,
}

impl Loading {
    /// Returns the loads of a worker that holds the lock of its place.
    pub fn of(place: Lock<'static>) -> Loading {
        Loading {
            place,
            planned: VecDeque::new(),
            claimed: Vec::new(),
            prefetcher: None,
            late: LateOffsets::default(),
            prefetch_depth: PrefetchDepth::default(),
            current: None,
        }
    }

    /// Returns whether this process still has its place. If another one has taken it, this process must end.
    pub fn has_place(&self) -> Result<bool> {
        Ok(self.place.is_held() || tx(|_| Ok(self.place.keep()))?)
    }

    /// Loads a few objects. Returns `false` if there is nothing to load now.
    pub fn work(&mut self, source: &mut dyn Source) -> Result<bool> {
        self.write_offsets();
        self.claim(source)?;
        let mut moved = false;
        for _ in 0..TURN {
            if !self.has_place()? {
                self.release_all()?;
                return Ok(moved);
            }
            let Some(next) = self.planned.pop_front() else { break };
            moved |= self.load(next, source)?;
            if self.missing() > 0 {
                break;
            }
        }
        if !moved && self.planned.is_empty() {
            // The next objects may have another size.
            self.prefetch_depth = PrefetchDepth::default();
        }
        // If other sessions are loading all claimed objects, the next call would find them busy as well.
        Ok(moved || !self.planned.is_empty())
    }

    /// Releases all claims, also those that an error has left behind. An attempt that has begun is taken back,
    /// because the object is not the reason for the stop.
    pub fn release_all(&mut self) -> Result<()> {
        claiming::release_taken();
        self.prefetcher = None;
        self.planned.clear();
        if self.claimed.is_empty() {
            return Ok(());
        }
        // A process that must end waits for no standby, and not long for a lock.
        tx_without_standby(|client| {
            lock_waits::limit_in_transaction();
            // Attempts at objects whose claims were lost are those of other sessions.
            let held = self.claimed.iter().filter(|uri| Lock::Claim(uri).is_held()).cloned().collect();
            attempt::take_back(client, held)
        })?;
        self.claimed.drain(..).for_each(|uri| claiming::release(&uri));
        Ok(())
    }

    /// Releases all claims before the process ends. If the signal that ends the process interrupts the first
    /// try, a second one follows.
    pub fn end(&mut self) {
        lock_waits::limit_in_process();
        if ffi::survive(|| self.release_all()).is_err() {
            let _ = ffi::survive(|| self.release_all());
        }
        ffi::set_for_session(c"synchronous_commit", c"local");
        self.late.retry_refused();
        self.write_offsets();
    }

    /// Forgets all claims after the caller has released their locks.
    pub fn forget(&mut self) {
        self.claimed.clear();
    }

    /// Records the failure of the current object after an error has ended its transaction, for example at the
    /// commit.
    pub fn fail_current(&mut self, failure: &Failure) -> Result<()> {
        match self.current.take() {
            Some((uri, version)) => tx(|client| {
                lock_waits::limit_in_transaction();
                attempt::fail(client, &uri, failure, &version)
            }),
            None => Ok(()),
        }
    }

    /// Writes the offsets that another session had locked, unless one has locked them again. A failure leaves them
    /// for the next time.
    pub fn write_offsets(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let mut late = self.late.clone();
        let write = || {
            tx(|client| {
                lock_waits::limit_in_transaction();
                late.write(client)
            })
        };
        match ffi::survive(write) {
            Ok(()) => self.late = late,
            Err(failure) => {
                let (sqlstate, message) = failure.sqlstate_and_message();
                report::log(&format!("btc_ingest: offsets are not written yet: {message} ({sqlstate})"));
            }
        }
    }

    /// Returns how many objects are to be claimed now.
    fn missing(&self) -> usize {
        self.prefetch_depth.missing(self.planned.len())
    }

    /// Refreshes the queue, claims the missing objects and prefetches them.
    fn claim(&mut self, source: &mut dyn Source) -> Result<()> {
        let own = self.own();
        let found = tx(|client| {
            source.refresh_queue(client)?;
            self.claim_missing(client, &own, source)
        })?;
        self.prefetch_all(found, source)
    }

    fn claim_missing(
        &mut self,
        client: &mut SpiClient<'_>,
        own: &HashSet<String>,
        source: &mut dyn Source,
    ) -> Result<Vec<Found>> {
        let most = self.missing();
        let claims = if most > 0 { source.claim(client, own, most)? } else { Vec::new() };
        Ok(self.take_over(client, claims))
    }

    fn own(&self) -> HashSet<String> {
        self.planned.iter().map(|planned| planned.claim.uri.clone()).collect()
    }

    /// Takes over the claims, so that this worker releases them, and plans their loads.
    fn take_over(&mut self, client: &mut SpiClient<'_>, claims: Vec<Claim>) -> Vec<Found> {
        self.claimed.extend(claims.iter().map(|claim| claim.uri.clone()));
        claiming::taken_over();
        let plan = |claim: Claim| {
            let plan = LoadPlan::attempt(client, &claim.uri);
            (claim, plan)
        };
        claims.into_iter().map(plan).collect()
    }

    /// Prefetches claimed objects. It is called after the commit of the transaction that claimed them.
    fn prefetch_all(&mut self, found: Vec<Found>, source: &mut dyn Source) -> Result<()> {
        for (claim, plan) in found {
            match plan {
                Ok(plan) => {
                    self.prefetch(&plan)?;
                    self.planned.push_back(Planned { claim, plan, begun: false });
                }
                Err(failure) => {
                    tx(|client| {
                        lock_waits::limit_in_transaction();
                        if claiming::begin(client, &claim)? {
                            attempt::refuse_begun(client, &claim, &failure)?;
                            source.count(client, &claim, None)?;
                        }
                        Ok(())
                    })?;
                    self.release(claim);
                }
            }
        }
        Ok(())
    }

    fn prefetch(&mut self, plan: &LoadPlan) -> Result<()> {
        match &self.prefetcher {
            Some(prefetcher) => prefetcher.add(plan.job.clone()),
            None => {
                self.prefetcher = Some(Prefetcher::start([plan.job.clone()])?);
                Ok(())
            }
        }
    }

    /// Loads one object in one transaction, which also begins the attempt at the next object. Returns `false`
    /// if another session is loading the object.
    fn load(&mut self, mut next: Planned, source: &mut dyn Source) -> Result<bool> {
        ffi::show_activity(Some(&format!("loading {}", next.claim.uri)));
        if !next.begun {
            let claim = &next.claim;
            next.begun =
                tx(|client| Ok(claiming::begin(client, claim)? && claiming::prove_begun(client, &claim.uri)?))?;
        }
        let settled = if next.begun { self.load_begun(&next, source)? } else { Settled::Changed };
        if let Settled::Unrecorded(failure) = settled {
            if failure.may_be_outage() {
                return self.settle_judged(next, failure, source);
            }
            // This comes first and has a transaction of its own, because a full disk may have room for
            // nothing else.
            source.out_of_resources(&next.claim.uri, &next.plan.version, &failure)?;
            self.release_all()?;
            return Ok(true);
        }
        self.release(next.claim);
        if held_chunks::has_new() {
            // The planned objects probably wait for the same chunk.
            self.release_all()?;
        } else if !matches!(settled, Settled::Loaded(_)) {
            // The thread may still send events of this object, which would be mistaken for events of the next
            // one.
            self.restart_prefetcher()?;
        }
        Ok(!matches!(settled, Settled::Busy))
    }

    /// Records a failure that may not be the object's own. The look at S3 takes no transaction's time.
    fn settle_judged(&mut self, next: Planned, failure: Failure, source: &mut dyn Source) -> Result<bool> {
        let uri = &next.claim.uri;
        self.prefetcher = None;
        let evidence = tx(|client| outage::evidence(client, uri, next.plan.asked))?;
        let judged = outage::judge(uri, failure, &evidence)?;
        tx(|client| {
            lock_waits::limit_in_transaction();
            outage::record(client, uri, &judged, &next.plan.version)?;
            if judged.verdict != Verdict::Outage {
                source.count(client, &next.claim, None)?;
            }
            Ok(())
        })?;
        self.release(next.claim);
        if judged.verdict == Verdict::Outage {
            // The planned objects may wait as well.
            self.release_all()?;
        } else {
            self.restart_prefetcher()?;
        }
        Ok(true)
    }

    fn load_begun(&mut self, next: &Planned, source: &mut dyn Source) -> Result<Settled> {
        let Some(mut prefetcher) = self.prefetcher.take() else {
            return Err(Error::Internal { why: "no thread reads the planned objects".into() });
        };
        self.current = Some((next.claim.uri.clone(), next.plan.version.clone()));
        let (settled, left, found) = tx_with_target(|client, target| {
            lock_waits::limit_in_transaction();
            let mut left = Offsets::default();
            let settled = self.attempt(client, target, next, &mut prefetcher, &mut left, source)?;
            if !matches!(settled, Settled::Loaded(_)) {
                return Ok((settled, Offsets::default(), Vec::new()));
            }
            if let Some(follower) = self.planned.front_mut() {
                follower.begun = claiming::begin(client, &follower.claim)?;
            }
            let mut own = self.own();
            own.insert(next.claim.uri.clone());
            let found = self.claim_missing(client, &own, source)?;
            if let Some(follower) = self.planned.front_mut().filter(|follower| follower.begun) {
                follower.begun = claiming::prove_begun(client, &follower.claim.uri)?;
            }
            Ok((settled, left, found))
        })?;
        self.current = None;
        self.late.add(left);
        self.prefetcher = Some(prefetcher);
        self.prefetch_all(found, source)?;
        Ok(settled)
    }

    /// Loads the object in a subtransaction and records the result, unless resources are exhausted.
    fn attempt(
        &mut self,
        client: &mut SpiClient<'_>,
        target: &Target,
        next: &Planned,
        prefetcher: &mut Prefetcher,
        left: &mut Offsets,
        source: &dyn Source,
    ) -> Result<Settled> {
        // The session that has the claim now takes the attempt for one that has ended, and records it.
        if !claiming::keep(&next.claim.uri) {
            return Ok(Settled::Changed);
        }
        let began = Instant::now();
        let load = || Ok(one::load_planned(client, target, &next.plan, prefetcher.thread(), left)?);
        let result = ffi::attempt::<_, Failure>(load);
        let settled = attempt::settle(client, &next.claim.uri, &next.plan.version, result, Verdict::OutOfResources)?;
        if next.claim.probe && matches!(settled, Settled::Loaded(_) | Settled::Failed(_)) {
            outage::end_of(client, &next.claim.uri)?;
        }
        match &settled {
            Settled::Loaded(report) => {
                let ms = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1e3);
                self.prefetch_depth.loaded(ms(report.insert_ms), ms(report.elapsed_ms - report.insert_ms));
                source.count(client, &next.claim, Some((report, began)))?;
            }
            Settled::Failed(failure) => {
                held_chunks::note(failure);
                source.count(client, &next.claim, None)?;
            }
            Settled::Busy | Settled::Changed | Settled::Unrecorded(_) => {}
        }
        Ok(settled)
    }

    fn release(&mut self, claim: Claim) {
        self.claimed.retain(|uri| *uri != claim.uri);
        claiming::release(&claim.uri);
    }

    /// Starts a new prefetcher with the planned objects.
    fn restart_prefetcher(&mut self) -> Result<()> {
        self.prefetcher = None;
        let ask = |planned: &mut Planned| {
            planned.plan.asked = Instant::now();
            planned.plan.job.clone()
        };
        let jobs: Vec<_> = self.planned.iter_mut().map(ask).collect();
        if !jobs.is_empty() {
            self.prefetcher = Some(Prefetcher::start(jobs)?);
        }
        Ok(())
    }
}
