//! The start of backfills, surveys and the commands on backfills, which `sql/backfill.sql` declares.

use pgrx::prelude::*;

use crate::model::backfill::BackfillMode;
use crate::pg::backfill::start::Plan;
use crate::pg::backfill::{commands, start, survey};
use crate::pg::session::report;

#[pg_extern(sql = false)]
fn start_backfill(
    prefixes: Option<Vec<Option<String>>>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    parallel: Option<i32>,
    mode: Option<String>,
    force: Option<bool>,
) -> TableIterator<'static, (name!(backfill, i64), name!(taken_up, bool))> {
    let result = start::start(&plan(prefixes, from, to, parallel, mode, force));
    report::or_raise(None, result.map(TableIterator::once))
}

#[pg_extern(sql = false)]
fn start_backfill_workers(backfill: i64) -> i32 {
    let result = start::start_workers(backfill);
    report::or_raise(None, result)
}

#[pg_extern(sql = false)]
fn pause_ingest() -> String {
    let result = commands::pause();
    report::or_raise(None, result)
}

#[pg_extern(sql = false)]
fn resume_ingest() -> String {
    let result = commands::resume();
    report::or_raise(None, result)
}

#[pg_extern(sql = false)]
fn cancel_backfill(id: i64) -> String {
    let result = commands::cancel(id);
    report::or_raise(None, result)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn survey_backfill(
    prefixes: Option<Vec<Option<String>>>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    parallel: Option<i32>,
    mode: Option<String>,
    force: Option<bool>,
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
    let result = survey::survey(&plan(prefixes, from, to, parallel, mode, force));
    let row = result.map(|s| (s.objects, s.known, s.passed_over, s.bytes, s.rows, s.disk, s.free, s.seconds));
    report::or_raise(None, row.map(TableIterator::once))
}

/// Converts the arguments. A null stands for the default.
fn plan(
    prefixes: Option<Vec<Option<String>>>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    parallel: Option<i32>,
    mode: Option<String>,
    force: Option<bool>,
) -> Plan {
    let prefixes = prefixes.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect();
    Plan {
        prefixes,
        from,
        to,
        parallel: parallel.unwrap_or(2),
        mode: mode.unwrap_or_else(|| BackfillMode::default().to_string()),
        force: force.unwrap_or(false),
    }
}
