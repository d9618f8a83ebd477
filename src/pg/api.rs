//! What SQL calls. Each function converts its arguments, calls, and reports; the SQL side is in sql/functions.sql.

use pgrx::prelude::*;

use super::queue::sweep;
use super::queue::verbs::{self, Changed, Which};
use super::{backfill, discovery, doctor, inspect, loader, register, report, shared};
use crate::model::report::LoadReport;

/// One row of `inspect_s3`.
pub type InspectRow = (
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i32>,
    Option<String>,
    Option<String>,
    Option<TimestampWithTimeZone>,
    Option<TimestampWithTimeZone>,
    Vec<String>,
    pgrx::JsonB,
    Option<String>,
);

#[pg_extern(sql = false)]
fn load_s3_slice(
    uri: Option<&str>,
    on_bad_row: Option<&str>,
    force: Option<bool>,
    options: Option<pgrx::JsonB>,
) -> pgrx::composite_type!('static, "btc_ingest.load_report") {
    let request = loader::Request {
        uri: uri.unwrap_or_default(),
        on_bad_row: on_bad_row.unwrap_or("abort"),
        force: force.unwrap_or(false),
        options: options.map_or_else(|| serde_json::json!({}), |options| options.0),
    };
    let result = loader::load(&request).and_then(|report| composite(&report));
    drop(request.options);
    report::or_raise(uri, result)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn inspect_s3(
    uri: Option<&str>,
    options: Option<pgrx::JsonB>,
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
    let options = options.map_or_else(|| serde_json::json!({}), |options| options.0);
    let row = report::or_raise(uri, inspect::inspect(uri.unwrap_or_default(), options));
    TableIterator::once(row)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn register_s3_slice(
    uri: Option<&str>,
    asset: Option<&str>,
    bucket_5m: Option<TimestampWithTimeZone>,
    metadata: Option<pgrx::JsonB>,
) -> TableIterator<
    'static,
    (
        name!(registered_bucket, Option<TimestampWithTimeZone>),
        name!(registered_asset, String),
        name!(object_status, String),
        name!(note, String),
    ),
> {
    let metadata = metadata.map_or_else(|| serde_json::json!({}), |metadata| metadata.0);
    let result = register::register(uri.unwrap_or_default(), asset.unwrap_or_default(), bucket_5m, metadata);
    TableIterator::once(report::or_raise(uri, result))
}

#[pg_extern(sql = false)]
fn start_backfill(
    prefixes: Option<Vec<Option<String>>>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    parallel: Option<i32>,
    mode: Option<String>,
) -> TableIterator<'static, (name!(backfill, i64), name!(taken_up, bool))> {
    let plan = plan(prefixes, from, to, parallel, mode);
    TableIterator::once(report::or_raise(None, backfill::start(&plan)))
}

#[pg_extern(sql = false)]
fn start_backfill_workers(backfill: i64) -> i32 {
    report::or_raise(None, backfill::start_workers(backfill))
}

#[pg_extern(sql = false)]
fn pause_ingest() -> String {
    report::or_raise(None, backfill::set_paused(true))
}

#[pg_extern(sql = false)]
fn resume_ingest() -> String {
    report::or_raise(None, backfill::set_paused(false))
}

#[pg_extern(sql = false)]
fn cancel_backfill(id: i64) -> String {
    report::or_raise(None, backfill::cancel(id))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn survey_backfill(
    prefixes: Option<Vec<Option<String>>>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    parallel: Option<i32>,
    mode: Option<String>,
) -> TableIterator<
    'static,
    (
        name!(objects, i64),
        name!(known, i64),
        name!(passed_over, i64),
        name!(bytes, i64),
        name!(estimated_rows, i64),
        name!(disk_bytes, i64),
        name!(free_bytes, i64),
        name!(seconds, f64),
    ),
> {
    let plan = plan(prefixes, from, to, parallel, mode);
    let s = report::or_raise(None, backfill::survey(&plan));
    TableIterator::once((s.objects, s.known, s.passed_over, s.bytes, s.rows, s.disk, s.free, s.seconds))
}

fn plan(
    prefixes: Option<Vec<Option<String>>>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    parallel: Option<i32>,
    mode: Option<String>,
) -> backfill::Plan {
    let prefixes = prefixes.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect();
    backfill::Plan { prefixes, from, to, parallel: parallel.unwrap_or(2), mode: mode.unwrap_or_else(|| "slice".into()) }
}

#[pg_extern(sql = false)]
fn doctor()
-> TableIterator<'static, (name!(check, String), name!(ok, bool), name!(detail, String), name!(hint, Option<String>))> {
    let checks = report::or_raise(None, doctor::checks());
    TableIterator::new(checks.into_iter().map(|check| (check.name.to_owned(), check.ok, check.detail, check.hint)))
}

/// pgrx must see the macro itself where SQL calls a function; elsewhere this is the same.
type Report = pgrx::composite_type!('static, "btc_ingest.load_report");

fn reports(reports: crate::error::Result<Vec<LoadReport>>) -> SetOfIterator<'static, Report> {
    let rows = reports.and_then(|reports| reports.iter().map(composite).collect::<crate::error::Result<Vec<_>>>());
    SetOfIterator::new(report::or_raise(None, rows))
}

#[pg_extern(sql = false)]
fn wake_workers() {
    shared::wake_at_commit();
}

#[pg_trigger(sql = false)]
fn registry_wake<'a>(
    _trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, pgrx::AllocatedByPostgres>>, crate::error::Error> {
    shared::wake_at_commit();
    Ok(None)
}

#[pg_extern(sql = false)]
fn sweep(max_slices: Option<i32>) -> SetOfIterator<'static, pgrx::composite_type!('static, "btc_ingest.load_report")> {
    reports(sweep::sweep(max_slices))
}

