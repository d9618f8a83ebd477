//! `register_s3_slice`: registers an object without an INSERT of the producer's own.

use pgrx::JsonB;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde::Deserialize;
use serde_json::Value;

use super::inspect::footer;
use super::plan::allowed_uri;
use crate::error::{Error, Result};
use crate::model::bucket::bucket_of;
use crate::model::options;
use crate::pg::session::shared::wake_at_commit;
use crate::pg::session::spi;
use crate::pg::session::target::Target;
use crate::pg::session::time::timestamp;

/// Bucket, asset, the object's status, and a note for the reader.
pub type Registered = (Option<TimestampWithTimeZone>, String, String, String);

/// The row of `register_slice.sql`.
#[derive(Deserialize)]
struct Found {
    /// The object that the registry row of this slice names instead.
    #[serde(deserialize_with = "spi::nullable")]
    other_uri: Option<String>,
}

/// Registers an object as pending, with the registry row of its bucket and asset.
pub fn register(uri: &str, asset: &str, bucket: Option<TimestampWithTimeZone>, metadata: Value) -> Result<Registered> {
    let parsed = allowed_uri(uri)?;
    if asset.is_empty() {
        return Err(Error::InvalidOption { key: "asset".into(), why: "must be the symbol, e.g. BTCUSDT".into() });
    }
    let (options, _) = options::resolve(&serde_json::json!({}), std::slice::from_ref(&metadata))?;
    Spi::connect_mut(|client| {
        let target = Target::check(client)?;
        within_limits(client, &parsed.to_string(), asset, bucket, &metadata)?;
        let bucket = match bucket {
            Some(bucket) => bucket,
            None => timestamp(first_bucket(uri, &options)?)?,
        };
        let _owner = target.become_owner();
        Target::check_version(client)?;
        let args = [parsed.to_string().into(), JsonB(metadata.clone()).into(), asset.to_owned().into(), bucket.into()];
        spi::execute(client, statement!("register_object"), &args)?;
        let args = [parsed.to_string().into(), asset.to_owned().into(), bucket.into(), JsonB(metadata).into()];
        let found: Found = spi::fetch(client, statement!("register_slice"), &args)?;
        let bucket: Option<TimestampWithTimeZone> =
            spi::query(client, "SELECT date_bin('5 minutes', $1, 'epoch'::timestamptz)", &[bucket.into()])?
                .first()
                .get_one()
                .map_err(spi::internal)?;
        // The object is pending already, so no worker needs to enqueue it because of its registry rows.
        let queued = "UPDATE landing.raw_blobs_5m SET queued_at = clock_timestamp()
                       WHERE s3_uri = $1 AND status = 'pending' AND queued_at IS NULL";
        spi::execute(client, queued, &[parsed.to_string().into()])?;
        wake_at_commit();
        let note = match found.other_uri {
            Some(other) => {
                format!("the registry row of this bucket and asset keeps {other}; the object is registered beside it")
            }
            None => "registered".to_owned(),
        };
        Ok((bucket, asset.to_owned(), "pending".to_owned(), note))
    })
}

/// Refuses what a producer may not write. The statement touches no table.
fn within_limits(
    client: &mut SpiClient<'_>,
    uri: &str,
    asset: &str,
    bucket: Option<TimestampWithTimeZone>,
    metadata: &Value,
) -> Result<()> {
    let args = [uri.to_owned().into(), asset.to_owned().into(), bucket.into(), JsonB(metadata.clone()).into()];
    let fault: Option<String> = spi::fetch(client, statement!("registry_fault"), &args)?;
    fault.map_or(Ok(()), |why| Err(Error::BadRegistration { why }))
}

/// Returns the bucket of the object's first event time, in microseconds since 1970.
fn first_bucket(uri: &str, options: &options::LoadOptions) -> Result<i64> {
    let found = footer(uri, options)?;
    match found.time_span {
        Some((from, _)) => Ok(bucket_of(from)),
        None => Err(Error::InvalidOption {
            key: "bucket_5m".into(),
            why: found
                .problem
                .unwrap_or_else(|| "is needed: the object's footer has no statistics of its event times".to_owned()),
        }),
    }
}
