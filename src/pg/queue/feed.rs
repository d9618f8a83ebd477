//! From the registry into the queue: what producers write into `landing.raw_blobs_5m`, with no knowledge of any other table.

use std::collections::BTreeMap;

use pgrx::spi::SpiClient;

use crate::error::Result;
use crate::model::format::not_parquet;
use crate::pg::{shared, spi};

/// Rows that one transaction takes over: each takes a lock.
const BATCH: i64 = 500;

/// One object of the rows found.
struct Object {
    bucket: String,
    etag: Option<String>,
    size: Option<i64>,
    reason: Option<String>,
}

/// Makes the objects of new and replaced registry rows pending. Whether there may be more rows.
pub fn feed(client: &mut SpiClient<'_>) -> Result<bool> {
    let rows = spi::json_kept(client, include_str!("../../../sql/queries/feed_find.sql"), &[BATCH.into()])?;
    let Some(rows) = rows.as_array().filter(|rows| !rows.is_empty()) else { return Ok(false) };
    let (mut uris, mut buckets, mut assets) = (Vec::new(), Vec::new(), Vec::new());
    let mut objects = BTreeMap::new();
    for row in rows {
        let text = |key: &str| row[key].as_str().map(str::to_owned);
        let uri = text("uri").unwrap_or_default();
        let bucket = text("bucket").unwrap_or_default();
        let size = row["size"].as_i64();
        objects.entry(uri.clone()).or_insert_with(|| Object {
            bucket: bucket.clone(),
            // Only both together name a version.
            etag: text("etag").filter(|_| size.is_some()),
            size,
            reason: not_parquet(&uri, &row["metadata"]),
        });
        uris.push(uri);
        buckets.push(bucket);
        assets.push(text("asset").unwrap_or_default());
    }
    let args = [
        uris.into(),
        buckets.into(),
        assets.into(),
        objects.keys().cloned().collect::<Vec<_>>().into(),
        objects.values().map(|object| object.bucket.clone()).collect::<Vec<_>>().into(),
        objects.values().map(|object| object.etag.clone()).collect::<Vec<_>>().into(),
        objects.values().map(|object| object.size.filter(|_| object.etag.is_some())).collect::<Vec<_>>().into(),
        objects.values().map(|object| object.reason.clone()).collect::<Vec<_>>().into(),
    ];
    spi::execute_kept(client, include_str!("../../../sql/queries/feed.sql"), &args)?;
    // Loaders that looked meanwhile saw neither these rows nor their objects, and sleep.
    shared::wake_at_commit();
    Ok(rows.len() as i64 == BATCH)
}
