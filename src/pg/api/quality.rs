//! Verification, which `sql/quality.sql` declares.

use pgrx::AnyNumeric;
use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::quality::{self, Ids, Verified, verification};
use crate::pg::session::report;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn verify(
    uri: Option<&str>,
    most: Option<i32>,
) -> TableIterator<
    'static,
    (
        name!(asset, String),
        name!(bucket_5m, TimestampWithTimeZone),
        name!(outcome, String),
        name!(object_rows, i64),
        name!(table_rows, i64),
        name!(object_quantity, AnyNumeric),
        name!(table_quantity, AnyNumeric),
        name!(object_amount, AnyNumeric),
        name!(table_amount, AnyNumeric),
        name!(object_digest, String),
        name!(table_digest, String),
        name!(missing, i64),
        name!(extra, Option<i64>),
        name!(differing, i64),
        name!(missing_ids, Vec<i64>),
        name!(extra_ids, Option<Vec<i64>>),
        name!(differing_ids, Vec<i64>),
        name!(problem, Option<String>),
    ),
> {
    let result = quality::verify(uri.unwrap_or_default(), most.unwrap_or(10));
    report::or_raise(uri, result.and_then(rows).map(TableIterator::new))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn verify_range(
    asset: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    most: Option<i32>,
) -> TableIterator<
    'static,
    (
        name!(asset, String),
        name!(bucket_5m, TimestampWithTimeZone),
        name!(outcome, String),
        name!(object_rows, i64),
        name!(table_rows, i64),
        name!(object_quantity, AnyNumeric),
        name!(table_quantity, AnyNumeric),
        name!(object_amount, AnyNumeric),
        name!(table_amount, AnyNumeric),
        name!(object_digest, String),
        name!(table_digest, String),
        name!(missing, i64),
        name!(extra, Option<i64>),
        name!(differing, i64),
        name!(missing_ids, Vec<i64>),
        name!(extra_ids, Option<Vec<i64>>),
        name!(differing_ids, Vec<i64>),
        name!(problem, Option<String>),
    ),
> {
    let result = || {
        let (from, to) = (from.ok_or_else(|| needed("from"))?, to.ok_or_else(|| needed("to"))?);
        quality::verify_range(asset.unwrap_or_default(), from, to, most.unwrap_or(10))
    };
    report::or_raise(None, result().and_then(rows).map(TableIterator::new))
}

#[pg_extern(sql = false)]
fn begin_verification(
    asset: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
) -> TableIterator<'static, (name!(verification, i64), name!(taken_up, bool))> {
    let result = || {
        let (from, to) = (from.ok_or_else(|| needed("from"))?, to.ok_or_else(|| needed("to"))?);
        verification::begin(asset.unwrap_or_default(), from, to)
    };
    report::or_raise(None, result().map(TableIterator::once))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn verify_step(
    verification: i64,
    most: Option<i32>,
) -> TableIterator<
    'static,
    (
        name!(done, bool),
        name!(verified_to, TimestampWithTimeZone),
        name!(slices, i64),
        name!(different, i64),
        name!(unproven, i64),
    ),
> {
    let row = |step: verification::Step| {
        TableIterator::once((step.done, step.verified_to, step.slices, step.different, step.unproven))
    };
    report::or_raise(None, verification::step(verification, most.unwrap_or(10)).map(row))
}

fn needed(key: &str) -> Error {
    Error::InvalidOption { key: key.into(), why: "is missing".into() }
}

/// The columns of one slice.
type VerifiedRow = (
    String,
    TimestampWithTimeZone,
    String,
    i64,
    i64,
    AnyNumeric,
    AnyNumeric,
    AnyNumeric,
    AnyNumeric,
    String,
    String,
    i64,
    Option<i64>,
    i64,
    Vec<i64>,
    Option<Vec<i64>>,
    Vec<i64>,
    Option<String>,
);

fn rows(slices: Vec<Verified>) -> Result<std::vec::IntoIter<VerifiedRow>> {
    let rows: Result<Vec<VerifiedRow>> = slices.into_iter().map(row).collect();
    rows.map(Vec::into_iter)
}

fn row(slice: Verified) -> Result<VerifiedRow> {
    let number =
        |text: String| text.parse::<AnyNumeric>().map_err(|error| Error::Internal { why: format!("{text}: {error}") });
    let ids = |ids: &Ids| ids.first.iter().copied().collect::<Vec<i64>>();
    let (objects, table, differences) = (&slice.objects, &slice.table, &slice.differences);
    Ok((
        slice.asset,
        slice.bucket,
        slice.outcome.as_str().to_owned(),
        objects.rows,
        table.rows,
        number(objects.quantity_text())?,
        number(table.quantity_text())?,
        number(objects.amount_text())?,
        number(table.amount_text())?,
        objects.digest_text(),
        table.digest_text(),
        differences.missing.count,
        slice.extra_known.then_some(differences.extra.count),
        differences.differing.count,
        ids(&differences.missing),
        slice.extra_known.then(|| ids(&differences.extra)),
        ids(&differences.differing),
        slice.problem,
    ))
}
