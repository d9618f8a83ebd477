//! `load_s3_slice`, `inspect_s3`, `register_s3_slice` and `doctor`, which `sql/load.sql` declares.

use pgrx::AnyElement;
use pgrx::prelude::*;

use crate::pg::load::one::{self, Request};
use crate::pg::load::{inspect, register};
use crate::pg::{doctor, session::report};

#[pg_extern(sql = false)]
fn load_s3_slice(
    uri: Option<&str>,
    on_bad_row: Option<&str>,
    force: Option<bool>,
    options: Option<AnyElement>,
) -> pgrx::composite_type!('static, "btc_ingest.load_report") {
    let result = super::json("options", options).and_then(|options| {
        one::load(&Request {
            uri: uri.unwrap_or_default(),
            on_bad_row: on_bad_row.unwrap_or("abort"),
            force: force.unwrap_or(false),
            options,
        })
    });
    let row = result.and_then(|report| super::composite(&report));
    report::or_raise(uri, row)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn inspect_s3(
    uri: Option<&str>,
    options: Option<AnyElement>,
) -> TableIterator<
    'static,
    (
        name!(etag, Option<String>),
        name!(size_bytes, Option<i64>),
        name!(row_count, Option<i64>),
        name!(row_groups, Option<i32>),
        name!(writer, Option<String>),
        name!(schema_fingerprint, Option<String>),
        name!(time_from, Option<TimestampWithTimeZone>),
        name!(time_to, Option<TimestampWithTimeZone>),
        name!(codecs, Vec<String>),
        name!(columns, pgrx::JsonB),
        name!(problem, Option<String>),
    ),
> {
    let options = super::json("options", options);
    let result = options.and_then(|options| inspect::inspect(uri.unwrap_or_default(), options));
    let row = result.map(|found| {
        let (from, to) = found.time_span.unzip();
        (
            Some(found.etag),
            Some(found.size_bytes),
            Some(found.rows),
            Some(found.row_groups),
            found.writer,
            Some(found.fingerprint),
            from,
            to,
            found.codecs,
            pgrx::JsonB(found.columns),
            found.problem,
        )
    });
    report::or_raise(uri, row.map(TableIterator::once))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn register_s3_slice(
    uri: Option<&str>,
    asset: Option<&str>,
    bucket_5m: Option<TimestampWithTimeZone>,
    metadata: Option<AnyElement>,
) -> TableIterator<
    'static,
    (
        name!(registered_bucket, Option<TimestampWithTimeZone>),
        name!(registered_asset, String),
        name!(object_status, String),
        name!(note, String),
    ),
> {
    let register =
        |metadata| register::register(uri.unwrap_or_default(), asset.unwrap_or_default(), bucket_5m, metadata);
    let result = super::json("metadata", metadata).and_then(register);
    report::or_raise(uri, result.map(TableIterator::once))
}

#[pg_extern(sql = false)]
fn doctor(
    since: Option<Interval>,
) -> TableIterator<'static, (name!(name, String), name!(ok, bool), name!(detail, String), name!(hint, Option<String>))>
{
    let result = doctor::checks(since);
    let row = |check: doctor::Check| {
        let hint = check.hint.map(|hint| hint.to_string());
        (check.name.to_owned(), check.ok, check.detail, hint)
    };
    report::or_raise(None, result.map(|checks| TableIterator::new(checks.into_iter().map(row))))
}
