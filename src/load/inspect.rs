//! The inspection of an object's footer, without reading a tick.

use std::sync::Arc;

use super::background::Events;
use super::pipeline::{Limits, open_end};
use crate::decode::{FileMeta, map_columns, read_footer, span_problem, time_span};
use crate::error::Result;
use crate::model::options::LoadOptions;
use crate::model::uri::S3Uri;
use crate::s3::client::connect;
use crate::s3::config::S3Settings;
use crate::s3::head::ObjectHead;
use crate::s3::object::S3Object;
use crate::s3::reads::Io;

/// What the head and the footer say about an object.
#[derive(Debug)]
pub struct Inspection {
    /// Size and etag.
    pub head: ObjectHead,
    /// The footer.
    pub meta: Arc<FileMeta>,
    /// First and last event time in microseconds since 1970, if every row group has statistics.
    pub time_span: Option<(i64, i64)>,
    /// Why the file cannot be loaded, if the footer shows a reason.
    pub problem: Option<String>,
}

/// Fetches the head and the footer. This is the work of a `Background` thread.
pub fn run(
    uri: &S3Uri,
    s3: &S3Settings,
    options: &LoadOptions,
    limits: Limits,
    io: &Io,
    events: &Events<Inspection>,
) -> Result<()> {
    let object = io.wait(async {
        let connection = connect(s3).await?;
        S3Object::open(connection, uri.clone(), io.clone(), limits.prefetch_bytes()).await
    })?;
    let head = object.head().clone();
    let (source, tail) = open_end(object)?;
    let meta = Arc::new(read_footer(&*source, tail, limits.memory)?);
    let (time_span, problem) = match map_columns(&meta, options) {
        Ok(mapping) => (time_span(&meta, &mapping), span_problem(&meta, &mapping, limits.times)),
        Err(error) => (None, Some(error.to_string())),
    };
    events.send(Inspection { head, meta, time_span, problem })
}
