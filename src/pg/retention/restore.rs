//! Ranges that were dropped: by another statement, so that they are to be recorded; or that are to come back. Then
//! their objects become pending again, and they are restored when as many ticks are stored as were dropped.

use pgrx::datum::{Interval, TimestampWithTimeZone};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::pg::session::shared::wake_at_commit;
use crate::pg::session::spi;
use crate::pg::session::target::as_owner;
use crate::pg::session::time::Time;

/// Ranges that are to come back (`restore_want.sql`).
#[derive(Deserialize)]
struct Wanted {
    ranges: i64,
    objects: i64,
    #[serde(deserialize_with = "spi::nullable")]
    first: Option<Time>,
    #[serde(deserialize_with = "spi::nullable")]
    after: Option<Time>,
}

/// How far ranges are restored (`restore_state.sql`).
#[derive(Deserialize)]
struct State {
    waiting: i64,
    #[serde(deserialize_with = "spi::nullable")]
    failed: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    missing: Option<String>,
}

/// Makes the objects of all dropped ranges pending that touch a range of an asset. Returns how many objects there are,
/// and what the ranges cover.
pub fn want(
    asset: &str,
    from: TimestampWithTimeZone,
    to: TimestampWithTimeZone,
) -> Result<(i64, TimestampWithTimeZone, TimestampWithTimeZone)> {
    let wanted: Wanted = as_owner(|client, _| {
        let args = [asset.to_owned().into(), from.into(), to.into()];
        spi::fetch(client, statement!("restore_want"), &args)
    })?;
    let (Some(first), Some(after)) = (wanted.first, wanted.after) else {
        return Err(Error::NotDropped { asset: asset.to_owned() });
    };
    debug_assert!(wanted.ranges > 0);
    wake_at_commit();
    Ok((wanted.objects, first.timestamp()?, after.timestamp()?))
}

/// A range that was recorded: start, end (exclusive), ticks, objects.
pub type Recorded = (TimestampWithTimeZone, TimestampWithTimeZone, i64, i64);

/// Records the slices of an asset in a range as dropped whose chunk another statement has dropped.
pub fn record(asset: &str, from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<Vec<Recorded>> {
    let ranges: Vec<(Time, Time, i64, i64)> = as_owner(|client, _| {
        let args = [asset.to_owned().into(), from.into(), to.into()];
        spi::fetch(client, statement!("retention_record_gone"), &args)
    })?;
    if ranges.is_empty() {
        return Err(Error::NothingGone { asset: asset.to_owned() });
    }
    let row =
        |(from, to, ticks, objects): (Time, Time, i64, i64)| Ok((from.timestamp()?, to.timestamp()?, ticks, objects));
    ranges.into_iter().map(row).collect()
}

/// Records the ranges as restored if all of their ticks are back. Returns `None` then, otherwise what is missing, or an
/// empty text if objects still wait.
pub fn restored(
    asset: &str,
    from: TimestampWithTimeZone,
    to: TimestampWithTimeZone,
    keep: Interval,
) -> Result<Option<String>> {
    as_owner(|client, _| {
        let args = || [asset.to_owned().into(), from.into(), to.into()];
        let state: State = spi::fetch(client, statement!("restore_state"), &args())?;
        if let Some(why) = state.failed {
            return Ok(Some(why));
        }
        if state.waiting > 0 {
            return Ok(Some(String::new()));
        }
        if let Some(why) = state.missing {
            return Ok(Some(why));
        }
        let [asset, from, to] = args();
        let sql = "UPDATE ops.dropped_ranges d
                      SET restored_at = clock_timestamp(), keep_until = clock_timestamp() + $4
                    WHERE d.asset = $1 AND d.from_time < $3 AND d.to_time > $2 AND d.wanted_at IS NOT NULL
                      AND d.restored_at IS NULL";
        spi::execute(client, sql, &[asset, from, to, keep.into()])?;
        Ok(None)
    })
}
