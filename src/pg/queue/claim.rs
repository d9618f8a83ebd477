//! Claims: advisory locks of a session, so that they end with it however it ends. Nobody loads what somebody else has claimed,
//! and nobody waits for a claim.

use std::cell::RefCell;
use std::collections::HashSet;

use pgrx::spi::SpiClient;
use serde_json::Value;

use super::attempt;
use crate::error::Result;
use crate::pg::{ffi, spi};

/// An object that nobody else will take.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The object.
    pub uri: String,
    /// Of the row when it was claimed; if it has changed, so has the object.
    pub generation: i64,
    /// No backfill's.
    pub live: bool,
}

thread_local! {
    /// Locked by the last call of [`take`], and nobody's to let go of yet.
    static TAKEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Whoever called [`take`] lets go of the claims from now on.
pub fn taken_over() {
    TAKEN.take();
}

/// Gives back what [`take`] has locked and an error has kept from being taken over.
pub fn let_taken_go() {
    TAKEN.take().iter().for_each(|uri| let_go(uri));
}

/// Claims the first `most` of these objects that are free and not our `own` already, and keeps those that are still pending then.
pub fn take(
    client: &mut SpiClient<'_>,
    mut candidates: Vec<String>,
    own: &HashSet<String>,
    most: usize,
) -> Result<Vec<Claim>> {
    // An advisory lock does not keep its own session out.
    candidates.retain(|uri| !own.contains(uri));
    while !candidates.is_empty() {
        let args = [candidates.clone().into(), (most as i64).into()];
        let locked = strings(&spi::json_kept(client, include_str!("../../../sql/queries/claim_lock.sql"), &args)?);
        if locked.is_empty() {
            break;
        }
        TAKEN.set(locked.clone());
        candidates.retain(|uri| !locked.contains(uri));
        // In a statement of its own: what the claim's last holder did is seen now.
        let (claims, gone) = check(client, locked)?;
        gone.iter().for_each(|uri| let_go(uri));
        TAKEN.with_borrow_mut(|taken| taken.retain(|uri| !gone.contains(uri)));
        if !claims.is_empty() {
            return Ok(claims);
        }
        // None of these may be had at the moment: what stands behind them is not to wait for that.
    }
    Ok(Vec::new())
}

/// Which of the locked objects are to be loaded, and which are not (any more).
pub fn check(client: &mut SpiClient<'_>, locked: Vec<String>) -> Result<(Vec<Claim>, Vec<String>)> {
    let rows = spi::json_kept(client, include_str!("../../../sql/queries/claim_check.sql"), &[locked.clone().into()])?;
    // Begun, without a result, and nobody holds it: it has ended with its process, or with a sweep that was cancelled.
    let is_lost = |row: &Value| row["begun"] == true;
    let mut claims = Vec::new();
    let mut gone = Vec::new();
    for uri in locked {
        let row = rows.as_array().and_then(|rows| rows.iter().find(|row| row["uri"] == uri.as_str()));
        match row {
            Some(row) if is_lost(row) => {
                attempt::lost(client, &uri)?;
                gone.push(uri);
            }
            Some(row) => claims.push(Claim {
                uri,
                generation: row["generation"].as_i64().unwrap_or(0),
                live: row["live"] == true,
            }),
            None => gone.push(uri),
        }
    }
    Ok((claims, gone))
}

/// What the advisory locks of claims begin with.
const LOCK: &str = "btc_ingest.claim:";

/// Gives one claim back, whether in a transaction or not.
pub fn let_go(uri: &str) {
    ffi::release_session_lock(ffi::lock_key(LOCK, uri));
}

/// Gives one claim back when the transaction commits, so that nobody sees the object as free before.
pub fn let_go_at_commit(uri: &str) {
    ffi::release_session_lock_at_commit(ffi::lock_key(LOCK, uri));
}

/// A JSON array of strings.
pub fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}
