//! Which of a backfill's objects a worker takes next.

use std::collections::HashSet;

use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::row::Backfill;
use crate::error::Result;
use crate::load::prefetch::MAX_PREFETCHED;
use crate::pg::queue::claim::{Claim, take};
use crate::pg::session::spi;

/// Objects that are claimed at once: as many as may be fetched ahead.
const CLAIMS: i64 = MAX_PREFETCHED as i64;
/// Before everything and behind everything, as (span, uri).
const FIRST: (&str, &str) = ("-infinity", "");
const LAST: (&str, &str) = ("infinity", "\u{10FFFF}");

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

/// A pending object of the backfill (`backfill_claim.sql`, `backfill_claim_last.sql`).
#[derive(Deserialize)]
struct Row {
    /// The beginning of its times, as PostgreSQL writes it.
    span: String,
    uri: String,
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

    /// Claims the next objects. Returns an empty list if other workers have claimed all that are pending.
    pub fn claim(
        &mut self,
        client: &mut SpiClient<'_>,
        backfill: &Backfill,
        own: &HashSet<String>,
    ) -> Result<Vec<Claim>> {
        // Once from where it stands, once more from the start: retries lie behind it.
        let mut turns = 0;
        loop {
            let found = self.look(client, backfill)?;
            let Some(last) = found.last() else {
                turns += 1;
                self.restart(if self.side == Side::Own { Side::Others } else { Side::Own });
                if turns == 3 {
                    return Ok(Vec::new());
                }
                continue;
            };
            self.at = (last.span.clone(), last.uri.clone());
            let claims = take(client, found.into_iter().map(|row| row.uri).collect(), own, MAX_PREFETCHED)?;
            if !claims.is_empty() {
                return Ok(claims);
            }
        }
    }

    fn look(&self, client: &mut SpiClient<'_>, backfill: &Backfill) -> Result<Vec<Row>> {
        let (span, uri) = self.at.clone();
        match self.side {
            Side::Own => spi::fetch_kept(
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
            Side::Others => spi::fetch_kept(
                client,
                statement!("backfill_claim_last"),
                &[backfill.id.into(), span.into(), uri.into(), CLAIMS.into()],
            ),
        }
    }
}
