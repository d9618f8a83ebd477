//! Units of work, which `sql/work.sql` declares.

use pgrx::prelude::*;
use pgrx::{AnyNumeric, Uuid};

use crate::error::{Error, Result};
use crate::load::compare::SliceKey;
use crate::model::digest::TickSums;
use crate::pg::session::report;
use crate::pg::session::time::timestamp;
use crate::pg::work::digests;
use crate::pg::work::units::{self, Finished, Wanted};

fn needed(name: &str) -> Error {
    Error::InvalidArgument { what: format!("{name} must not be null") }
}

#[pg_extern(sql = false)]
fn lease_units(
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    by: Option<&str>,
    kind: Option<&str>,
    limits: Option<Vec<Option<i32>>>,
    lease: Option<Interval>,
    assets: Option<Vec<Option<String>>>,
) -> SetOfIterator<'static, i64> {
    let limits = limits.unwrap_or_default();
    let limit = |place: usize, name: &str| limits.get(place).copied().flatten().ok_or_else(|| needed(name));
    let wanted = || {
        Ok(Wanted {
            from: from.ok_or_else(|| needed("\"from\""))?,
            to: to.ok_or_else(|| needed("\"to\""))?,
            by: by.ok_or_else(|| needed("by"))?.to_owned(),
            kind: kind.ok_or_else(|| needed("kind"))?.to_owned(),
            most: limit(0, "most")?,
            lease: lease.ok_or_else(|| needed("lease"))?,
            assets: assets.map(|assets| assets.into_iter().flatten().collect()),
            max_attempts: limit(1, "max_attempts")?,
        })
    };
    report::or_raise(None, wanted().and_then(units::lease).map(SetOfIterator::new))
}

#[pg_extern(sql = false)]
fn extend_units(tokens: Option<Vec<Option<Uuid>>>, lease: Option<Interval>) -> i64 {
    let result = || {
        let tokens = tokens.ok_or_else(|| needed("tokens"))?.into_iter().flatten().collect();
        units::extend(tokens, lease.ok_or_else(|| needed("lease"))?)
    };
    report::or_raise(None, result())
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn finish_unit(
    token: Option<Uuid>,
    parts: Option<Vec<Option<Uuid>>>,
) -> TableIterator<
    'static,
    (name!(outcome, String), name!(unit, i64), name!(slices, i64), name!(candles, i64), name!(vectors, i64)),
> {
    let row = |done: Finished| {
        let outcome = if done.before { "already published" } else { "published" };
        let count = |count: Option<i64>| count.unwrap_or(0);
        (outcome.to_owned(), done.unit, count(done.slices), count(done.candles), count(done.vectors))
    };
    let parts = parts.map(|parts| parts.into_iter().flatten().collect());
    let result = token.ok_or_else(|| needed("token")).and_then(|token| units::finish(token, parts));
    report::or_raise(None, result.map(|done| TableIterator::once(row(done))))
}

#[pg_extern(sql = false)]
fn fail_unit(token: Option<Uuid>, reason: Option<&str>) {
    let result = token.ok_or_else(|| needed("token"));
    report::or_raise(None, result.and_then(|token| units::fail(token, reason.unwrap_or_default())));
}

#[pg_extern(sql = false)]
fn forget_units(kind: Option<&str>, from: Option<TimestampWithTimeZone>, to: Option<TimestampWithTimeZone>) -> i64 {
    let result = || {
        let (from, to) = (from.ok_or_else(|| needed("\"from\""))?, to.ok_or_else(|| needed("\"to\""))?);
        units::forget(kind.ok_or_else(|| needed("kind"))?, from, to)
    };
    report::or_raise(None, result())
}

/// A row of `slice_digests()`.
type DigestRow = (TimestampWithTimeZone, i64, AnyNumeric, AnyNumeric, String);

fn digest_row((key, sums): (SliceKey, TickSums)) -> Result<DigestRow> {
    let number =
        |text: String| text.parse::<AnyNumeric>().map_err(|error| Error::Internal { why: format!("{text}: {error}") });
    let (quantity, amount) = (number(sums.quantity_text())?, number(sums.amount_text())?);
    Ok((timestamp(key.0)?, sums.rows, quantity, amount, sums.digest_text()))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn slice_digests(
    asset: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
) -> TableIterator<
    'static,
    (
        name!(bucket_5m, TimestampWithTimeZone),
        name!(ticks, i64),
        name!(quantity, AnyNumeric),
        name!(amount, AnyNumeric),
        name!(digest, String),
    ),
> {
    let result = || {
        let (from, to) = (from.ok_or_else(|| needed("\"from\""))?, to.ok_or_else(|| needed("\"to\""))?);
        let slices = digests::stored(asset.ok_or_else(|| needed("asset"))?, from, to)?;
        slices.into_iter().map(digest_row).collect::<Result<Vec<DigestRow>>>()
    };
    report::or_raise(None, result().map(TableIterator::new))
}
