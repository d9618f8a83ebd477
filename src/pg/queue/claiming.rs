//! Claims: session-level locks on objects of the queue. A session loads no object that another session has
//! claimed, and never waits for a claim. However a session ends, its claims end with it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::attempt;
use super::claim::Claim;
use crate::error::Result;
use crate::pg::session::locks::Lock;
use crate::pg::session::spi;

thread_local! {
    /// Objects that [`take`] has locked and its caller has not taken over yet.
    static TAKEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Marks the claims of [`take`] as taken over: its caller releases them from now on.
pub fn taken_over() {
    TAKEN.take();
}

/// Releases the objects that [`take`] has locked and that its caller did not take over because of an error.
pub fn release_taken() {
    TAKEN.take().iter().for_each(|uri| release(uri));
}

/// Claims up to `most` of the candidates: the first ones that no other session has claimed and that are still
/// pending. `own` are the claims of this session; they are left out here, because a lock does not exclude the
/// session that holds it.
pub fn take(
    client: &mut SpiClient<'_>,
    mut candidates: Vec<String>,
    own: &HashSet<String>,
    most: usize,
) -> Result<Vec<Claim>> {
    candidates.retain(|uri| !own.contains(uri));
    while !candidates.is_empty() {
        let locked = lock_free(&candidates, most);
        if locked.is_empty() {
            break;
        }
        candidates.retain(|uri| !locked.contains(uri));
        // A statement after the locks sees what their last holders have committed.
        let (claims, gone) = check_and_record_lost(client, locked)?;
        gone.iter().for_each(|uri| release(uri));
        TAKEN.with_borrow_mut(|taken| taken.retain(|uri| !gone.contains(uri)));
        if !claims.is_empty() {
            return Ok(claims);
        }
        // None of the locked objects can be loaded now, so the objects behind them are tried.
    }
    Ok(Vec::new())
}

/// Locks up to `most` of the candidates: the first ones that no other session has claimed. Each lock is noted
/// in [`TAKEN`] at once, so that it is also released if PostgreSQL has no room for a further lock and raises
/// an error.
fn lock_free(candidates: &[String], most: usize) -> Vec<String> {
    let mut locked = Vec::new();
    for uri in candidates {
        if locked.len() == most {
            break;
        }
        if Lock::Claim(uri).try_for_session() {
            TAKEN.with_borrow_mut(|taken| taken.push(uri.clone()));
            locked.push(uri.clone());
        }
    }
    locked
}

/// A locked object that is still pending (`claim_check.sql`).
#[derive(Deserialize)]
struct Row {
    uri: String,
    generation: i64,
    live: bool,
    /// Whether an attempt has begun and has no result.
    begun: bool,
}

/// Divides locked objects into claims to load and uris that cannot be loaded now. The latter are not pending
/// any more, another session has locked their rows, or their last attempt ended without a result, which is
/// recorded here.
pub fn check_and_record_lost(client: &mut SpiClient<'_>, locked: Vec<String>) -> Result<(Vec<Claim>, Vec<String>)> {
    let rows: Vec<Row> = spi::fetch_kept(client, statement!("claim_check"), &[locked.clone().into()])?;
    let mut pending: HashMap<String, Row> = rows.into_iter().map(|row| (row.uri.clone(), row)).collect();
    let mut claims = Vec::new();
    let mut gone = Vec::new();
    for uri in locked {
        match pending.remove(&uri) {
            // No other session holds the claim, so the attempt has ended with its process or with a cancelled
            // sweep. A session whose load goes on has lost its claim, but not the object's lock.
            Some(Row { begun: true, .. }) => {
                if Lock::Object(&uri).try_for_transaction() {
                    attempt::record_lost(client, &uri)?;
                }
                gone.push(uri);
            }
            Some(Row { generation, live, .. }) => claims.push(Claim { uri, generation, live, probe: false }),
            None => gone.push(uri),
        }
    }
    Ok((claims, gone))
}

/// Counts an attempt at a claimed object, as [`attempt::begin`] does. Returns `false`, and counts nothing, also if the
/// claim was lost and another session has it: triggers of the tables' owner may release the locks of the session. The
/// claim is proved last, because another session that has it takes a counted attempt for one that has ended.
pub fn begin(client: &mut SpiClient<'_>, claim: &Claim) -> Result<bool> {
    let uri = &claim.uri;
    if !keep(uri) || !attempt::begin(client, claim)? {
        return Ok(false);
    }
    if keep(uri) {
        return Ok(true);
    }
    attempt::take_back(client, vec![uri.clone()]).map(|()| false)
}

/// Proves a claim whose attempt [`begin`] has counted, as the last work of the transaction. Returns `false`, and takes
/// the attempt back, if another session has the claim. Deferred triggers of the tables' owner would fire at the commit,
/// behind the proof, so they fire here; other sessions cannot take the claim for that of an ended attempt until the
/// commit, because the object's row is locked.
pub fn prove_begun(client: &mut SpiClient<'_>, uri: &str) -> Result<bool> {
    spi::execute_kept(client, "SET CONSTRAINTS ALL IMMEDIATE", &[])?;
    if keep(uri) {
        return Ok(true);
    }
    attempt::take_back(client, vec![uri.to_owned()]).map(|()| false)
}

/// Returns whether this session still has a claim, or has it again. Inside a transaction.
pub fn keep(uri: &str) -> bool {
    Lock::Claim(uri).keep()
}

/// Releases a claim at once, inside or outside a transaction.
pub fn release(uri: &str) {
    Lock::Claim(uri).release();
}

/// Releases a claim when the transaction commits, so that no session finds the object free before it sees the
/// result.
pub fn release_at_commit(uri: &str) {
    Lock::Claim(uri).release_at_commit();
}
