//! The footers of many listed objects, fetched several at a time.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::background::Events;
use super::pipeline::{Limits, tail_of};
use crate::decode::{map_columns, read_footer, time_span};
use crate::error::{Error, Result};
use crate::model::options::LoadOptions;
use crate::model::uri::S3Uri;
use crate::s3::client::connect;
use crate::s3::config::S3Settings;
use crate::s3::head::ObjectHead;
use crate::s3::object::S3Object;
use crate::s3::reads::Io;

/// Footers that are fetched at once.
const AT_ONCE: usize = 16;

/// The facts in one object's footer, or why it cannot be read.
#[derive(Debug)]
pub struct Footer {
    /// The object.
    pub uri: S3Uri,
    /// Its size in bytes.
    pub size: u64,
    /// The facts, or the error.
    pub read: Result<FooterFacts>,
}

/// Rows and times of an object.
#[derive(Debug, Clone, Copy)]
pub struct FooterFacts {
    /// Rows.
    pub rows: u64,
    /// First and last event time in microseconds since 1970, if there are statistics and both are plausible.
    pub span: Option<(i64, i64)>,
}

/// Sends one [`Footer`] per object, in any order. This is the work of a `Background` thread.
pub fn run(
    jobs: Vec<(S3Uri, ObjectHead, LoadOptions)>,
    s3: &S3Settings,
    limits: Limits,
    io: &Io,
    events: &Events<Footer>,
) -> Result<()> {
    let connection = io.wait(connect(s3))?;
    let mut coming = JoinSet::new();
    let mut jobs = jobs.into_iter();
    loop {
        while coming.len() < AT_ONCE {
            let Some((uri, head, options)) = jobs.next() else { break };
            let object = S3Object::at(connection.clone(), uri.clone(), head, io.clone(), limits.prefetch_bytes());
            coming.spawn_on(
                async move {
                    let tail = object.fetch(tail_of(object.head().size)).await;
                    (uri, object, options, tail)
                },
                &io.handle,
            );
        }
        let next = io.wait(async { Ok(coming.join_next().await) })?;
        let Some(next) = next else { return Ok(()) };
        let (uri, object, options, tail) = next.map_err(|error| Error::Internal { why: error.to_string() })?;
        let size = object.head().size;
        // `read_footer` blocks if it reads more than the tail, so it runs here and not on the runtime.
        let read = tail.and_then(|tail| {
            let meta = Arc::new(read_footer(&object, Some(tail), limits.memory)?);
            let mapping = map_columns(&meta, &options)?;
            // An implausible time is a bad row. It must not make a chunk of its own, or thousands of them.
            let span = time_span(&meta, &mapping);
            let span = span.filter(|(first, last)| limits.times.contains(*first) && limits.times.contains(*last));
            Ok(FooterFacts { rows: meta.rows(), span })
        });
        events.send(Footer { uri, size, read })?;
    }
}
