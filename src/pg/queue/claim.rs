//! Claims: session-level locks on objects of the queue. They end with the session however it ends. A session loads no object
//! that another one has claimed, and waits for no claim.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::attempt;
use crate::error::Result;
use crate::pg::session::locks::Lock;
use crate::pg::session::spi;

/// An object that this session has claimed.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The object.
    pub uri: String,
    /// The generation of its row when it was claimed. Another generation is another version of the object.
    pub generation: i64,
    /// Whether no backfill owns the object.
    pub live: bool,
}

thread_local! {
    /// What the last call of [`take`] has locked, until its caller takes over the claims.
    static TAKEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Says that the caller of [`take`] releases the claims from now on.
pub fn taken_over() {
    TAKEN.take();
}

/// Releases what [`take`] has locked and its caller, because of an error, has not taken over.
pub fn release_taken() {
    TAKEN.take().iter().for_each(|uri| release(uri));
}

/// Claims up to `most` of these objects: the first ones that no session has claimed and that are still pending. A session
/// passes its `own` claims, because a lock does not exclude its own session.
pub fn take(
    client: &mut SpiClient<'_>,
    mut candidates: Vec<String>,
    own: &HashSet<String>,
    most: usize,
) -> Result<Vec<Claim>> {
    candidates.retain(|uri| !own.contains(uri));
    while !candidates.is_empty() {
        let locked: Vec<String> =
            candidates.iter().filter(|uri| Lock::Claim(uri).try_for_session()).take(most).cloned().collect();
        if locked.is_empty() {
            break;
        }
        TAKEN.set(locked.clone());
        candidates.retain(|uri| !locked.contains(uri));
        // A statement after the locks sees what their last holders did.
        let (claims, gone) = check(client, locked)?;
        gone.iter().for_each(|uri| release(uri));
        TAKEN.with_borrow_mut(|taken| taken.retain(|uri| !gone.contains(uri)));
        if !claims.is_empty() {
            return Ok(claims);
        }
        // None of these can be loaded at the moment; the objects behind them need not wait for that.
    }
    Ok(Vec::new())
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

/// Divides locked objects into those to load and those that are not pending any more.
pub fn check(client: &mut SpiClient<'_>, locked: Vec<String>) -> Result<(Vec<Claim>, Vec<String>)> {
    let rows: Vec<Row> = spi::fetch_kept(client, statement!("claim_check"), &[locked.clone().into()])?;
    let mut pending: HashMap<String, Row> = rows.into_iter().map(|row| (row.uri.clone(), row)).collect();
    let mut claims = Vec::new();
    let mut gone = Vec::new();
    for uri in locked {
        match pending.remove(&uri) {
            // No session holds it, so the attempt has ended with its process, or with a sweep that was cancelled.
            Some(Row { begun: true, .. }) => {
                attempt::lost(client, &uri)?;
                gone.push(uri);
            }
            Some(Row { generation, live, .. }) => claims.push(Claim { uri, generation, live }),
            None => gone.push(uri),
        }
    }
    Ok((claims, gone))
}

/// Releases a claim, in a transaction or outside.
pub fn release(uri: &str) {
    Lock::Claim(uri).release();
}

/// Releases a claim when the transaction commits, so that no session finds the object free before.
pub fn release_at_commit(uri: &str) {
    Lock::Claim(uri).release_at_commit();
}
