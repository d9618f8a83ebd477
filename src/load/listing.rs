//! The listing of a prefix, page by page, beside the backend. The backend registers one page while the next one is
//! fetched.

use super::background::Events;
use crate::error::Result;
use crate::s3::client::connect;
use crate::s3::config::S3Settings;
use crate::s3::listing::{ListedObject, Listing};
use crate::s3::reads::Io;

/// One page of a listing.
#[derive(Debug)]
pub struct Page {
    /// Its objects, in the order of their keys.
    pub objects: Vec<ListedObject>,
    /// Whether another page follows.
    pub more: bool,
}

/// Sends every page of the keys after `after`. If `skip` returns another key for a key that was found, the listing
/// continues after that other key. This is the work of a `Background` thread.
pub fn run(
    s3: &S3Settings,
    bucket: &str,
    prefix: &str,
    after: Option<String>,
    skip: impl Fn(&str) -> Option<String>,
    io: &Io,
    events: &Events<Page>,
) -> Result<()> {
    let connection = io.wait(connect(s3))?;
    let mut listing = Listing::new(&connection, bucket, prefix, after);
    loop {
        let (mut objects, mut more) = io.wait(listing.next())?;
        let skipped = objects.iter().enumerate().find_map(|(at, object)| Some((at, skip(&object.key)?)));
        if let Some((at, to)) = skipped {
            objects.truncate(at);
            listing.skip_to(to);
            more = true;
        }
        events.send(Page { objects, more })?;
        if !more {
            return Ok(());
        }
    }
}