#[pg_extern(sql = false)]
fn sweep_step(assets: Option<Vec<Option<String>>>, newest: Option<bool>, claim_next: Option<bool>) -> bool {
    let assets = assets.map(|assets| assets.into_iter().flatten().collect());
    report::or_raise(None, sweep::step(assets, newest, claim_next.unwrap_or(false)))
}

#[pg_extern(sql = false)]
fn retry(
    uri: Option<String>,
    asset: Option<String>,
    bucket_5m: Option<TimestampWithTimeZone>,
    older_than: Option<Interval>,
) -> TableIterator<'static, (name!(object, String), name!(was, String), name!(became, String))> {
    let which = Which { uri, asset, bucket: bucket_5m, older_than };
    changed(verbs::retry(which, &["failed", "quarantined", "skipped"]))
}

#[pg_extern(sql = false)]
fn requeue_failed(
    older_than: Option<Interval>,
) -> TableIterator<'static, (name!(object, String), name!(was, String), name!(became, String))> {
    let all = Interval::new(0, 0, 0).ok();
    let which = Which { older_than: older_than.or(all), ..Which::default() };
    changed(verbs::retry(which, &["failed", "quarantined"]))
}

#[pg_extern(sql = false)]
fn skip(
    uri: Option<String>,
    reason: Option<String>,
    asset: Option<String>,
    bucket_5m: Option<TimestampWithTimeZone>,
    older_than: Option<Interval>,
) -> TableIterator<'static, (name!(object, String), name!(was, String), name!(became, String))> {
    changed(verbs::skip(Which { uri, asset, bucket: bucket_5m, older_than }, reason))
}

fn changed(
    result: crate::error::Result<Vec<Changed>>,
) -> TableIterator<'static, (name!(object, String), name!(was, String), name!(became, String))> {
    TableIterator::new(report::or_raise(None, result))
}

#[pg_extern(sql = false)]
fn reload_slice(
    asset: Option<&str>,
    bucket_5m: Option<TimestampWithTimeZone>,
) -> SetOfIterator<'static, pgrx::composite_type!('static, "btc_ingest.load_report")> {
    match (asset, bucket_5m) {
        (Some(asset), Some(bucket)) => reports(verbs::reload_slice(asset, bucket)),
        _ => SetOfIterator::new(Vec::new()),
    }
}

#[pg_extern(sql = false)]
fn watch(prefix: Option<&str>, options: Option<pgrx::JsonB>) -> String {
    let options = options.map_or_else(|| serde_json::json!({}), |options| options.0);
    report::or_raise(prefix, discovery::watch(prefix.unwrap_or_default(), options))
}

#[pg_extern(sql = false)]
fn unwatch(prefix: Option<&str>) -> String {
    report::or_raise(None, discovery::unwatch(prefix.unwrap_or_default()))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn discover(
    prefix: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(prefix, String),
        name!(listed, i64),
        name!(registered_new, i64),
        name!(changed, i64),
        name!(known, i64),
        name!(passed_over, i64),
        name!(skipped, i64),
        name!(seconds, f64),
        name!(problem, Option<String>),
    ),
> {
    let found = report::or_raise(prefix, discovery::discover(prefix));
    TableIterator::new(found.into_iter().map(|discovery::Found { prefix, counts: c, seconds, problem }| {
        (prefix, c.listed, c.new, c.changed, c.known, c.passed_over, c.skipped, seconds, problem)
    }))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn loads_in_work() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(uri, String),
        name!(phase, String),
        name!(started_at, Option<TimestampWithTimeZone>),
        name!(size_bytes, Option<i64>),
        name!(rows_total, Option<i64>),
        name!(rows_done, i64),
    ),
> {
    let known = |value: i64| (value > 0).then_some(value);
    TableIterator::new(shared::loads().into_iter().map(move |load| {
        let started = TimestampWithTimeZone::try_from(load.started).ok();
        let phase = load.phase.as_str().to_owned();
        (load.pid, load.uri.as_str().to_owned(), phase, started, known(load.size), known(load.rows), load.read)
    }))
}

#[pg_extern(sql = false)]
fn workers() -> TableIterator<'static, (name!(role, String), name!(pid, i32))> {
    let found = shared::workers(super::ffi::current_database());
    TableIterator::new(found.into_iter().map(|(role, pid)| (role.to_string(), pid)))
}

fn composite(report: &LoadReport) -> crate::error::Result<Report> {
    let internal = |why: String| crate::error::Error::Internal { why };
    let mut row = PgHeapTuple::new_composite_type("btc_ingest.load_report").map_err(|e| internal(e.to_string()))?;
    let mut fill = || {
        row.set_by_name("uri", report.uri.clone())?;
        row.set_by_name("etag", report.etag.clone())?;
        row.set_by_name("slices", report.slices)?;
        row.set_by_name("rows_read", report.read)?;
        row.set_by_name("rows_inserted", report.inserted)?;
        row.set_by_name("rows_duplicate", report.duplicate)?;
        row.set_by_name("rows_conflicting", report.conflicting)?;
        row.set_by_name("rows_replaced", report.replaced)?;
        row.set_by_name("rows_rejected", report.rejected)?;
        row.set_by_name("bytes", report.bytes)?;
        row.set_by_name("fetch_ms", report.fetch_ms)?;
        row.set_by_name("decode_ms", report.decode_ms)?;
        row.set_by_name("insert_ms", report.insert_ms)?;
        row.set_by_name("elapsed_ms", report.elapsed_ms)?;
        row.set_by_name("outcome", report.outcome.as_str().to_owned())
    };
    fill().map_err(|error: pgrx::datum::TryFromDatumError| internal(error.to_string()))?;
    Ok(row)
}
