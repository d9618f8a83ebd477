//! Retention: whether TimescaleDB's jobs are those that `ops.retention_jobs` wants, what is held back from being
//! dropped, and what else would drop ticks or candles.

use serde::Deserialize;

use super::check::{Check, Hint};
use super::installation::Server;
use crate::error::Result;
use crate::pg::retention::policies::{Drift, drift};
use crate::pg::session::spi;
use crate::pg::session::target::as_reading_owner;

const NAME: &str = "retention";

/// What is there beside the jobs (`doctor_retention.sql`).
#[derive(Deserialize)]
struct Found {
    /// TimescaleDB's jobs that drop ticks.
    dropping: Vec<i64>,
    /// How many continuous aggregates there are over the ticks.
    aggregates: i64,
    /// TimescaleDB's jobs that drop candles, each with the aggregate.
    dropping_candles: Vec<(i64, String)>,
    /// TimescaleDB's jobs that would compute candles of dropped ticks again.
    refreshing: Vec<(i64, String)>,
    /// Chunks that are held back, by their date, and why.
    held: Vec<(String, String)>,
    /// How many ranges are dropped.
    dropped: i64,
    /// A row that would drop ticks and is disabled.
    #[serde(deserialize_with = "spi::nullable")]
    off: Option<String>,
}

/// Checks retention.
pub fn checks(server: &Server) -> Result<Vec<Check>> {
    let found: Found = as_reading_owner(|client| spi::fetch_kept(client, statement!("doctor_retention"), &[]))?;
    let drift = drift()?;
    let mut checks = foreign(&found, &drift);
    checks.extend(differing(&drift));
    checks.extend(held(&found));
    let lacking = drift.lacking.first().map(|first| {
        let hint = "Disable the row, or install the other edition: its packages are named without -oss.";
        Check::known(NAME, first.clone(), Hint::know(hint))
    });
    checks.extend(lacking);
    if checks.is_empty() {
        checks.push(as_it_should_be(&found, &drift, server));
    }
    Ok(checks)
}

/// Names jobs that are not those that the rows want.
fn differing(drift: &Drift) -> Option<Check> {
    let first = drift.wrong.first()?;
    let more = match drift.wrong.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let fix = Hint::run("SELECT btc_ingest.apply_retention();");
    Some(Check::bad(NAME, format!("the jobs are not those of ops.retention_jobs: {first}{more}"), fix))
}

/// Names jobs of TimescaleDB's own that would delete history.
fn foreign(found: &Found, drift: &Drift) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(job) = found.dropping.first() {
        let detail =
            format!("job {job} of TimescaleDB drops chunks without a proof that their ticks can be loaded again");
        let fix = "SELECT remove_retention_policy('market_data.btc_ticks'); \
                   UPDATE ops.retention_jobs SET enabled = true \
                   WHERE hypertable = 'market_data.btc_ticks' AND policy ? 'drop_after';";
        let hint = Hint::run(fix).then("The row drops them with a proof, and no candle changes.");
        let harmful = found.aggregates > 0 || !drift.drops.is_empty();
        checks.push(if harmful { Check::bad(NAME, detail, hint) } else { Check::known(NAME, detail, hint) });
    }
    for (job, aggregate) in &found.dropping_candles {
        let detail =
            format!("job {job} of TimescaleDB drops candles of {aggregate}, whose ticks may be dropped already");
        checks.push(Check::bad(NAME, detail, Hint::run(format!("SELECT remove_retention_policy('{aggregate}');"))));
    }
    for (job, aggregate) in &found.refreshing {
        let detail =
            format!("job {job} of TimescaleDB would compute candles of {aggregate} again whose ticks are dropped");
        let fix = Hint::run(format!("SELECT remove_continuous_aggregate_policy('{aggregate}');"));
        let fix = fix.then("btc_ingest refreshes candles of create_candles(); others need a start_offset behind them.");
        checks.push(Check::bad(NAME, detail, fix));
    }
    checks
}

/// Names the chunks that are held back.
fn held(found: &Found) -> Option<Check> {
    let (date, why) = found.held.first()?;
    let detail = format!("{} chunks are due and held back, the first of {date}: {why}", found.held.len());
    Some(Check::bad(NAME, detail, Hint::run("SELECT * FROM btc_ingest.retention WHERE state = 'held back';")))
}

fn as_it_should_be(found: &Found, drift: &Drift, server: &Server) -> Check {
    let dropped = match found.dropped {
        0 => String::new(),
        dropped => format!("; {dropped} ranges are dropped"),
    };
    if let Some(job) = drift.drops.first() {
        let how = if server.is_preloaded("btc_ingest") { "a worker" } else { "run_retention()" };
        return Check::good(NAME, format!("{how} drops chunks as ops.retention_jobs ({job}) wants it{dropped}"));
    }
    let detail = format!("ticks are kept for ever: no row of ops.retention_jobs that drops them is enabled{dropped}");
    let fix = found.off.as_ref().map(|job| {
        let job = job.replace('\'', "''");
        let remark = "It drops old chunks after a proof that each of their ticks can be loaded again. Older history \
                      that \
                      a backfill loads is dropped as well.";
        Hint::know(format!("UPDATE ops.retention_jobs SET enabled = true WHERE job_name = '{job}'; {remark}"))
    });
    match fix {
        Some(fix) => Check::known(NAME, detail, fix),
        None => Check::good(NAME, detail),
    }
}
