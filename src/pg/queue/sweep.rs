//! Sweeps: live objects loaded by a session, without any worker. `sweep()` in one transaction, `run_sweep` with one per object.

use std::cell::RefCell;
use std::collections::HashSet;

use pgrx::PgSqlErrorCode;
use pgrx::spi::SpiClient;

use super::claim::{self, Claim};
use super::feed::feed;
use super::live::{self, Order};
use super::loading::wait_for_no_lock;
use super::{attempt, control};
use crate::error::Result;
use crate::model::report::{LoadReport, Outcome};
use crate::pg::ffi::{self, Failure};
use crate::pg::loader::{self, Became};
use crate::pg::registry::{Offsets, Seen};
use crate::pg::target::as_owner;
use crate::pg::{guc, report, spi};

/// SQLSTATE of a statement that was cancelled, by somebody or by its time.
const CANCELLED: &str = "57014";

/// Loads up to `most` objects in the caller's transaction.
pub fn sweep(most: Option<i32>) -> Result<Vec<LoadReport>> {
    let mut reports = Vec::new();
    let mut own = HashSet::new();
    while most.is_none_or(|most| (reports.len() as i64) < i64::from(most)) {
        pgrx::check_for_interrupts!();
        let Some(uri) = as_owner(|client, _| lock_next(client, &own))? else { break };
        own.insert(uri.clone());
        // In a statement after the lock; somebody may have been faster.
        let claim = as_owner(|client, _| {
            let claim = claim::check(client, vec![uri])?.0.pop();
            claim.map(|claim| Ok((attempt::begin(client, &claim)?, claim))).transpose()
        })?;
        if let Some((true, claim)) = claim {
            reports.extend(load(&claim)?);
        }
    }
    Ok(reports)
}

/// The next object, locked until the end of the transaction, as nothing of it can be seen by others before.
fn lock_next(client: &mut SpiClient<'_>, own: &HashSet<String>) -> Result<Option<String>> {
    if !may_load(client)? {
        return Ok(None);
    }
    live::find(client, guc::queue_order(), None, |client, mut candidates| {
        candidates.retain(|uri| !own.contains(uri));
        let sql = include_str!("../../../sql/queries/claim_in_transaction.sql");
        Ok(spi::json_kept(client, sql, &[candidates.into()])?.as_str().map(str::to_owned))
    })
}

/// Brings the queue up to date, unless nothing is to be loaded now.
fn may_load(client: &mut SpiClient<'_>) -> Result<bool> {
    if control::is_paused(client)? {
        return Ok(false);
    }
    feed(client)?;
    live::retry_due(client, None)?;
    Ok(true)
}

thread_local! {
    /// What this session's `run_sweep` holds from one of its transactions to the next.
    static HELD: RefCell<Option<Claim>> = const { RefCell::new(None) };
    /// Offsets that somebody else had locked, for this session's next load.
    static OFFSETS: RefCell<Offsets> = RefCell::default();
}

/// One step of `run_sweep`: loads what the last one has claimed and claims the next object, whose attempt begins in the same
/// commit. Whether it has claimed one.
pub fn step(assets: Option<Vec<String>>, newest: Option<bool>, claim_next: bool) -> Result<bool> {
    // A sweep that is stopped between two transactions must leave nothing locked.
    ffi::at_abort(|| {
        claim::let_taken_go();
        if let Some(held) = HELD.take() {
            claim::let_go(&held.uri);
        }
    });
    wait_for_no_lock();
    let held = HELD.with_borrow(Option::clone);
    if let Some(claim) = held {
        load(&claim)?;
    }
    let order = match newest {
        Some(true) => Order::Newest,
        Some(false) => Order::Oldest,
        None => guc::queue_order(),
    };
    let next = as_owner(|client, _| if claim_next { claim_one(client, order, assets.as_deref()) } else { Ok(None) })?;
    let more = next.is_some();
    // Until the commit nobody may see the last one as free.
    let last = HELD.replace(next);
    claim::taken_over();
    if let Some(last) = last {
        claim::let_go_at_commit(&last.uri);
    }
    Ok(more)
}

fn claim_one(client: &mut SpiClient<'_>, order: Order, assets: Option<&[String]>) -> Result<Option<Claim>> {
    if !may_load(client)? {
        return Ok(None);
    }
    let own = HELD.with_borrow(|held| held.iter().map(|held| held.uri.clone()).collect());
    let free = |client: &mut SpiClient<'_>, candidates| Ok(claim::take(client, candidates, &own, 1)?.pop());
    let Some(claim) = live::find(client, order, assets, free)? else { return Ok(None) };
    if attempt::begin(client, &claim)? {
        return Ok(Some(claim));
    }
    claim::let_go(&claim.uri);
    Ok(None)
}

/// Loads a claimed object whose attempt has begun. A failure is booked and said, and is no error; `None`: it is left to somebody else.
fn load(claim: &Claim) -> Result<Option<LoadReport>> {
    let order = as_owner(|client, _| Ok(loader::order(client, &claim.uri)))?;
    let (seen, done) = match order {
        Ok(order) => {
            let mut offsets = OFFSETS.take();
            let done = ffi::attempt(|| loader::load_order(&order, &mut offsets));
            OFFSETS.set(offsets);
            (order.seen, done)
        }
        Err(error) => (Seen { generation: Some(claim.generation), rows: None }, Err(Failure::Ours(error))),
    };
    match done {
        Ok(Became::Loaded(report)) => Ok(Some(report)),
        Ok(Became::Busy | Became::Changed) => {
            as_owner(|client, _| attempt::take_back(client, vec![claim.uri.clone()]))?;
            Ok(None)
        }
        // Whoever cancels a sweep, or lets it run into a timeout, means all of it.
        Err(Failure::Postgres { sqlstate, message }) if sqlstate == CANCELLED => {
            pgrx::ereport!(ERROR, PgSqlErrorCode::ERRCODE_QUERY_CANCELED, message);
        }
        Err(failure) => {
            as_owner(|client, _| attempt::fail(client, &claim.uri, &failure, &seen))?;
            let (sqlstate, message) = failure.words();
            report::warning(&format!("{}: {message} ({sqlstate})", claim.uri));
            Ok(Some(LoadReport { uri: claim.uri.clone(), outcome: Outcome::Failed, ..LoadReport::default() }))
        }
    }
}
