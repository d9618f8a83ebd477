//! Listings of the keys under a prefix, one page at a time.

use super::answer::explain;
use super::client::Connection;
use super::object::{ObjectHead, unquoted};
use crate::error::Result;

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its size and etag.
    pub head: ObjectHead,
}

/// Lists up to a thousand objects whose keys begin with `prefix` and come after `after`, in the order of their keys.
/// Returns them and whether there are more. Every page begins after a key rather than with the last page's token, so
/// that another process can continue a listing.
pub async fn page(
    connection: &Connection,
    bucket: &str,
    prefix: &str,
    after: Option<&str>,
) -> Result<(Vec<ListedObject>, bool)> {
    let request = connection
        .client
        .list_objects_v2()
        .bucket(bucket)
        .set_prefix((!prefix.is_empty()).then(|| prefix.to_owned()))
        .set_start_after(after.map(str::to_owned));
    let answer = request.send().await.map_err(|error| explain(&error, connection, bucket))?;
    let objects = answer.contents().iter().filter_map(|object| {
        let size = object.size().unwrap_or(0).max(0) as u64;
        let etag = unquoted(object.e_tag().unwrap_or_default());
        Some(ListedObject { key: object.key()?.to_owned(), head: ObjectHead { size, etag } })
    });
    Ok((objects.collect(), answer.is_truncated().unwrap_or(false)))
}
