//! Objects that have failed or are quarantined, by their reason, and registry rows that no object stands for.

use serde::Deserialize;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::pg::session::spi;
use crate::pg::session::target::as_reading_owner;

/// Rows of each kind that are counted.
const LOOK_AT: i64 = 100_000;

/// What has failed (`doctor_failures.sql`).
#[derive(Deserialize)]
struct Failures {
    /// Objects that will be tried again.
    failed: i64,
    /// Their SQLSTATEs, and how often each came. `None` if there is none.
    #[serde(deserialize_with = "spi::nullable")]
    errors: Option<String>,
    quarantined: Vec<Quarantined>,
    /// Registry rows that were quarantined before there was an object.
    dead: i64,
    /// Bucket and asset of the first of them.
    #[serde(deserialize_with = "spi::nullable")]
    dead_bucket: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    dead_asset: Option<String>,
}

/// Objects that are quarantined for one reason.
#[derive(Deserialize)]
struct Quarantined {
    sqlstate: String,
    objects: i64,
    /// The uri of one of them, and the message of its last failure.
    example: String,
    #[serde(deserialize_with = "spi::nullable")]
    message: Option<String>,
}

/// Checks what has failed: one line per reason.
pub fn checks() -> Result<Vec<Check>> {
    let found: Failures =
        as_reading_owner(|client| spi::fetch(client, statement!("doctor_failures"), &[LOOK_AT.into()]))?;
    let mut checks = vec![failed(&found)];
    checks.extend(found.quarantined.iter().map(quarantined));
    if found.quarantined.is_empty() {
        checks.push(Check::good("quarantined", "none"));
    }
    checks.push(dead_letters(&found));
    Ok(checks)
}

fn failed(found: &Failures) -> Check {
    const NAME: &str = "failures";
    if found.failed == 0 {
        return Check::good(NAME, "none");
    }
    let errors = found.errors.as_deref().unwrap_or_default();
    let detail = format!("{} objects have failed and will be tried again ({errors})", many(found.failed));
    Check::known(NAME, detail, Hint::run("SELECT * FROM btc_ingest.failures WHERE status = 'failed';"))
}

fn quarantined(found: &Quarantined) -> Check {
    let Quarantined { sqlstate, objects, example, message } = found;
    let message = message.as_deref().unwrap_or("no message");
    let detail = format!("{} objects with {sqlstate}, for example {example}: {message}", many(*objects));
    let code = sqlstate.replace('\'', "''");
    let fix = format!(
        "SELECT r.* FROM btc_ingest.failures f CROSS JOIN LATERAL btc_ingest.retry(f.uri) r \
          WHERE f.status = 'quarantined' AND f.sqlstate = '{code}';"
    );
    let remark = format!(
        "Fix the cause first: docs/use/errors.md, {sqlstate}. Or give it up: SELECT * FROM btc_ingest.skip('{}');",
        example.replace('\'', "''")
    );
    Check::bad("quarantined", detail, Hint::run(fix).then(remark))
}

fn dead_letters(found: &Failures) -> Check {
    const NAME: &str = "dead letters";
    let (Some(bucket), Some(asset)) = (&found.dead_bucket, &found.dead_asset) else {
        return Check::good(NAME, "none");
    };
    let detail = format!(
        "{} registry rows cannot be enqueued, the first in bucket {bucket} of {asset}; why: ingestion.load_history",
        many(found.dead)
    );
    let fix = "UPDATE landing.raw_blobs_5m b SET status = 'skipped' WHERE b.status = 'quarantined' AND NOT EXISTS \
               (SELECT FROM ingestion.objects o WHERE o.s3_uri = b.s3_uri AND o.status = 'quarantined');";
    let remark = "This gives them up. Or let the producer register the object again, in a row within the limits.";
    Check::bad(NAME, detail, Hint::run(fix).then(remark))
}

/// Returns a count that stops at [`LOOK_AT`].
fn many(count: i64) -> String {
    if count >= LOOK_AT { format!("{LOOK_AT} or more") } else { count.to_string() }
}
