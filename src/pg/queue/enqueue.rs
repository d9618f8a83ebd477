//! From the registry into the queue: the rows that producers write into `landing.raw_blobs_5m` become pending
//! objects.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

use pgrx::spi::SpiClient;
use serde::Deserialize;
use serde_json::Value;

use crate::error::verdict::Verdict;
use crate::error::{Error, Result};
use crate::model::format::not_parquet;
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::locks::Lock;
use crate::pg::session::time::Time;
use crate::pg::session::{report, shared, spi};

/// Rows that one transaction enqueues. Each row takes a lock.
const BATCH: i64 = 500;
/// Batches of rows that one call looks at, if no row of the first ones can be enqueued.
const PAGES: usize = 10;

/// The key of a registry row: bucket and asset.
type Key = (Time, String);

thread_local! {
    /// The row behind which the next call begins, because this many rows before it could not be enqueued.
    static BEHIND: RefCell<Option<Key>> = const { RefCell::new(None) };
}

/// A registry row that is not enqueued yet (`enqueue_find.sql`), locked.
#[derive(Clone, Deserialize)]
struct Row {
    uri: String,
    bucket: Time,
    asset: String,
    #[serde(deserialize_with = "spi::nullable")]
    etag: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    size: Option<i64>,
    metadata: Value,
    /// Why the row is beyond the limits for producers.
    #[serde(deserialize_with = "spi::nullable")]
    fault: Option<String>,
}

/// The object of one or several registry rows.
struct Object {
    /// Bucket and asset of its first row.
    bucket: Time,
    asset: String,
    /// Etag and size, which identify a version only together.
    version: Option<(String, i64)>,
    /// Why the object cannot be loaded.
    reason: Option<String>,
}

/// Makes the objects of new and replaced registry rows pending, up to [`BATCH`] rows. Rows of objects that are in
/// use keep no other row waiting: it looks behind them, and the next call goes on where this one has stopped.
pub fn enqueue(client: &mut SpiClient<'_>) -> Result<()> {
    let mut behind = BEHIND.take();
    let mut in_use = HashSet::new();
    for _ in 0..PAGES {
        let mut rows = find(client, behind.take(), &in_use)?;
        let Some(last) = rows.last().map(|row| (row.bucket, row.asset.clone())) else { return Ok(()) };
        let is_last_page = (rows.len() as i64) < BATCH;
        let faulty: Vec<Row> = rows.extract_if(.., |row| row.fault.is_some()).collect();
        for row in &faulty {
            let why = row.fault.clone().unwrap_or_default();
            quarantine(client, row, &Error::BadRegistration { why }.into())?;
        }
        let free = free_objects(client, &rows)?;
        let (free, busy): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| free.contains(&row.uri));
        in_use.extend(busy.into_iter().map(|row| row.uri));
        if !free.is_empty() {
            write_each_if_not_all(client, free)?;
            // A loader that looked for work meanwhile saw neither the locked rows nor their objects, and sleeps.
            shared::wake_at_commit();
            return Ok(());
        }
        if is_last_page {
            return Ok(());
        }
        behind = Some(last);
    }
    BEHIND.set(behind);
    Ok(())
}

/// Returns the next rows behind a key, or the first ones, except rows of the objects that are in use.
fn find(client: &mut SpiClient<'_>, behind: Option<Key>, in_use: &HashSet<String>) -> Result<Vec<Row>> {
    let (bucket, asset) = behind.unzip();
    let bucket = bucket.map(Time::timestamp).transpose()?;
    let in_use: Vec<String> = in_use.iter().cloned().collect();
    spi::fetch_kept(client, statement!("enqueue_find"), &[BATCH.into(), bucket.into(), asset.into(), in_use.into()])
}

