//! From a Parquet object to ticks, one page after another. No network, no PostgreSQL.
//!
//! In reading order: [`read_footer`] checks the object, [`map_columns`] finds the tick's columns in it,
//! [`TickReader`] reads them. Nothing is allocated by a number from the file before that number has been compared
//! with the memory limit. No panic of a library leaves this module.

mod chunk;
mod codec;
mod column;
mod damage;
mod decimal;
mod delta;
mod describe;
mod footer;
mod header;
mod levels;
mod names;
mod need;
mod page;
mod parts;
mod reader;
mod scan;
mod schema;
mod shape;
mod span;
mod thrift;
mod types;

#[cfg(test)]
mod tests;

pub use describe::ColumnInfo;
pub use footer::{FileMeta, read_footer};
pub use reader::{DecodeSettings, Decoded, TickReader};
pub use schema::{Mapping, map_columns};
pub use span::{span_problem, time_span};
