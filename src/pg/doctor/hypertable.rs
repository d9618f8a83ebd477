//! The hypertable as the contract says: its column, the interval of its chunks, its policies; and the indexes of all tables.

use pgrx::prelude::*;
use serde_json::Value;

use super::Check;
use crate::error::Result;
use crate::pg::session::spi;

/// Dimension, chunk interval, policies.
pub fn checks() -> Result<Vec<Check>> {
    let sql = statement!("doctor_hypertable");
    let found = Spi::connect_mut(|client| spi::json(client, sql, &[]))?;
    let mut checks = vec![dimension(&found), interval(&found)];
    checks.extend(policies(&found));
    Ok(checks)
}

fn dimension(found: &Value) -> Check {
    let columns = found["columns"].as_str().unwrap_or("nothing");
    let detail = format!("market_data.btc_ticks by {columns}");
    if columns == "bucket_5m" {
        return Check::good("hypertable", detail);
    }
    Check::bad(
        "hypertable",
        detail,
        "It is to be a hypertable by bucket_5m alone: rename it, SELECT btc_ingest.migrate(); and insert its ticks into the new one.",
    )
}

fn interval(found: &Value) -> Check {
    let text = |key: &str| found[key].as_str().unwrap_or("none").to_owned();
    if found["as_wanted"] == true {
        return Check::good("chunk interval", text("interval"));
    }
    let (interval, wanted) = (text("interval"), text("wanted"));
    let hint = format!(
        "For new chunks: SELECT set_chunk_time_interval('market_data.btc_ticks', interval '{wanted}'); or, if it is meant to be so: ALTER SYSTEM SET btc_ingest.chunk_time_interval = '{interval}'; SELECT pg_reload_conf();"
    );
    Check::bad("chunk interval", format!("{interval}; btc_ingest.chunk_time_interval is {wanted}"), hint)
}

/// Policies are the administrator's: what there is, is named, and none is fine.
fn policies(found: &Value) -> [Check; 2] {
    let named = |kind: &str| {
        let of_kind = found["policies"].as_array().into_iter().flatten().filter(|policy| policy["kind"] == kind);
        let texts = of_kind.map(|policy| {
            let paused = if policy["scheduled"] == true { "" } else { ", paused" };
            format!("after {} (job {}{paused})", policy["after"].as_str().unwrap_or("unknown"), policy["job"])
        });
        texts.collect::<Vec<_>>().join("; ")
    };
    let (compression, retention) = (named("policy_compression"), named("policy_retention"));
    [
        if compression.is_empty() {
            Check::good("compression", "no policy: chunks stay as they are")
        } else {
            Check::good("compression", format!("chunks are compressed {compression}"))
        },
        if retention.is_empty() {
            Check::known(
                "retention",
                "ticks are kept for ever: there is no policy, and this version applies none of ops.retention_jobs",
                "To drop old chunks, on the Community edition: SELECT add_retention_policy('market_data.btc_ticks', interval '90 days'); it deletes what a backfill of older history brings, too.",
            )
        } else {
            Check::known(
                "retention",
                format!("chunks are dropped {retention}"),
                "What a backfill brings of older history is dropped as well, the next time that the job runs.",
            )
        },
    ]
}

/// Whether every key and index of the contract is there.
pub fn indexes() -> Result<Vec<Check>> {
    let sql = "SELECT coalesce(json_agg(i), '[]')::text FROM btc_ingest_internal.missing_indexes() AS i";
    let found = Spi::connect_mut(|client| spi::json(client, sql, &[]))?;
    let missing = |key: &str| {
        let rows = found.as_array().into_iter().flatten();
        rows.filter_map(|row| row[key].as_str()).map(str::to_owned).collect::<Vec<_>>()
    };
    let names = missing("name");
    Ok(vec![if names.is_empty() {
        Check::good("indexes", "all keys and indexes of the contract are there")
    } else {
        Check::bad("indexes", format!("missing: {}", names.join(", ")), missing("statement").join(" "))
    }])
}
