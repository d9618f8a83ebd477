//! Registrations that do not fit their object: the object holds ticks, but none of the row's asset in its bucket or a
//! neighbouring one.

use serde::Deserialize;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::pg::session::spi;
use crate::pg::session::target::as_reading_owner;

/// Rows that are counted.
const LOOK_AT: i64 = 1_000;

/// Registry rows that do not fit (`doctor_registrations.sql`).
#[derive(Deserialize)]
struct Misfits {
    /// How many there are, at most [`LOOK_AT`].
    rows: i64,
    /// A few of them.
    #[serde(deserialize_with = "spi::nullable")]
    examples: Option<String>,
}

/// Looks for registrations that do not fit.
pub fn checks() -> Result<Vec<Check>> {
    const NAME: &str = "registrations";
    let args = [LOOK_AT.into()];
    let found: Misfits = as_reading_owner(|client| spi::fetch(client, statement!("doctor_registrations"), &args))?;
    let Misfits { rows, examples: Some(examples) } = found else {
        return Ok(vec![Check::good(NAME, "every row fits its object")]);
    };
    let more = if rows >= LOOK_AT { " or more" } else { "" };
    let detail = format!(
        "{rows}{more} rows of landing.raw_blobs_5m name an object that holds no tick of their bucket and asset: \
         {examples}"
    );
    let fix = "DELETE FROM landing.raw_blobs_5m b WHERE b.status = 'empty' AND EXISTS (SELECT FROM \
               ingestion.object_slices s WHERE s.s3_uri = b.s3_uri) AND NOT EXISTS (SELECT FROM \
               ingestion.object_slices s WHERE s.s3_uri = b.s3_uri AND s.asset = b.asset AND s.bucket_5m BETWEEN \
               b.bucket_5m - interval '5 minutes' AND b.bucket_5m + interval '5 minutes');";
    let remark = "Their producer has named the wrong bucket, asset or object. Register the right ones as well.";
    Ok(vec![Check::bad(NAME, detail, Hint::run(fix).then(remark))])
}
