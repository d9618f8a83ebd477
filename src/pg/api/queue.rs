//! The waking of workers, sweeps and the commands on objects, which `sql/queue.sql` declares.

use pgrx::prelude::*;

use super::reports;
use crate::error;
use crate::model::status::Status;
use crate::pg::queue::commands::{self, Changed, Which};
use crate::pg::queue::sweep::{self, Among};
use crate::pg::session::{report, shared};

#[pg_extern(sql = false)]
fn wake_workers() {
    shared::wake_at_commit();
}

/// A trigger function that needs nothing of its row. Zero is the null pointer that a trigger returns in C. pgrx's own
/// kind of trigger function panics if a SELECT calls it.
#[pg_extern(sql = false)]
fn registry_wake() -> i64 {
    shared::wake_at_commit();
    0
}

#[pg_extern(sql = false)]
fn sweep(max_objects: Option<i32>) -> SetOfIterator<'static, pgrx::composite_type!('static, "btc_ingest.load_report")> {
    reports(sweep::sweep(max_objects))
}

#[pg_extern(sql = false)]
fn sweep_step(assets: Option<Vec<Option<String>>>, newest: Option<bool>, claim_next: Option<bool>) -> bool {
    let assets = assets.map(|assets| assets.into_iter().flatten().collect());
    let result = sweep::step(&Among::Due { assets, newest }, claim_next.unwrap_or(false));
    report::or_raise(None, result)
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
    changed(commands::requeue_failed(older_than))
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

/// Returns the objects whose status was changed, or raises the error.
fn changed(
    result: error::Result<Vec<Changed>>,
) -> TableIterator<'static, (name!(object, String), name!(was, String), name!(became, String))> {
    let row = |changed: Changed| (changed.uri, changed.was.to_string(), changed.became.to_string());
    let rows = |changed: Vec<Changed>| TableIterator::new(changed.into_iter().map(row));
    report::or_raise(None, result.map(rows))
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
