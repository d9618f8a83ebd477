//! Whether S3 answers for a prefix: the smallest listing, or the smallest read of an object.

use super::background::Events;
use crate::error::Result;
use crate::model::uri::S3Uri;
use crate::s3::client::connect;
use crate::s3::config::S3Settings;
use crate::s3::listing::first_key;
use crate::s3::object::S3Object;
use crate::s3::reads::Io;

/// Lists one key of the prefix, and sends an event if that succeeds. This is the work of a `Background` thread.
pub fn run(s3: &S3Settings, bucket: &str, prefix: &str, io: &Io, events: &Events<()>) -> Result<()> {
    let connection = io.wait(connect(s3))?;
    io.wait(first_key(&connection, bucket, prefix))?;
    events.send(())
}

/// Reads one byte of an object, and sends an event if that succeeds.
pub fn read(s3: &S3Settings, uri: &S3Uri, io: &Io, events: &Events<()>) -> Result<()> {
    let connection = io.wait(connect(s3))?;
    io.wait(S3Object::begin(&connection, uri, 1))?;
    events.send(())
}
