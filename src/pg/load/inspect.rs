//! `inspect_s3`: returns what an object's footer says.

use pgrx::datum::TimestampWithTimeZone;
use serde_json::{Value, json};

use super::plan::allowed_uri;
use crate::decode::FileMeta;
use crate::error::{Error, Result};
use crate::load::inspect::{self, Inspection};
use crate::model::options::{self, LoadOptions};
use crate::pg::session::time::timestamp;
use crate::pg::session::{ffi, guc};

/// Fetches the footer of an object that the allowed prefixes cover.
pub fn footer(uri: &str, options: &LoadOptions) -> Result<Inspection> {
    let uri = allowed_uri(uri)?;
    let (s3, limits, options) = (guc::s3(), guc::limits(), options.clone());
    let mut thread =
        ffi::Thread::start(1, move |reads, events| inspect::run(&uri, &s3, &options, limits, reads, events))?;
    thread.next()?.ok_or_else(|| Error::Internal { why: "the reading thread ended without a result".into() })
}

/// What the footer of an object says.
pub struct Inspected {
    /// The etag of the version that was read.
    pub etag: String,
    /// Size of the object.
    pub size_bytes: i64,
    /// Rows of the file.
    pub rows: i64,
    /// Row groups of the file.
    pub row_groups: i32,
    /// The program that wrote the file.
    pub writer: Option<String>,
    /// A digest of the columns' names and types.
    pub fingerprint: String,
    /// The first and the last event time, if the footer has statistics.
    pub time_span: Option<(TimestampWithTimeZone, TimestampWithTimeZone)>,
    /// The compression codecs of its columns.
    pub codecs: Vec<String>,
    /// The columns, each with what it is used as.
    pub columns: Value,
    /// What prevents a load. `None` if a load is possible.
    pub problem: Option<String>,
}

/// Fetches the footer of an object and describes the file.
pub fn inspect(uri: &str, options: Value) -> Result<Inspected> {
    let (options, _) = options::resolve(&options, &[])?;
    let found = footer(uri, &options)?;
    let meta = &found.meta;
    let mut codecs: Vec<String> = meta.columns().into_iter().map(|column| column.codec).collect();
    codecs.sort();
    codecs.dedup();
    let span = found.time_span.map(|(from, to)| Ok((timestamp(from)?, timestamp(to)?))).transpose()?;
    Ok(Inspected {
        etag: found.head.etag.clone(),
        size_bytes: found.head.size as i64,
        rows: meta.rows() as i64,
        row_groups: meta.row_groups() as i32,
        writer: meta.shown_writer(),
        fingerprint: meta.fingerprint(),
        time_span: span,
        codecs,
        columns: columns(meta, &options),
        problem: found.problem,
    })
}

fn columns(meta: &FileMeta, options: &LoadOptions) -> Value {
    let columns = meta.columns_for(options).into_iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.parquet_type,
            "codec": column.codec,
            "compressed_bytes": column.compressed_bytes,
            "used_as": column.used_as,
        })
    });
    Value::Array(columns.collect())
}
