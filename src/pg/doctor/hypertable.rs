//! The hypertable: its dimension, the interval of its chunks and its compression. And the indexes of all tables.

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint, set};
use crate::error::{Error, Result};
use crate::pg::session::spi;

/// What TimescaleDB knows of `market_data.btc_ticks` (`doctor_hypertable.sql`).
#[derive(Deserialize)]
struct Hypertable {
    /// The columns of its dimensions. `None` if it is no hypertable.
    #[serde(deserialize_with = "spi::nullable")]
    columns: Option<String>,
    /// The interval of its chunks. `None` if the first dimension has none.
    #[serde(deserialize_with = "spi::nullable")]
    interval: Option<String>,
    /// `btc_ingest.chunk_time_interval`.
    wanted: String,
    /// Whether both intervals are equal.
    #[serde(deserialize_with = "spi::nullable")]
    as_wanted: Option<bool>,
    /// Why backfills do not refresh all continuous aggregates. `None` if they do.
    #[serde(deserialize_with = "spi::nullable")]
    not_refreshed: Option<String>,
    policies: Vec<Policy>,
}

/// A policy of the hypertable.
#[derive(Deserialize)]
struct Policy {
    /// The number of its job.
    job: i64,
    scheduled: bool,
    /// The age of the chunks that it works on.
    #[serde(deserialize_with = "spi::nullable")]
    after: Option<String>,
    /// The owner of the job, if it is a role with whose privileges no backfill may act.
    #[serde(deserialize_with = "spi::nullable")]
    foreign_owner: Option<String>,
}

/// A key or an index that does not exist (`btc_ingest_internal.missing_indexes()`).
#[derive(Deserialize)]
struct MissingIndex {
    name: String,
    /// The statement that creates it.
    statement: String,
}

/// Checks dimension, chunk interval and compression.
pub fn checks() -> Result<Vec<Check>> {
    let found: Hypertable = Spi::connect_mut(|client| spi::fetch_kept(client, statement!("doctor_hypertable"), &[]))?;
    let mut checks = vec![dimension(&found), interval(&found), compression(&found)];
    checks.extend(found.not_refreshed.as_ref().map(|why| aggregates(why)));
    Ok(checks)
}

/// Says why backfills do not refresh all continuous aggregates.
fn aggregates(why: &str) -> Check {
    let hint = "ALTER MATERIALIZED VIEW … OWNER TO the owner of the tables, and let that role log in; or CALL \
                refresh_continuous_aggregate(…, force => true) after each backfill by chunks.";
    Check::known("continuous aggregates", format!("backfills by chunks do not refresh all: {why}"), Hint::know(hint))
}

fn dimension(found: &Hypertable) -> Check {
    let columns = found.columns.as_deref().unwrap_or("nothing");
    let detail = format!("market_data.btc_ticks by {columns}");
    if columns == "bucket_5m" {
        return Check::good("hypertable", detail);
    }
    let fix = "CREATE SCHEMA btc_ticks_before; ALTER TABLE market_data.btc_ticks SET SCHEMA btc_ticks_before; SELECT \
               btc_ingest.migrate();";
    let hint = "It is to be a hypertable by bucket_5m alone. Then insert the ticks of btc_ticks_before.btc_ticks into \
                the new one.";
    Check::bad("hypertable", detail, Hint::run(fix).then(hint))
}

fn interval(found: &Hypertable) -> Check {
    let (interval, wanted) = (found.interval.as_deref().unwrap_or("none"), &found.wanted);
    if found.as_wanted == Some(true) {
        return Check::good("chunk interval", interval);
    }
    let fix = format!("SELECT set_chunk_time_interval('market_data.btc_ticks', interval '{wanted}');");
    let other = set("btc_ingest.chunk_time_interval", interval);
    let hint = Hint::run(fix).then(format!("for new chunks. Or, if it is meant to be so: {other}"));
    Check::bad("chunk interval", format!("{interval}; btc_ingest.chunk_time_interval is {wanted}"), hint)
}

/// Names the compression policies. The administrator decides about them, so none is fine.
fn compression(found: &Hypertable) -> Check {
    match policies(found) {
        Some(policies) => Check::good("compression", format!("chunks are compressed {policies}")),
        None => Check::good("compression", "no policy: chunks stay as they are"),
    }
}

/// Describes all policies. Returns `None` if there is none.
fn policies(found: &Hypertable) -> Option<String> {
    let texts = found.policies.iter().map(|Policy { job, scheduled, after, foreign_owner, .. }| {
        let paused = if *scheduled { "" } else { ", paused" };
        let of = foreign_owner
            .as_ref()
            .map(|owner| format!(" of \"{owner}\", so backfills do not pause it"))
            .unwrap_or_default();
        format!("after {} (job {job}{paused}{of})", after.as_deref().unwrap_or("unknown"))
    });
    let texts: Vec<_> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// Checks that all keys and indexes exist.
pub fn indexes() -> Result<Vec<Check>> {
    let sql = "SELECT coalesce(json_agg(i), '[]')::text FROM btc_ingest_internal.missing_indexes() AS i";
    let missing: Vec<MissingIndex> = Spi::connect_mut(|client| spi::fetch(client, sql, &[]))?;
    if missing.is_empty() {
        let other: Option<String> =
            Spi::connect_mut(|client| spi::fetch(client, statement!("chunk_without_key"), &[]))?;
        return Ok(vec![match other {
            Some(table) => {
                let error = Error::NoKey { table };
                Check::error("indexes", error.to_string(), &error)
            }
            None => Check::good("indexes", "all keys and indexes of the contract are there"),
        }]);
    }
    let (names, statements): (Vec<_>, Vec<_>) = missing.into_iter().map(|index| (index.name, index.statement)).unzip();
    Ok(vec![Check::bad("indexes", format!("missing: {}", names.join(", ")), Hint::run(statements.join(" ")))])
}
