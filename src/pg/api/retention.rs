//! Retention, which `sql/retention.sql` declares.

use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::queue::sweep::{self, Among};
use crate::pg::retention::outcome::Outcome;
use crate::pg::retention::{policies, restore, step};
use crate::pg::session::report;
use crate::pg::session::target::as_owner;

#[pg_extern(sql = false)]
fn apply_retention() -> TableIterator<'static, (name!(job_name, String), name!(done, String))> {
    let rows = policies::apply().map(|done| done.into_iter().map(|applied| (applied.job, applied.done)));
    report::or_raise(None, rows.map(TableIterator::new))
}

#[pg_extern(sql = false)]
fn retention_step(began: Option<TimestampWithTimeZone>) -> String {
    let began = began.unwrap_or_else(TimestampWithTimeZone::positive_infinity);
    let result: Result<Outcome> = as_owner(|client, _| step::step(client, began));
    report::or_raise(None, result.map(|outcome| outcome.as_str().to_owned()))
}

/// Returns the bounds of a range, which both are needed.
fn bounds(
    asset: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
) -> Result<(&str, TimestampWithTimeZone, TimestampWithTimeZone)> {
    let wrong = || Error::InvalidArgument { what: "asset, from and to must not be null".into() };
    let (from, to) = from.zip(to).ok_or_else(wrong)?;
    if from >= to {
        return Err(Error::InvalidArgument { what: "the range must begin before it ends".into() });
    }
    Ok((asset.ok_or_else(wrong)?, from, to))
}

#[pg_extern(sql = false)]
fn record_dropped(
    asset: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
) -> TableIterator<
    'static,
    (
        name!(range_from, TimestampWithTimeZone),
        name!(range_to, TimestampWithTimeZone),
        name!(ticks, i64),
        name!(objects, i64),
    ),
> {
    let recorded = bounds(asset, from, to).and_then(|(asset, from, to)| restore::record(asset, from, to));
    report::or_raise(None, recorded.map(TableIterator::new))
}

#[pg_extern(sql = false)]
fn want_range(
    asset: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
) -> TableIterator<
    'static,
    (name!(objects, i64), name!(first, TimestampWithTimeZone), name!(after, TimestampWithTimeZone)),
> {
    let wanted = bounds(asset, from, to).and_then(|(asset, from, to)| restore::want(asset, from, to));
    report::or_raise(None, wanted.map(TableIterator::once))
}

#[pg_extern(sql = false)]
fn restore_step(
    asset: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    claim_next: Option<bool>,
) -> bool {
    let result = bounds(asset, from, to).and_then(|(asset, from, to)| {
        sweep::step(&Among::Wanted { asset: asset.to_owned(), from, to }, claim_next.unwrap_or(false))
    });
    report::or_raise(None, result)
}

#[pg_extern(sql = false)]
fn range_restored(
    asset: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    keep: Option<Interval>,
) -> Option<String> {
    let keep = keep.ok_or_else(|| Error::InvalidArgument { what: "keep must not be null".into() });
    let missing = bounds(asset, from, to).and_then(|(asset, from, to)| restore::restored(asset, from, to, keep?));
    report::or_raise(None, missing)
}
