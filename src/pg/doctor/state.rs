//! What the tables of the ingestion say: backfills that have stopped, watches that fail, conflicts and rejected rows.

use pgrx::datum::Interval;
use serde::Deserialize;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::pg::session::spi;
use crate::pg::session::target::as_reading_owner;

/// Loads with conflicts or rejected rows that are counted.
const LOOK_AT: i64 = 100_000;

/// The row of `doctor_state.sql`.
#[derive(Deserialize)]
struct State {
    backfills: Vec<Backfill>,
    /// Those that wait until their prefix can be listed again.
    listings: Vec<Backfill>,
    watches: Vec<Watch>,
    vain: Vec<Vain>,
    differing: Differing,
}

/// A backfill that has stopped or waits.
#[derive(Deserialize)]
struct Backfill {
    id: i64,
    message: String,
    sqlstate: String,
    /// The statement that continues it, or shows it.
    call: String,
}

/// A watch whose last listing has failed.
#[derive(Deserialize)]
struct Watch {
    prefix: String,
    #[serde(deserialize_with = "spi::nullable")]
    sqlstate: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    message: Option<String>,
    /// The statement that lists it again.
    again: String,
}

/// A watch whose listing finds keys, but no object.
#[derive(Deserialize)]
struct Vain {
    prefix: String,
    keys: i64,
    /// The statement that ends it.
    end: String,
}

/// Loads with rows that conflicted or were rejected.
#[derive(Deserialize)]
struct Differing {
    conflicts: i64,
    rejects: i64,
    loads: i64,
    /// When the first of these loads started. `None` if there is no load.
    #[serde(deserialize_with = "spi::nullable")]
    since: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    example: Option<String>,
}

/// Checks backfills and watches, and the loads since then. Without `since`, all loads count.
pub fn checks(since: Option<Interval>) -> Result<Vec<Check>> {
    let args = [since.into(), LOOK_AT.into()];
    let found: State = as_reading_owner(|client| spi::fetch(client, statement!("doctor_state"), &args))?;
    let mut checks: Vec<Check> =
        found.backfills.iter().map(stopped).chain(found.listings.iter().map(waiting)).collect();
    if checks.is_empty() {
        checks.push(Check::good("backfills", "none has stopped or waits for a listing"));
    }
    checks.extend(found.watches.iter().map(failing));
    checks.extend(found.vain.iter().map(in_vain));
    if found.watches.is_empty() && found.vain.is_empty() {
        checks.push(Check::good("watches", "no listing fails"));
    }
    checks.push(differing(&found.differing));
    Ok(checks)
}

fn stopped(backfill: &Backfill) -> Check {
    let Backfill { id, message, sqlstate, call } = backfill;
    let remark = format!("Fix the cause first. Or give it up: SELECT btc_ingest.cancel_backfill({id});");
    let detail = format!("backfill {id} has stopped: {message} ({sqlstate})");
    Check::bad("backfills", detail, Hint::run(call).then(remark))
}

fn waiting(backfill: &Backfill) -> Check {
    let Backfill { id, message, sqlstate, call } = backfill;
    let detail = format!("backfill {id} cannot go on listing: {message} ({sqlstate})");
    let remark = "It goes on by itself as soon as S3 answers. The checks of S3 say why it does not.";
    Check::bad("backfills", detail, Hint::run(call).then(remark))
}

fn failing(watch: &Watch) -> Check {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let detail = format!("{} cannot be listed: {} ({})", watch.prefix, text(&watch.message), text(&watch.sqlstate));
    let remark = format!(
        "Fix the cause first: docs/use/errors.md, {}. Or end the watch: btc_ingest.unwatch(prefix).",
        text(&watch.sqlstate)
    );
    Check::bad("watches", detail, Hint::run(&watch.again).then(remark))
}

fn in_vain(watch: &Vain) -> Check {
    let Vain { prefix, keys, end } = watch;
    let detail = format!("{prefix} finds no object: none of its {keys} keys matches the pattern and is a Parquet file");
    let remark = "Then watch() a pattern that fits the keys, or the folder that holds them: docs/use/discovery.md.";
    Check::bad("watches", detail, Hint::run(end).then(remark))
}

fn differing(found: &Differing) -> Check {
    const NAME: &str = "conflicts and rejects";
    let Some(since) = &found.since else { return Check::good(NAME, "none") };
    let example = found.example.as_deref().unwrap_or_default();
    let detail = format!(
        "{} ticks conflict and {} rows were rejected, in {} loads since {since}, for example of {example}",
        found.conflicts, found.rejects, found.loads
    );
    let fix = format!(
        "SELECT r.s3_uri, r.reason, count(*) FROM landing.rejected_ticks r WHERE r.s3_uri IN (SELECT h.s3_uri FROM \
         ingestion.load_history h WHERE h.started_at >= '{since}' AND (h.rows_conflicting > 0 OR h.rows_rejected > 0)) \
         GROUP BY 1, 2;"
    );
    let remark = "Once they are looked at, doctor(since => '1 hour') leaves older ones out.";
    Check::bad(NAME, detail, Hint::run(fix).then(remark))
}
