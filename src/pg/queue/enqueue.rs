//! From the registry into the queue: the rows that producers write into `landing.raw_blobs_5m` become pending
//! objects.

use std::collections::{BTreeMap, HashSet};

use pgrx::spi::SpiClient;
use serde::Deserialize;
use serde_json::Value;

use crate::error::Result;
use crate::model::format::not_parquet;
use crate::pg::session::locks::Lock;
use crate::pg::session::{shared, spi};

/// Rows that one transaction enqueues. Each row takes a lock.
const BATCH: i64 = 500;

/// A registry row that is not enqueued yet (`enqueue_find.sql`), locked.
#[derive(Deserialize)]
struct Row {
    uri: String,
    bucket: String,
    asset: String,
    #[serde(deserialize_with = "spi::nullable")]
    etag: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    size: Option<i64>,
    metadata: Value,
}

/// The object of one or several registry rows.
struct Object {
    /// The bucket of its first row.
    bucket: String,
    /// Etag and size, which identify a version only together.
    version: Option<(String, i64)>,
    /// Why the object cannot be loaded.
    reason: Option<String>,
}

/// Makes the objects of new and replaced registry rows pending, up to [`BATCH`] rows.
pub fn enqueue(client: &mut SpiClient<'_>) -> Result<()> {
    let mut rows: Vec<Row> = spi::fetch_kept(client, statement!("enqueue_find"), &[BATCH.into()])?;
    let free = free_objects(client, &rows)?;
    rows.retain(|row| free.contains(&row.uri));
    if rows.is_empty() {
        return Ok(());
    }
    let (mut uris, mut buckets, mut assets) = (Vec::new(), Vec::new(), Vec::new());
    let mut objects = BTreeMap::new();
    for row in rows {
        objects.entry(row.uri.clone()).or_insert_with(|| Object {
            bucket: row.bucket.clone(),
            version: row.etag.zip(row.size),
            reason: not_parquet(&row.uri, &row.metadata),
        });
        uris.push(row.uri);
        buckets.push(row.bucket);
        assets.push(row.asset);
    }
    let version = |object: &Object| object.version.clone().unzip();
    let args = [
        uris.into(),
        buckets.into(),
        assets.into(),
        objects.keys().cloned().collect::<Vec<_>>().into(),
        objects.values().map(|object| object.bucket.clone()).collect::<Vec<_>>().into(),
        objects.values().map(|object| version(object).0).collect::<Vec<_>>().into(),
        objects.values().map(|object| version(object).1).collect::<Vec<_>>().into(),
        objects.values().map(|object| object.reason.clone()).collect::<Vec<_>>().into(),
    ];
    spi::execute_kept(client, statement!("enqueue"), &args)?;
    // A loader that looked for work meanwhile saw neither the locked rows nor their objects, and sleeps.
    shared::wake_at_commit();
    Ok(())
}

/// Locks the objects of the rows and returns their uris. It leaves out objects that a load is reading,
/// because that load may read an earlier version, and objects that another session has locked. A later call
/// enqueues their rows.
fn free_objects(client: &mut SpiClient<'_>, rows: &[Row]) -> Result<HashSet<String>> {
    let uris: HashSet<&str> = rows.iter().map(|row| row.uri.as_str()).collect();
    let locked = uris.into_iter().filter(|uri| Lock::Object(uri).try_for_transaction());
    let locked: Vec<String> = locked.map(str::to_owned).collect();
    if locked.is_empty() {
        return Ok(HashSet::new());
    }
    spi::fetch_kept(client, statement!("enqueue_free"), &[locked.into()])
}
