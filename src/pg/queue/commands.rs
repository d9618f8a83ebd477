//! The administrator's commands on objects: `retry`, `requeue_failed`, `skip` and `reload_slice`.

use pgrx::datum::{Interval, TimestampWithTimeZone};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::model::bucket::bucket_of;
use crate::model::report::LoadReport;
use crate::model::status::Status;
use crate::pg::load::record::ObjectRecord;
use crate::pg::load::{id_sets, one};
use crate::pg::session::shared::wake_at_commit;
use crate::pg::session::target::as_owner;
use crate::pg::session::time::{since_1970, timestamp};
use crate::pg::session::{report, spi};

/// Which objects a command changes: those that meet all given criteria.
#[derive(Default)]
pub struct Which {
    /// The object with this uri.
    pub uri: Option<String>,
    /// Objects that have ticks or a registry row of this asset.
    pub asset: Option<String>,
    /// Objects that have ticks or a registry row of the asset in this bucket.
    pub bucket: Option<TimestampWithTimeZone>,
    /// Objects whose last attempt is older, or whose registration is if there was no attempt.
    pub older_than: Option<Interval>,
}

/// An object that a command has changed (`change_objects.sql`).
#[derive(Deserialize)]
pub struct Changed {
    /// The object.
    pub uri: String,
    /// Its status before the command.
    pub was: Status,
    /// Its status now.
    pub became: Status,
}

/// Makes objects with one of these statuses pending again, and sets their counted attempts to 0.
pub fn retry(which: Which, from: &[Status]) -> Result<Vec<Changed>> {
    let changed = change(which, from, Status::Pending, None)?;
    if !changed.is_empty() {
        wake_at_commit();
    }
    Ok(changed)
}

/// Makes all failed and quarantined objects pending again, or only those whose last attempt is older.
pub fn requeue_failed(older_than: Option<Interval>) -> Result<Vec<Changed>> {
    // A command names its objects. An age of zero names all of them.
    let any_age = Interval::new(0, 0, 0).ok();
    let which = Which { older_than: older_than.or(any_age), ..Which::default() };
    retry(which, &[Status::Failed, Status::Quarantined])
}

/// Marks objects as skipped, so that they are not loaded.
pub fn skip(which: Which, reason: Option<String>) -> Result<Vec<Changed>> {
    let reason = reason.unwrap_or_else(|| "skipped by hand".into());
    change(which, &[Status::Pending, Status::Failed, Status::Quarantined], Status::Skipped, Some(reason))
}

fn change(which: Which, from: &[Status], to: Status, reason: Option<String>) -> Result<Vec<Changed>> {
    let wrong = |key: &str, why: &str| Err(Error::InvalidOption { key: key.into(), why: why.into() });
    if which.bucket.is_some() && which.asset.is_none() {
        return wrong("bucket_5m", "needs an asset as well");
    }
    if which.uri.is_none() && which.asset.is_none() && which.older_than.is_none() {
        return wrong("uri", "is missing, and so are asset and older_than: name the objects by one of them");
    }
    let from: Vec<String> = from.iter().map(ToString::to_string).collect();
    let args = || {
        [
            which.uri.clone().into(),
            which.asset.clone().into(),
            which.bucket.into(),
            which.older_than.into(),
            from.clone().into(),
            to.to_string().into(),
            reason.clone().into(),
        ]
    };
    let uri = which.uri.clone();
    let changed: Vec<Changed> = as_owner(|client, _| spi::fetch(client, statement!("change_objects"), &args()))?;
    if changed.is_empty() {
        say_why(uri, &from.join(" or "))?;
    }
    Ok(changed)
}

/// Says why a command has changed nothing. A uri that names nothing is most likely misspelt.
fn say_why(uri: Option<String>, from: &str) -> Result<()> {
    let Some(uri) = uri else {
        report::notice(&format!("nothing was changed: no object that is {from} fits the arguments"));
        return Ok(());
    };
    let status: Option<String> =
        as_owner(|client, _| spi::fetch(client, statement!("status_of"), &[uri.clone().into()]))?;
    match status {
        Some(status) => report::notice(&format!(
            "nothing was changed: {uri} is {status}, and this command changes objects that are {from} and fit all \
             arguments"
        )),
        None => report::warning(&format!(
            "nothing was changed: no object is known as \"{uri}\"; the views queue and failures show those that wait"
        )),
    }
    Ok(())
}

/// Deletes the ticks of a slice and loads the objects that they came from again, in the order of loads and in the
/// caller's transaction.
pub fn reload_slice(asset: &str, bucket: TimestampWithTimeZone) -> Result<Vec<LoadReport>> {
    let Some(time) = since_1970(bucket) else {
        return Err(Error::InvalidOption { key: "bucket_5m".into(), why: "must be a finite time".into() });
    };
    let slice = (bucket_of(time), asset.to_owned());
    let args = [asset.to_owned().into(), bucket.into()];
    let (uris, first_seen) = as_owner(|client, _| {
        let sql = statement!("slice_objects");
        let mut uris: Vec<String> = spi::fetch(client, sql, &args)?;
        if uris.is_empty() {
            let why = format!("no object is known to hold ticks of {asset} in this bucket; nothing was deleted");
            return Err(Error::InvalidOption { key: "bucket_5m".into(), why });
        }
        // An object that is being loaded meanwhile may add itself to the slice.
        let mut records = lock(&uris)?;
        loop {
            let found: Vec<String> = spi::fetch(client, sql, &args)?;
            if found == uris {
                break;
            }
            uris = found;
            records = lock(&uris)?;
        }
        for record in &records {
            record.mark_for_reload(client)?;
        }
        let deleted: Deleted = spi::fetch(client, statement!("delete_slice"), &args)?;
        report::notice(&format!("{} ticks were deleted; loading {} objects again", deleted.ticks, uris.len()));
        Ok((uris, deleted.first_seen))
    })?;
    let reports: Result<Vec<LoadReport>> = uris.iter().map(|uri| one::load_again(uri, &slice)).collect();
    if let Some(first_seen) = first_seen {
        let sql = "UPDATE ingestion.object_slices SET first_seen = $3 WHERE asset = $1 AND bucket_5m = $2";
        let args = [asset.to_owned().into(), timestamp(slice.0)?.into(), timestamp(first_seen)?.into()];
        as_owner(|client, _| spi::execute(client, sql, &args).map(drop))?;
    }
    // The slice has lost its ids for a moment.
    as_owner(|client, _| id_sets::merge_all(client))?;
    reports
}

/// The row of `delete_slice.sql`.
#[derive(Deserialize)]
struct Deleted {
    ticks: i64,
    /// Microseconds since 1970.
    #[serde(deserialize_with = "spi::nullable")]
    first_seen: Option<i64>,
}

/// Waits for the locks of objects and holds them until the transaction ends.
fn lock(uris: &[String]) -> Result<Vec<ObjectRecord>> {
    uris.iter().map(|uri| ObjectRecord::lock(&uri.parse()?)).collect()
}
