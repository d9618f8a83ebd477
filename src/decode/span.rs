//! The first and last event time by the footer's statistics.

use parquet::file::statistics::Statistics;

use super::column::{integer32, integer64, micros};
use super::footer::FileMeta;
use super::schema::{Kind, Mapping, Tick};

/// Returns the first and last event time in microseconds since 1970. Returns `None` unless every row group with rows
/// has statistics.
pub fn time_span(meta: &FileMeta, mapping: &Mapping) -> Option<(i64, i64)> {
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
        let time = |value: i128| micros(i64::try_from(value).ok()?, unit);
        if min <= max { Some((time(min)?, time(max)?)) } else { None }
    });
    spans.reduce(|all, next| {
        let (all, next) = (all?, next?);
        Some((all.0.min(next.0), all.1.max(next.1)))
    })?
}