/// Enqueues the rows together or, if PostgreSQL refuses that, one after another, so that a row that cannot be
/// enqueued harms no other. After a failure that may pass, rows stay for the next call.
fn write_each_if_not_all(client: &mut SpiClient<'_>, rows: Vec<Row>) -> Result<()> {
    let Err(failure) = ffi::attempt::<_, Failure>(|| Ok(write(client, rows.clone())?)) else { return Ok(()) };
    let failure = failure.unless_cancelled()?;
    if failure.verdict() == Verdict::OutOfResources {
        note(&failure, "registry rows are not enqueued yet");
        return Ok(());
    }
    // Each row of an object that another session has just registered would wait for that session.
    let mut waited_for = HashSet::new();
    for row in rows {
        if waited_for.contains(&row.uri) {
            continue;
        }
        let written = ffi::attempt::<_, Failure>(|| Ok(write(client, vec![row.clone()])?));
        let Err(failure) = written else { continue };
        let failure = failure.unless_cancelled()?;
        match failure.verdict() {
            Verdict::LockTimeout => drop(waited_for.insert(row.uri)),
            Verdict::Permanent => quarantine(client, &row, &failure)?,
            _ => note(&failure, &format!("the registry row of {} in {} is not enqueued yet", row.asset, row.bucket)),
        }
    }
    Ok(())
}

/// Records why a row cannot be enqueued. If not even that is possible, the row stays, and the failure is reported.
fn quarantine(client: &mut SpiClient<'_>, row: &Row, failure: &Failure) -> Result<()> {
    let what = format!("the registry row of {} in {} is not enqueued", row.asset, row.bucket);
    note(failure, &what);
    let (sqlstate, message) = failure.sqlstate_and_message();
    let bucket = row.bucket.timestamp()?;
    let args = || [bucket.into(), row.asset.clone().into(), sqlstate.clone().into(), message.clone().into()];
    let record = || Ok(spi::execute_kept(client, statement!("registry_quarantine"), &args())?);
    if let Err(failure) = ffi::attempt::<_, Failure>(record) {
        note(&failure.unless_cancelled()?, &format!("{what} and cannot be quarantined"));
    }
    Ok(())
}

/// Reports a failure that belongs to no load: in the log, and as the last error that `doctor()` shows.
fn note(failure: &Failure, what: &str) {
    let (sqlstate, message) = failure.sqlstate_and_message();
    let message = format!("{what}: {message}");
    report::log(&format!("btc_ingest: {message} ({sqlstate})"));
    shared::note_error(&sqlstate, &message);
}

fn write(client: &mut SpiClient<'_>, rows: Vec<Row>) -> Result<()> {
    let (mut uris, mut buckets, mut assets) = (Vec::new(), Vec::new(), Vec::new());
    let mut objects = BTreeMap::new();
    for row in rows {
        objects.entry(row.uri.clone()).or_insert_with(|| Object {
            bucket: row.bucket,
            asset: row.asset.clone(),
            version: row.etag.zip(row.size),
            reason: not_parquet(&row.uri, &row.metadata),
        });
        uris.push(row.uri);
        buckets.push(row.bucket.timestamp()?);
        assets.push(row.asset);
    }
    let version = |object: &Object| object.version.clone().unzip();
    let args = [
        uris.into(),
        buckets.into(),
        assets.into(),
        objects.keys().cloned().collect::<Vec<_>>().into(),
        objects.values().map(|object| object.bucket.timestamp()).collect::<Result<Vec<_>>>()?.into(),
        objects.values().map(|object| version(object).0).collect::<Vec<_>>().into(),
        objects.values().map(|object| version(object).1).collect::<Vec<_>>().into(),
        objects.values().map(|object| object.reason.clone()).collect::<Vec<_>>().into(),
        objects.values().map(|object| object.asset.clone()).collect::<Vec<_>>().into(),
    ];
    spi::execute_kept(client, statement!("enqueue"), &args).map(drop)
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
    let free: HashSet<String> = spi::fetch_kept(client, statement!("enqueue_free"), &[locked.clone().into()])?;
    // The next page takes as many locks.
    locked.iter().filter(|uri| !free.contains(*uri)).for_each(|uri| Lock::Object(uri).release_in_transaction());
    Ok(free)
}
