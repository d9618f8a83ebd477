//! Whether objects are still in S3 at the versions that were loaded: HEAD requests, many side by side.

use tokio::task::JoinSet;

use super::background::Events;
use crate::error::{Error, Result};
use crate::model::uri::S3Uri;
use crate::s3::client::connect;
use crate::s3::config::S3Settings;
use crate::s3::object::S3Object;
use crate::s3::reads::Io;

/// Requests that are under way at once. S3 answers each within some milliseconds, and allows thousands a second.
const AT_ONCE: usize = 64;

/// An object that is not there as it was loaded.
#[derive(Debug)]
pub enum Absent {
    /// There is no such object.
    Gone(S3Uri),
    /// S3 has another version: this etag.
    Replaced(S3Uri, String),
}

/// Sends an event for each object that is not there at the etag beside it. This is the work of a `Background` thread.
/// An error that says nothing about one object ends it.
pub fn run(objects: Vec<(S3Uri, String)>, s3: &S3Settings, io: &Io, events: &Events<Absent>) -> Result<()> {
    let connection = io.wait(connect(s3))?;
    let mut coming = JoinSet::new();
    let mut objects = objects.into_iter();
    loop {
        while coming.len() < AT_ONCE {
            let Some((uri, etag)) = objects.next() else { break };
            let connection = connection.clone();
            let ask = async move {
                let head = S3Object::head_of(&connection, &uri).await;
                (uri, etag, head)
            };
            coming.spawn_on(ask, &io.handle);
        }
        let next = io.wait(async { Ok(coming.join_next().await) })?;
        let Some(next) = next else { return Ok(()) };
        let (uri, etag, head) = next.map_err(|error| Error::Internal { why: error.to_string() })?;
        match head {
            Ok(head) if head.etag == etag => {}
            Ok(head) => events.send(Absent::Replaced(uri, head.etag))?,
            Err(Error::NoSuchKey { .. }) => events.send(Absent::Gone(uri))?,
            Err(error) => return Err(error),
        }
    }
}
