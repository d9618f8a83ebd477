//! The first and last event time by the footer's statistics.

use parquet::file::statistics::Statistics;

use super::column::{integer32, integer64, micros, time_problem};
use super::footer::FileMeta;
use super::schema::{Kind, Mapping, Tick};
use crate::model::options::TimeUnit;
use crate::model::time_range::TimeRange;

/// Returns the first and last event time in microseconds since 1970. Returns `None` unless every row group with rows
/// has statistics and both are times that PostgreSQL can hold.
pub fn time_span(meta: &FileMeta, mapping: &Mapping) -> Option<(i64, i64)> {
    let (unit, first, last) = raw_span(meta, mapping)?;
    let possible = TimeRange::default();
    let span = (micros(first, unit)?, micros(last, unit)?);
    (possible.contains(span.0) && possible.contains(span.1)).then_some(span)
}

/// Says what is wrong with the first or the last event time by the statistics. Returns `None` if both are plausible, or
/// if there are no statistics.
pub fn span_problem(meta: &FileMeta, mapping: &Mapping, plausible: TimeRange) -> Option<String> {
    let (unit, first, last) = raw_span(meta, mapping)?;
    [first, last].into_iter().find_map(|raw| time_problem(plausible, raw, unit))
}

/// Returns the unit of the event times, and the first and the last of them in that unit.
fn raw_span(meta: &FileMeta, mapping: &Mapping) -> Option<(TimeUnit, i64, i64)> {
    let column = mapping.column(Tick::EventTime)?;
    let Kind::Time { unit, signed } = column.kind else { return None };
    let groups = meta.metadata().row_groups().iter().filter(|group| group.num_rows() > 0);
    let spans = groups.map(|group| {
        let (min, max) = match group.column(column.leaf).statistics()? {
            Statistics::Int64(stats) => (integer64(*stats.min_opt()?, signed), integer64(*stats.max_opt()?, signed)),
            Statistics::Int32(stats) => (integer32(*stats.min_opt()?, signed), integer32(*stats.max_opt()?, signed)),
            _ => return None,
        };
        // Old writers compared unsigned integers as signed ones. Where that changes the result, min is above max.
        if min <= max { Some((i64::try_from(min).ok()?, i64::try_from(max).ok()?)) } else { None }
    });
    let (first, last) = spans.reduce(|all, next| {
        let (all, next) = (all?, next?);
        Some((all.0.min(next.0), all.1.max(next.1)))
    })??;
    Some((unit, first, last))
}
