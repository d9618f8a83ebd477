//! The functions that SQL calls, one file per file of `sql/` that declares them. Each converts its arguments,
//! calls, and returns the result or raises the error. An error is raised last, when nothing is left to drop.

mod backfill;
mod candles;
mod discover;
mod ledger;
mod load;
mod locks;
mod quality;
mod queue;
mod retention;
mod series;
mod status;
mod windows;
mod work;

use pgrx::AnyElement;
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::model::options::parse_json;
use crate::model::report::LoadReport;
use crate::pg::session::{ffi, report};

/// Parses an argument that SQL declares as jsonb. A null stands for its default, an empty object.
fn json(name: &str, argument: Option<AnyElement>) -> Result<Value> {
    argument.map_or_else(|| Ok(json!({})), |argument| parse_json(name, &ffi::jsonb_text(argument)))
}

/// The row type of a load's report. A function whose argument list names it must write the macro itself, as
/// pgrx reads it there.
type Report = pgrx::composite_type!('static, "btc_ingest.load_report");

/// Returns the reports as rows, or raises the error.
fn reports(reports: Result<Vec<LoadReport>>) -> SetOfIterator<'static, Report> {
    let rows: Result<Vec<Report>> = reports.and_then(|reports| reports.iter().map(composite).collect());
    report::or_raise(None, rows.map(SetOfIterator::new))
}

/// Converts a report into a row.
fn composite(report: &LoadReport) -> Result<Report> {
    let internal = |why: String| Error::Internal { why };
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
