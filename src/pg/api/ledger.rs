//! Gaps and days, which `sql/ledger.sql` declares.

use pgrx::AnyElement;
use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::quality::{days, gaps};
use crate::pg::session::report;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn id_holes(
    only_asset: Option<&str>,
) -> TableIterator<'static, (name!(asset, String), name!(first_trade_id, i64), name!(last_trade_id, i64))> {
    let row = |hole: gaps::Hole| (hole.asset.to_string(), hole.first, hole.last);
    let result = gaps::holes_as_caller(only_asset);
    report::or_raise(None, result.map(|holes| TableIterator::new(holes.into_iter().map(row))))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn slice_days(
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
) -> TableIterator<
    'static,
    (
        name!(asset, String),
        name!(day, TimestampWithTimeZone),
        name!(ticks, i64),
        name!(slices, i64),
        name!(out_of_order, i64),
        name!(max_time_skew, Option<Interval>),
        name!(last_loaded, TimestampWithTimeZone),
    ),
> {
    let (Some(from), Some(to)) = (from, to) else { return TableIterator::new(Vec::new()) };
    let time = |us: i64| TimestampWithTimeZone::try_from(us).map_err(|_| internal("a time is out of range"));
    let row = |((day, asset), found): ((i64, String), days::Day)| {
        let skew =
            found.max_skew.map(|us| Interval::new(0, 0, us).map_err(|_| internal("an interval is out of range")));
        let (ticks, slices) = (found.ticks(), found.slices());
        Ok((asset, time(day)?, ticks, slices, found.out_of_order, skew.transpose()?, time(found.last_loaded)?))
    };
    let rows: Result<Vec<_>> = days::days(from, to).and_then(|days| days.into_iter().map(row).collect());
    report::or_raise(None, rows.map(TableIterator::new))
}

fn internal(why: &str) -> Error {
    Error::Internal { why: why.into() }
}

#[pg_extern(sql = false)]
fn explain_gap(
    asset: Option<&str>,
    first_trade_id: Option<i64>,
    last_trade_id: Option<i64>,
    reason: Option<&str>,
) -> i64 {
    let needed = |key: &str| Error::InvalidOption { key: key.into(), why: "is missing".into() };
    let result = || {
        let first = first_trade_id.ok_or_else(|| needed("first_trade_id"))?;
        let last = last_trade_id.ok_or_else(|| needed("last_trade_id"))?;
        gaps::explain(asset.unwrap_or_default(), first, last, reason.unwrap_or_default())
    };
    report::or_raise(None, result())
}

#[pg_extern(sql = false)]
fn import_incidents(incidents: Option<AnyElement>, tolerance: Option<Interval>) -> i64 {
    let tolerance = tolerance.map_or(60_000_000, |tolerance| i64::try_from(tolerance.as_micros()).unwrap_or(i64::MAX));
    let result = super::json("incidents", incidents).and_then(|list| gaps::import_incidents(&list, tolerance));
    report::or_raise(None, result)
}

#[pg_extern(sql = false)]
fn report_gaps() -> i64 {
    report::or_raise(None, gaps::report())
}

#[pg_extern(sql = false)]
fn declare_asset(asset: Option<&str>, sequential_ids: Option<bool>) {
    let result = gaps::declare(asset.unwrap_or_default(), sequential_ids.unwrap_or(true));
    report::or_raise(None, result);
}
