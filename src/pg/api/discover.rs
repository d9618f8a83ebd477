//! Watched prefixes and their listings, which `sql/discover.sql` declares.

use pgrx::AnyElement;
use pgrx::prelude::*;

use crate::pg::discovery;
use crate::pg::session::report;

#[pg_extern(sql = false)]
fn watch(prefix: Option<&str>, options: Option<AnyElement>) -> String {
    let options = super::json("options", options);
    let result = options.and_then(|options| discovery::watch(prefix.unwrap_or_default(), options));
    report::or_raise(prefix, result)
}

#[pg_extern(sql = false)]
fn unwatch(prefix: Option<&str>) -> String {
    let result = discovery::unwatch(prefix.unwrap_or_default());
    report::or_raise(None, result)
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
    let result = discovery::discover(prefix);
    let row = |discovery::Found { prefix, counts: c, seconds, problem }| {
        (prefix, c.listed, c.new, c.changed, c.known, c.passed_over, c.skipped, seconds, problem)
    };
    report::or_raise(prefix, result.map(|found| TableIterator::new(found.into_iter().map(row))))
}
