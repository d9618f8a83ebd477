//! What an operator says about objects: try again, leave it, load it anew.

use pgrx::datum::{Interval, TimestampWithTimeZone};

use crate::error::{Error, Result};
use crate::model::report::LoadReport;
use crate::pg::shared::wake_at_commit;
use crate::pg::target::as_owner;
use crate::pg::{loader, report, spi};

/// Which objects; those that all of these name.
#[derive(Default)]
pub struct Which {
    /// This one.
    pub uri: Option<String>,
    /// With ticks, or a registry row, of this asset.
    pub asset: Option<String>,
    /// In this bucket.
    pub bucket: Option<TimestampWithTimeZone>,
    /// Whose last attempt, or registration, is older.
    pub older_than: Option<Interval>,
}

/// What became of one object: uri, status before, status now.
pub type Changed = (String, String, String);

/// Objects in these states are pending again, with all of their attempts.
pub fn retry(which: Which, states: &[&str]) -> Result<Vec<Changed>> {
    let changed = change(which, states, "pending", None)?;
    if !changed.is_empty() {
        wake_at_commit();
    }
    Ok(changed)
}

/// Objects are not to be loaded.
pub fn skip(which: Which, reason: Option<String>) -> Result<Vec<Changed>> {
    let reason = reason.unwrap_or_else(|| "skipped by hand".into());
    change(which, &["pending", "failed", "quarantined"], "skipped", Some(reason))
}

fn change(which: Which, states: &[&str], to: &str, reason: Option<String>) -> Result<Vec<Changed>> {
    let wrong = |key: &str, why: &str| Err(Error::InvalidOption { key: key.into(), why: why.into() });
    if which.bucket.is_some() && which.asset.is_none() {
        return wrong("bucket_5m", "needs an asset as well");
    }
    if which.uri.is_none() && which.asset.is_none() && which.older_than.is_none() {
        return wrong("uri", "is missing, and so are asset and older_than: name the objects by one of them");
    }
    let states: Vec<String> = states.iter().map(ToString::to_string).collect();
    let args = [
        which.uri.into(),
        which.asset.into(),
        which.bucket.into(),
        which.older_than.into(),
        states.into(),
        to.to_owned().into(),
        reason.into(),
    ];
    let sql = include_str!("../../../sql/queries/change_objects.sql");
    let changed = as_owner(|client, _| spi::json(client, sql, &args))?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(changed.as_array().into_iter().flatten().map(|row| (text(&row[0]), text(&row[1]), text(&row[2]))).collect())
}

/// Deletes a slice's ticks and loads the objects that they came from again, in the caller's transaction.
pub fn reload_slice(asset: &str, bucket: TimestampWithTimeZone) -> Result<Vec<LoadReport>> {
    let uris = as_owner(|client, _| {
        let sql = include_str!("../../../sql/queries/slice_objects.sql");
        let args = [asset.to_owned().into(), bucket.into()];
        let uris = super::claim::strings(&spi::json(client, sql, &args)?);
        if uris.is_empty() {
            let why = format!("no object is known to hold ticks of {asset} in this bucket; nothing was deleted");
            return Err(Error::InvalidOption { key: "bucket_5m".into(), why });
        }
        let sql = "DELETE FROM market_data.btc_ticks WHERE bucket_5m = date_bin('5 minutes', $2, 'epoch'::timestamptz) AND symbol = $1";
        let deleted =
            spi::query(client, &format!("WITH gone AS ({sql} RETURNING 1) SELECT count(*)::text FROM gone"), &args)?;
        let deleted: Option<String> = deleted.first().get_one().map_err(spi::internal)?;
        report::notice(&format!(
            "{} ticks were deleted; loading {} objects again",
            deleted.unwrap_or_default(),
            uris.len()
        ));
        Ok(uris)
    })?;
    uris.iter().map(|uri| loader::load(&loader::Request::again(uri))).collect()
}
