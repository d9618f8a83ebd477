//! Live objects: those that no backfill owns. Their turn comes before any backfill's.

use std::collections::HashSet;
use std::time::Duration;

use pgrx::spi::SpiClient;

use super::claim::{self, Claim};
use crate::error::Result;
use crate::load::series::AHEAD;
use crate::pg::{guc, spi};

/// Objects that are looked at for one that is free, if others have taken the first few.
const LOOK_AT: i64 = 512;

/// How long something that others hold is left to them before somebody looks again.
const HELD: Duration = Duration::from_secs(1);

/// Which end of the queue comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Ticks in the order in which they were traded.
    Oldest,
    /// What happens now, before what was missed.
    Newest,
}

/// Claims up to `most` of the next live objects of these assets (`None`: of all), but leaves others something to do: a claim is
/// held while the object before it is loaded.
pub fn claim(
    client: &mut SpiClient<'_>,
    order: Order,
    assets: Option<&[String]>,
    own: &HashSet<String>,
    most: usize,
) -> Result<Vec<Claim>> {
    let claims = find(client, order, assets, |client, candidates| {
        let share = candidates.len() / (2 * guc::workers().max(1) as usize);
        let claims = claim::take(client, candidates, own, share.clamp(1, most))?;
        Ok((!claims.is_empty()).then_some(claims))
    })?;
    Ok(claims.unwrap_or_default())
}

/// What `choose` chooses of the live objects that are pending, in order, whoever has claimed them. It is asked about the first
/// few, among which every worker finds its share as a rule, and only if it takes none of them about many.
pub fn find<T>(
    client: &mut SpiClient<'_>,
    order: Order,
    assets: Option<&[String]>,
    mut choose: impl FnMut(&mut SpiClient<'_>, Vec<String>) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let few = 2 * AHEAD as i64 * i64::from(guc::workers().max(1));
    for most in [few, LOOK_AT.max(few)] {
        let candidates = candidates(client, order, assets, most)?;
        let all = (candidates.len() as i64) < most;
        let chosen = choose(client, candidates)?;
        if all || chosen.is_some() {
            return Ok(chosen);
        }
    }
    Ok(None)
}

fn candidates(client: &mut SpiClient<'_>, order: Order, assets: Option<&[String]>, most: i64) -> Result<Vec<String>> {
    let sql = match order {
        Order::Oldest => include_str!("../../../sql/queries/live_oldest.sql"),
        Order::Newest => include_str!("../../../sql/queries/live_newest.sql"),
    };
    let found = spi::json_kept(client, sql, &[most.into(), assets.map(<[String]>::to_vec).into()])?;
    Ok(claim::strings(&found))
}

/// Failed objects whose pause is over are pending again: live ones, and those of a backfill. Whether there were any.
pub fn retry_due(client: &mut SpiClient<'_>, backfill: Option<i64>) -> Result<bool> {
    Ok(spi::execute_kept(client, include_str!("../../../sql/queries/retry_due.sql"), &[backfill.into()])? > 0)
}

/// When a loader that has found nothing to do is to look again, though nobody wakes it; `None`: never.
pub fn next_look(client: &mut SpiClient<'_>) -> Result<Option<Duration>> {
    let args = [(HELD.as_secs_f64() * 1e3).into()];
    let ms = spi::json_kept(client, include_str!("../../../sql/queries/next_look.sql"), &args)?.as_f64();
    Ok(ms.map(|ms| Duration::from_secs_f64(ms / 1e3)))
}
