//! `inspect_s3`: an object's footer as a row.

use pgrx::JsonB;
use serde_json::{Value, json};

use super::api::InspectRow;
use super::registry::timestamp;
use super::{ffi, guc, loader};
use crate::decode::FileMeta;
use crate::error::{Error, Result};
use crate::load::inspect::{self, Inspection};
use crate::model::options::{self, LoadOptions};

/// Fetches the footer of an allowed object.
pub fn footer(uri: &str, options: &LoadOptions) -> Result<Inspection> {
    let uri = loader::allowed_uri(uri)?;
    let (s3, limits, options) = (guc::s3(), guc::limits(), options.clone());
    let mut thread =
        ffi::Thread::start(1, move |reads, events| inspect::run(&uri, &s3, &options, limits, reads, events))?;
    thread.next()?.ok_or_else(|| Error::Internal { why: "the reading thread ended without a result".into() })
}

/// One row about one object.
pub fn inspect(uri: &str, options: Value) -> Result<InspectRow> {
    let (options, _) = options::resolve(&options, &[])?;
    let found = footer(uri, &options)?;
    let meta = &found.opened.meta;
    let mut codecs: Vec<String> = meta.columns().into_iter().map(|column| column.codec).collect();
    codecs.sort();
    codecs.dedup();
    let (from, to) = match found.time_span {
        Some((from, to)) => (Some(timestamp(from)?), Some(timestamp(to)?)),
        None => (None, None),
    };
    Ok((
        Some(found.opened.head.etag.clone()),
        Some(found.opened.head.size as i64),
        Some(meta.rows() as i64),
        Some(meta.row_groups() as i32),
        meta.writer().map(str::to_owned),
        Some(meta.fingerprint()),
        from,
        to,
        codecs,
        JsonB(columns(meta, &options)),
        found.problem,
    ))
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
