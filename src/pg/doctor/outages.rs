//! Outages: prefixes whose objects wait until S3 answers.

use serde::Deserialize;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::pg::session::spi;
use crate::pg::session::target::as_reading_owner;

/// A prefix that waits (`doctor_outages.sql`).
#[derive(Deserialize)]
struct Outage {
    prefix: String,
    since: String,
    sqlstate: String,
    message: String,
    probes: i64,
    next: String,
}

/// Reports every prefix that waits, with what to do in the meantime.
pub fn checks() -> Result<Vec<Check>> {
    const NAME: &str = "outages";
    let found: Vec<Outage> = as_reading_owner(|client| spi::fetch(client, statement!("doctor_outages"), &[]))?;
    if found.is_empty() {
        return Ok(vec![Check::good(NAME, "no prefix waits for S3")]);
    }
    let check = |outage: Outage| {
        let Outage { prefix, since, sqlstate, message, probes, next } = outage;
        let detail = format!(
            "loads under {prefix} wait since {since}: {message} ({sqlstate}); {probes} looks since then, the next at \
             {next}"
        );
        let remark = "Loads go on by themselves as soon as S3 answers. The checks of S3 say why it does not.";
        Check::bad(NAME, detail, Hint::run("SELECT * FROM btc_ingest.outages;").then(remark))
    };
    Ok(found.into_iter().map(check).collect())
}
