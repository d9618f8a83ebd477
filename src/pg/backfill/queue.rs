//! Which objects a worker takes next: claims are advisory locks of its session, so that they end with it however it ends.

use std::collections::HashSet;

use pgrx::spi::SpiClient;
use serde_json::Value;

use super::Backfill;
use crate::error::Result;
use crate::pg::spi;

/// Objects that are claimed at once: as many as may be fetched ahead.
const CLAIMS: i64 = crate::load::series::AHEAD as i64;
/// Before everything and behind everything, as (span, uri).
const FIRST: (&str, &str) = ("-infinity", "");
const LAST: (&str, &str) = ("infinity", "\u{10FFFF}");

/// An object that nobody else will take.
pub struct Claim {
    pub uri: String,
    /// Of the row when it was claimed; if it has changed, so has the object.
    pub generation: i64,
    /// No backfill's.
    pub live: bool,
}

/// Whose objects a worker may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Only those that no backfill owns.
    Live,
    /// Those first, then the backfill's.
    All,
}

/// Where a worker looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// In the chunks that are its own, forwards.
    Own,
    /// Everywhere, backwards: its own are done.
    Others,
}

/// A worker's place in the queue.
pub struct Queue {
    slot: i32,
    side: Side,
    at: (String, String),
}

impl Queue {
    /// At the beginning.
    pub fn new(slot: i32) -> Self {
        let mut queue = Queue { slot, side: Side::Own, at: Default::default() };
        queue.restart(Side::Own);
        queue
    }

    fn restart(&mut self, side: Side) {
        let (span, uri) = if side == Side::Own { FIRST } else { LAST };
        self.side = side;
        self.at = (span.to_owned(), uri.to_owned());
    }

    /// The next objects: live ones first, then the backfill's. None: nothing is pending that others have not claimed.
    pub fn claim(
        &mut self,
        client: &mut SpiClient<'_>,
        backfill: &Backfill,
        whose: Whose,
        own: &HashSet<String>,
    ) -> Result<Vec<Claim>> {
        let live = spi::json_kept(client, include_str!("../../../sql/queries/claim_live.sql"), &[CLAIMS.into()])?;
        let live = take(client, &live, own)?;
        if !live.is_empty() || whose == Whose::Live {
            return Ok(live);
        }
        // Once from where it stands, once more from the start: retries lie behind it.
        let mut turns = 0;
        loop {
            let found = self.look(client, backfill)?;
            let Some(last) = found.as_array().and_then(|rows| rows.last()) else {
                turns += 1;
                self.restart(if self.side == Side::Own { Side::Others } else { Side::Own });
                if turns == 3 {
                    return Ok(Vec::new());
                }
                continue;
            };
            let text = |key: &str| last[key].as_str().unwrap_or_default().to_owned();
            self.at = (text("span"), text("uri"));
            let claims = take(client, &found, own)?;
            if !claims.is_empty() {
                return Ok(claims);
            }
        }
    }

    fn look(&self, client: &mut SpiClient<'_>, backfill: &Backfill) -> Result<Value> {
        let (span, uri) = self.at.clone();
        match self.side {
            Side::Own => spi::json_kept(
                client,
                include_str!("../../../sql/queries/backfill_claim.sql"),
                &[
                    backfill.id.into(),
                    span.into(),
                    uri.into(),
                    self.slot.into(),
                    backfill.parallel.into(),
                    backfill.interval.into(),
                    CLAIMS.into(),
                ],
            ),
            Side::Others => spi::json_kept(
                client,
                include_str!("../../../sql/queries/backfill_claim_last.sql"),
                &[backfill.id.into(), span.into(), uri.into(), CLAIMS.into()],
            ),
        }
    }
}

/// Claims those of the found objects that are free and not our `own` already, and keeps those that are still pending then.
fn take(client: &mut SpiClient<'_>, found: &Value, own: &HashSet<String>) -> Result<Vec<Claim>> {
    let mut uris: Vec<String> = strings(found.as_array().into_iter().flatten().map(|row| &row["uri"]));
    uris.retain(|uri| !own.contains(uri));
    if uris.is_empty() {
        return Ok(Vec::new());
    }
    let locked = spi::json_kept(client, include_str!("../../../sql/queries/claim_lock.sql"), &[uris.into()])?;
    let locked = strings(locked.as_array().into_iter().flatten());
    // In a statement of its own: what the claim's last holder did is seen now.
    let rows = spi::json_kept(client, include_str!("../../../sql/queries/claim_check.sql"), &[locked.clone().into()])?;
    let mut claims = Vec::new();
    let mut gone = Vec::new();
    for uri in locked {
        match rows.as_array().and_then(|rows| rows.iter().find(|row| row["uri"] == uri.as_str())) {
            Some(row) => claims.push(Claim {
                uri,
                generation: row["generation"].as_i64().unwrap_or(0),
                live: row["live"] == true,
            }),
            None => gone.push(uri),
        }
    }
    release(client, gone)?;
    Ok(claims)
}

/// Gives claims back.
pub fn release(client: &mut SpiClient<'_>, uris: Vec<String>) -> Result<()> {
    if uris.is_empty() {
        return Ok(());
    }
    spi::execute_kept(client, include_str!("../../../sql/queries/claim_release.sql"), &[uris.into()]).map(drop)
}

fn strings<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<String> {
    values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}
