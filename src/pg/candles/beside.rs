//! Candles of ranges that no refresh may reach, because retention has dropped ticks of another asset there.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::SpiClient;

use crate::error::Result;
use crate::pg::session::locks::Lock;
use crate::pg::session::spi;

/// Computes the candles that loads have changed since the last refresh, or all of `range`. The caller has the
/// privileges of the tables' owner. Until the transaction ends, no chunk is dropped: a candle that is deleted here is
/// computed from the ticks that are stored. Returns `false` if another session drops one or refreshes, and nothing is
/// done.
pub fn fill(client: &mut SpiClient<'_>, range: Option<(TimestampWithTimeZone, TimestampWithTimeZone)>) -> Result<bool> {
    if !Lock::Refresh.try_for_transaction() {
        return Ok(false);
    }
    let args = [range.map(|(from, _)| from).into(), range.map(|(_, to)| to).into()];
    let pieces: Vec<[String; 2]> = spi::fetch(client, statement!("candles_beside"), &args)?;
    pieces.iter().flatten().try_for_each(|sql| spi::execute(client, sql, &[]).map(drop))?;
    Ok(true)
}
