//! From a Parquet object to ticks, one page after another. No network, no PostgreSQL.
//!
//! In reading order: [`read_footer`] judges the object, [`map_columns`] finds the tick's columns in it,
//! [`TickReader`] reads them. Nothing is allocated by a number that the file claims before that number has been
//! compared with the memory limit, and no panic of a library leaves this module.

mod chunk;
mod codec;
mod column;
mod decimal;
mod delta;
mod footer;
mod header;
mod levels;
mod page;
mod reader;
mod scan;
mod schema;
mod span;
mod thrift;
mod types;

#[cfg(test)]
mod tests;

pub use footer::{ColumnInfo, FileMeta, read_footer};
pub use reader::{DecodeSettings, Decoded, TickReader};
pub use schema::{Mapping, map_columns};
pub use span::time_span;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};

fn damaged(why: impl Into<String>) -> Error {
    Error::Damaged { why: why.into() }
}

/// Runs a library over bytes that may be damaged; its panics become errors.
fn guarded<T>(what: &str, work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        damaged(format!("{what} makes no sense ({})", said.unwrap_or("no reason given")))
    })
}
