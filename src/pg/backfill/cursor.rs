//! The order in which a worker claims the pending objects of its backfill.

use std::collections::HashSet;

use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::row::Backfill;
use crate::error::Result;
use crate::load::prefetch::MAX_PREFETCHED;
use crate::pg::queue::claim::Claim;
use crate::pg::queue::claiming::take;
use crate::pg::queue::held_chunks;
use crate::pg::session::spi;
use crate::pg::session::time::Time;

/// Objects that are claimed at a time: as many as may be prefetched.
const CLAIMS: i64 = MAX_PREFETCHED as i64;
/// The position before all objects, as (span, uri).
const FIRST: (Time, &str) = (Time::Beginning, "");
/// The position behind all objects.
const LAST: (Time, &str) = (Time::End, "\u{10FFFF}");
/// A claim gives up when it has come to an end so many times: once from the present position, then once each
/// way from the beginning, because objects that are due for another attempt lie behind the position.
const ENDS: i32 = 3;

/// Which objects a worker looks at, and in which direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// The objects of the worker's own chunks, forwards. Workers fill different chunks in this way.
    Own,
    /// All objects, backwards, when the worker has finished its own ones. It meets its neighbours last.
    All,
}

/// A pending object of the backfill (`backfill_claim.sql`, `backfill_claim_last.sql`).
#[derive(Deserialize)]
struct Row {
    /// The beginning of its times.
    span: Time,
    uri: String,
}

/// A worker's position among the pending objects of its backfill.
pub struct Cursor {
    slot: i32,
    direction: Direction,
    /// (span, uri) of the last object that was looked at.
    position: (Time, String),
}

impl Cursor {
    /// Returns a cursor before the first object of the worker with this slot.
    pub fn new(slot: i32) -> Self {
        let (span, uri) = FIRST;
        Cursor { slot, direction: Direction::Own, position: (span, uri.to_owned()) }
    }

    fn restart(&mut self, direction: Direction) {
        let (span, uri) = if direction == Direction::Own { FIRST } else { LAST };
        self.direction = direction;
        self.position = (span, uri.to_owned());
    }

    /// Claims the next objects, those of chunks that other sessions hold last. Returns an empty list if other workers
    /// have claimed all that are pending.
    pub fn claim(
        &mut self,
        client: &mut SpiClient<'_>,
        backfill: &Backfill,
        own: &HashSet<String>,
    ) -> Result<Vec<Claim>> {
        let mut held = false;
        let claims = self.claim_if(client, backfill, own, |row| {
            let is_held = held_chunks::holds(row.span);
            held |= is_held;
            !is_held
        })?;
        if held && claims.is_empty() { self.claim_if(client, backfill, own, |_| true) } else { Ok(claims) }
    }

    fn claim_if(
        &mut self,
        client: &mut SpiClient<'_>,
        backfill: &Backfill,
        own: &HashSet<String>,
        mut wanted: impl FnMut(&Row) -> bool,
    ) -> Result<Vec<Claim>> {
        let mut ends = 0;
        loop {
            let rows = self.pending(client, backfill)?;
            let Some(last) = rows.last() else {
                ends += 1;
                if ends == ENDS {
                    // What comes later, for example the next page of the listing, begins with the worker's own chunks.
                    self.restart(Direction::Own);
                    return Ok(Vec::new());
                }
                self.restart(if self.direction == Direction::Own { Direction::All } else { Direction::Own });
                continue;
            };
            self.position = (last.span, last.uri.clone());
            let candidates = rows.into_iter().filter(|row| wanted(row)).map(|row| row.uri).collect();
            let claims = take(client, candidates, own, MAX_PREFETCHED)?;
            if !claims.is_empty() {
                return Ok(claims);
            }
        }
    }

    /// Reads the pending objects that follow the position.
    fn pending(&self, client: &mut SpiClient<'_>, backfill: &Backfill) -> Result<Vec<Row>> {
        let (span, uri) = (self.position.0.timestamp()?, self.position.1.clone());
        match self.direction {
            Direction::Own => spi::fetch_kept(
                client,
                statement!("backfill_claim"),
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
            Direction::All => spi::fetch_kept(
                client,
                statement!("backfill_claim_last"),
                &[backfill.id.into(), span.into(), uri.into(), CLAIMS.into()],
            ),
        }
    }
}
