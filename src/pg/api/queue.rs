//! Sweeps and the commands on objects, which `sql/ingest.sql` declares.

use pgrx::prelude::*;

use super::reports;
use crate::error::Result;
use crate::model::status::Status;
use crate::pg::queue::commands::{self, Changed, Which};
use crate::pg::queue::sweep;
use crate::pg::session::report;

#[pg_extern(sql = false)]
fn sweep(max_objects: Option<i32>) -> SetOfIterator<'static, pgrx::composite_type!('static, "btc_ingest.load_report")> {
    reports(sweep::sweep(max_objects))
}

#[pg_extern(sql = false)]
fn retry(
    uri: Option<String>,
    asset: Option<String>,
    bucket_5m: Option<TimestampWithTimeZone>,
    older_than: Option<Interval>,
) -> TableIterator<'static, (name!(object, String), name!(was, String), name!(became, String))> {
    let which = Which { uri, asset, bucket: bucket_5m, older_than };
    changed(commands::retry(which, &[Status::Failed, Status::Quarantined, Status::Skipped]))
}

#[pg_extern(sql = false)]
fn requeue_failed(
    older_than: Option<Interval>,
) -> TableIterator<'static, (name!(object, String), name!(was, String), name!(became, String))> {
    let all = Interval::new(0, 0, 0).ok();
    let which = Which { older_than: older_than.or(all), ..Which::default() };
    changed(commands::retry(which, &[Status::Failed, Status::Quarantined]))
}

#[pg_extern(sql = false)]
fn skip(
    uri: Option<String>,
    reason: Option<String>,
    asset: Option<String>,
    bucket_5m: Option<TimestampWithTimeZone>,
    older_than: Option<Interval>,
) -> TableIterator<'static, (name!(object, String), name!(was, String), name!(became, String))> {
    changed(commands::skip(Which { uri, asset, bucket: bucket_5m, older_than }, reason))
}

fn changed(
    result: Result<Vec<Changed>>,
) -> TableIterator<'static, (name!(object, String), name!(was, String), name!(became, String))> {
    TableIterator::new(report::or_raise(None, result))
}

#[pg_extern(sql = false)]
fn reload_slice(
    asset: Option<&str>,
    bucket_5m: Option<TimestampWithTimeZone>,
) -> SetOfIterator<'static, pgrx::composite_type!('static, "btc_ingest.load_report")> {
    match (asset, bucket_5m) {
        (Some(asset), Some(bucket)) => reports(commands::reload_slice(asset, bucket)),
        _ => SetOfIterator::new(Vec::new()),
    }
}
