//! One object after another, one transaction each: claim, order, load, book, and begin the next attempt in the same commit.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use pgrx::spi::SpiClient;

use super::attempt;
use super::claim::{self, Claim};
use super::series::Series;
use crate::error::{Error, Result};
use crate::load::pace::Pace;
use crate::load::series::AHEAD;
use crate::model::report::LoadReport;
use crate::pg::ffi::{self, Failure};
use crate::pg::loader::{self, Became};
use crate::pg::registry::{Offsets, Seen};
use crate::pg::worker::tx;

/// Until the transaction ends, nobody else's lock is waited for for more than a second: then the load is put off, and another
/// object's turn comes.
pub fn wait_for_no_lock() {
    ffi::set_local(c"lock_timeout", c"1s");
}

/// Loads after which a worker looks around.
const TURN: usize = AHEAD / 2;

/// Whose objects a worker loads.
pub trait Source {
    /// Makes pending what has come and what is due again.
    fn look_around(&mut self, client: &mut SpiClient<'_>) -> Result<()>;
    /// The next objects, claimed, none of `own`. More than `most` only if nobody else is to have them. Often in the
    /// transaction of a load, so that it costs no commit of its own: it waits for nobody.
    fn claim(&mut self, client: &mut SpiClient<'_>, own: &HashSet<String>, most: usize) -> Result<Vec<Claim>>;
    /// One of them is loaded, or has failed (`None`); in the same transaction.
    fn count(&self, client: &mut SpiClient<'_>, claim: &Claim, loaded: Option<(&LoadReport, Instant)>) -> Result<()>;
    /// Disk, memory or connections have run out: no object's fault, and no use to go on with the next one. After the object's
    /// transaction was rolled back.
    fn out_of_resources(&mut self, uri: &str, seen: &Seen, failure: &Failure);
}

/// An object that was ordered from the reading thread.
struct Ordered {
    claim: Claim,
    order: loader::Order,
    begun: bool,
}

/// What the reading thread is to be told of an object that is claimed.
type Found = (Claim, Result<loader::Order>);

/// A worker that loads one object after another.
#[derive(Default)]
pub struct Loading {
    ordered: VecDeque<Ordered>,
    /// All that is claimed: what errors leave behind as well.
    held: Vec<String>,
    series: Option<Series>,
    /// Offsets that somebody else had locked.
    offsets: Offsets,
    /// How many objects are to be ahead.
    pace: Pace,
    /// What is being loaded, for errors that end its transaction.
    in_work: Option<(String, Seen)>,
}

/// What became of one object.
enum Done {
    Loaded,
    Failed,
    /// Somebody else is loading it.
    Left,
    /// Somebody has changed it since it was claimed: there may be something to claim again.
    Changed,
    OutOfResources(Failure),
}

impl Loading {
    /// Loads a few objects. `false`: there was nothing to load.
    pub fn work(&mut self, source: &mut dyn Source) -> Result<bool> {
        self.claim(source)?;
        let mut moved = false;
        for _ in 0..TURN {
            let Some(next) = self.ordered.pop_front() else { break };
            moved |= self.load(next, source)?;
            if self.missing() > 0 {
                break;
            }
        }
        if !moved && self.ordered.is_empty() {
            // What comes next may be of another size.
            self.pace = Pace::default();
        }
        // Somebody else is loading all of these: asking again and again would not make them faster.
        Ok(moved || !self.ordered.is_empty())
    }

    /// Gives back what was claimed, with the attempt that was begun: to be stopped is no object's fault.
    pub fn give_back(&mut self) {
        self.series = None;
        self.ordered.clear();
        if self.held.is_empty() {
            return;
        }
        tx(|client| {
            // A process that is to end waits neither for somebody's lock nor for a standby.
            wait_for_no_lock();
            ffi::set_local(c"synchronous_commit", c"local");
            attempt::take_back(client, self.held.clone())
        });
        self.held.drain(..).for_each(|uri| claim::let_go(&uri));
    }

    /// The last work of a process. Twice, as the first may meet the very signal that ends it.
    pub fn end(&mut self) {
        ffi::set_for_session(c"lock_timeout", c"1s");
        if ffi::survive(|| self.give_back()).is_err() {
            let _ = ffi::survive(|| self.give_back());
        }
    }

    /// What was claimed is not claimed any more: its locks are gone.
    pub fn forget(&mut self) {
        self.held.clear();
    }

    /// Books the object whose transaction an error has ended, at its commit for example.
    pub fn fail_in_work(&mut self, failure: &Failure) {
        if let Some((uri, seen)) = self.in_work.take() {
            tx(|client| attempt::fail(client, &uri, failure, &seen));
        }
    }

    /// Writes offsets that were left because somebody had locked them.
    pub fn write_offsets(&mut self) {
        if !self.offsets.is_empty() {
            let offsets = std::mem::take(&mut self.offsets);
            self.offsets = tx(|client| offsets.write_if_free(client));
        }
    }

    /// Objects that are to be claimed now.
    fn missing(&self) -> usize {
        self.pace.missing(self.ordered.len())
    }

    /// Sees what is new, claims what is missing, and orders it.
    fn claim(&mut self, source: &mut dyn Source) -> Result<()> {
        let own = self.own();
        let found = tx(|client| {
            source.look_around(client)?;
            self.claim_missing(client, &own, source)
        });
        self.order_all(found, source)
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
        self.ordered.iter().map(|ordered| ordered.claim.uri.clone()).collect()
    }

    /// From now on these are ours to let go of.
    fn take_over(&mut self, client: &mut SpiClient<'_>, claims: Vec<Claim>) -> Vec<Found> {
        self.held.extend(claims.iter().map(|claim| claim.uri.clone()));
        claim::taken_over();
        let order = |claim: Claim| {
            let order = loader::order(client, &claim.uri);
            (claim, order)
        };
        claims.into_iter().map(order).collect()
    }

    /// Once their claims are committed.
    fn order_all(&mut self, found: Vec<Found>, source: &mut dyn Source) -> Result<()> {
        for (claim, order) in found {
            match order {
                Ok(order) => {
                    self.order(&order)?;
                    self.ordered.push_back(Ordered { claim, order, begun: false });
                }
                Err(error) => {
                    tx(|client| {
                        attempt::begin(client, &claim)?;
                        attempt::refuse_begun(client, &claim, error)?;
                        source.count(client, &claim, None)
                    });
                    self.let_go(claim);
                }
            }
        }
        Ok(())
    }

    fn order(&mut self, order: &loader::Order) -> Result<()> {
        match &self.series {
            Some(series) => series.order(order.job.clone()),
            None => {
                self.series = Some(Series::start([order.job.clone()])?);
                Ok(())
            }
        }
    }

    /// One object, in one transaction, with the beginning of the next one's attempt. `false`: somebody else is loading it.
    fn load(&mut self, mut next: Ordered, source: &mut dyn Source) -> Result<bool> {
        ffi::show_activity(Some(&format!("loading {}", next.claim.uri)));
        if !next.begun {
            next.begun = tx(|client| attempt::begin(client, &next.claim));
        }
        let done = if next.begun { self.load_begun(&next, source)? } else { Done::Changed };
        if let Done::OutOfResources(failure) = done {
            // First of all, and alone: where nothing more can be written, this may be what still fits.
            source.out_of_resources(&next.claim.uri, &next.order.seen, &failure);
            self.give_back();
            return Ok(true);
        }
        self.let_go(next.claim);
        if !matches!(done, Done::Loaded) {
            // What else the thread has to say of this object would be taken for the next one's.
            self.reorder()?;
        }
        Ok(!matches!(done, Done::Left))
    }

    fn load_begun(&mut self, next: &Ordered, source: &mut dyn Source) -> Result<Done> {
        let began = Instant::now();
        let Some(mut series) = self.series.take() else {
            return Err(Error::Internal { why: "nobody reads what was ordered".into() });
        };
        let mut offsets = std::mem::take(&mut self.offsets);
        self.in_work = Some((next.claim.uri.clone(), next.order.seen.clone()));
        let mut own = self.own();
        own.insert(next.claim.uri.clone());
        let (done, offsets, found) = tx(|client| {
            wait_for_no_lock();
            let attempt = ffi::attempt(|| loader::load_ordered(&next.order, series.thread(), &mut offsets));
            let done = match attempt {
                Ok(Became::Loaded(report)) => {
                    let ms = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1e3);
                    self.pace.loaded(ms(report.insert_ms), ms(report.elapsed_ms - report.insert_ms));
                    source.count(client, &next.claim, Some((&report, began)))?;
                    Done::Loaded
                }
                Ok(left) => {
                    attempt::take_back(client, vec![next.claim.uri.clone()])?;
                    if matches!(left, Became::Busy) { Done::Left } else { Done::Changed }
                }
                Err(failure) if attempt::is_out_of_resources(&failure) => Done::OutOfResources(failure),
                Err(failure) => {
                    attempt::fail(client, &next.claim.uri, &failure, &next.order.seen)?;
                    source.count(client, &next.claim, None)?;
                    Done::Failed
                }
            };
            if !matches!(done, Done::Loaded) {
                return Ok((done, offsets, Vec::new()));
            }
            if let Some(follower) = self.ordered.front_mut() {
                follower.begun = attempt::begin(client, &follower.claim)?;
            }
            let found = self.claim_missing(client, &own, source)?;
            Ok((done, offsets, found))
        });
        self.in_work = None;
        self.offsets = offsets;
        self.series = Some(series);
        self.order_all(found, source)?;
        Ok(done)
    }

    /// Nobody is kept from it any more.
    fn let_go(&mut self, claim: Claim) {
        self.held.retain(|uri| *uri != claim.uri);
        claim::let_go(&claim.uri);
    }

    /// A new thread with the orders that are left.
    fn reorder(&mut self) -> Result<()> {
        self.series = None;
        let jobs: Vec<_> = self.ordered.iter().map(|ordered| ordered.order.job.clone()).collect();
        if !jobs.is_empty() {
            self.series = Some(Series::start(jobs)?);
        }
        Ok(())
    }
}
