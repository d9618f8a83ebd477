//! The workers and loads that are running, which `sql/status.sql` declares.

use pgrx::prelude::*;

use crate::pg::session::shared::Phase;
use crate::pg::session::{ffi, shared};

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn running_loads() -> TableIterator<
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
    let loads = shared::loads().into_iter().filter(|load| load.phase != Phase::Listing);
    TableIterator::new(loads.map(move |load| {
        let started = TimestampWithTimeZone::try_from(load.started).ok();
        let phase = load.phase.as_str().to_owned();
        (load.pid, load.uri.as_str().to_owned(), phase, started, known(load.size), known(load.rows), load.read)
    }))
}

#[pg_extern(sql = false)]
fn workers() -> TableIterator<'static, (name!(role, String), name!(pid, i32))> {
    let found = shared::workers(ffi::current_database());
    TableIterator::new(found.into_iter().map(|(role, pid)| (role.to_string(), pid)))
}
