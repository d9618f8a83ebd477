//! `verify_all`: compares the slices of an asset over years, window after window, each in a transaction of its own. How
//! far it is stands in `ingestion.verifications`, so that another call goes on there.

use std::ops::Range;

use pgrx::JsonB;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use super::verify::{Outcome, Verified, checked, checked_range, compare_range};
use crate::error::{Error, Result};
use crate::load::compare::slices_that_fit;
use crate::model::bucket::BUCKET_US;
use crate::pg::session::target::as_owner;
use crate::pg::session::time::timestamp;
use crate::pg::session::{guc, spi};

/// The shortest window, in microseconds. Windows end at midnight where the objects allow it.
const DAY_US: i64 = 86_400_000_000;

/// How far a verification is.
pub struct Step {
    /// Whether the whole range is compared.
    pub done: bool,
    /// End (exclusive) of what is compared.
    pub verified_to: TimestampWithTimeZone,
    /// Slices that were compared so far.
    pub slices: i64,
    /// Slices of them that differ.
    pub different: i64,
    /// Slices of them that could not be compared.
    pub unproven: i64,
}

/// Begins a verification, or finds the unfinished one with the same arguments. Returns its id, and whether it was
/// there.
pub fn begin(asset: &str, from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<(i64, bool)> {
    checked_range(asset, from, to)?;
    as_owner(|client, _| {
        let args = || [asset.to_owned().into(), from.into(), to.into()];
        let found: Option<i64> = spi::fetch(client, statement!("verification_find"), &args())?;
        match found {
            Some(id) => Ok((id, true)),
            None => Ok((spi::fetch(client, statement!("verification_new"), &args())?, false)),
        }
    })
}

/// Compares the next window of a verification and records what was found. Another session that works on the same
/// verification waits, and then takes the window behind.
pub fn step(id: i64, most: i32) -> Result<Step> {
    let most = checked(most)?;
    as_owner(|client, _| {
        let work = Work::lock(client, id)?;
        if work.done {
            return progress(client, id);
        }
        let range = checked_range(&work.asset, work.verified_to, work.to)?;
        let window = range.start..window_end(client, &work.asset, &range)?;
        let found = compare_range(client, &work.asset, &window, most)?;
        record_findings(client, id, &found)?;
        let to = if window.end == range.end { work.to } else { timestamp(window.end)? };
        let count = |outcome| found.iter().filter(|slice| slice.outcome == outcome).count() as i64;
        let args = [
            id.into(),
            to.into(),
            (window.end == range.end).into(),
            (found.len() as i64).into(),
            found.iter().map(|slice| slice.table.rows).sum::<i64>().into(),
            count(Outcome::Different).into(),
            count(Outcome::Unproven).into(),
        ];
        spi::execute(client, statement!("verification_advance"), &args)?;
        progress(client, id)
    })
}

/// The row of a verification that this transaction works on.
struct Work {
    asset: String,
    verified_to: TimestampWithTimeZone,
    to: TimestampWithTimeZone,
    done: bool,
}

impl Work {
    fn lock(client: &mut SpiClient<'_>, id: i64) -> Result<Work> {
        let sql = "SELECT asset, verified_to, to_time, status = 'done' FROM ingestion.verifications
                    WHERE id = $1 FOR UPDATE";
        let table = spi::query(client, sql, &[id.into()])?;
        if table.is_empty() {
            let why = format!("there is no verification {id}");
            return Err(Error::InvalidOption { key: "verification".into(), why });
        }
        let row = table.first();
        let null = || spi::unexpected("a column is null");
        Ok(Work {
            asset: row.get(1).map_err(spi::internal)?.ok_or_else(null)?,
            verified_to: row.get(2).map_err(spi::internal)?.ok_or_else(null)?,
            to: row.get(3).map_err(spi::internal)?.ok_or_else(null)?,
            done: row.get(4).map_err(spi::internal)?.ok_or_else(null)?,
        })
    }
}

fn progress(client: &mut SpiClient<'_>, id: i64) -> Result<Step> {
    let sql = "SELECT status = 'done', verified_to, slices, different, unproven FROM ingestion.verifications
                WHERE id = $1";
    let table = spi::query(client, sql, &[id.into()])?;
    let row = table.first();
    let null = || spi::unexpected("a column is null");
    Ok(Step {
        done: row.get(1).map_err(spi::internal)?.ok_or_else(null)?,
        verified_to: row.get(2).map_err(spi::internal)?.ok_or_else(null)?,
        slices: row.get(3).map_err(spi::internal)?.ok_or_else(null)?,
        different: row.get(4).map_err(spi::internal)?.ok_or_else(null)?,
        unproven: row.get(5).map_err(spi::internal)?.ok_or_else(null)?,
    })
}

/// Returns the end of the window at the beginning of a range: the midnight behind its first slice, moved behind the
/// objects that reach over it, so that each object is read by one window. The window holds at most half of the slices
/// that fit into memory; an object that reaches further is read again by the next one.
fn window_end(client: &mut SpiClient<'_>, asset: &str, range: &Range<i64>) -> Result<i64> {
    let args = |from: i64, to: i64| -> Result<_> {
        Ok([asset.to_owned().into(), timestamp(from)?.into(), timestamp(to)?.into()])
    };
    let sql = "SELECT to_json((extract(epoch FROM min(bucket_5m)) * 1000000)::bigint)::text
                 FROM ingestion.object_slices WHERE asset = $1 AND bucket_5m >= $2 AND bucket_5m < $3";
    let first: Option<i64> = spi::fetch(client, sql, &args(range.start, range.end)?)?;
    let Some(first) = first else { return Ok(range.end) };
    let most = first + (slices_that_fit(guc::limits().memory) / 2).max(1) * BUCKET_US;
    let latest = range.end.min(most);
    let mut end = latest.min(first - first.rem_euclid(DAY_US) + DAY_US);
    loop {
        let last: Option<i64> = spi::fetch(client, statement!("verification_window"), &args(first, end)?)?;
        let reached = last.map_or(end, |last| last + BUCKET_US).min(latest);
        if reached <= end {
            return Ok(end);
        }
        end = reached;
    }
}

/// Records the slices that are not equal.
fn record_findings(client: &mut SpiClient<'_>, id: i64, found: &[Verified]) -> Result<()> {
    let unequal: Vec<&Verified> = found.iter().filter(|slice| slice.outcome != Outcome::Equal).collect();
    if unequal.is_empty() {
        return Ok(());
    }
    let buckets: Vec<TimestampWithTimeZone> = unequal.iter().map(|slice| slice.bucket).collect();
    let findings: Vec<JsonB> = unequal.iter().map(|slice| JsonB(finding(slice))).collect();
    spi::execute(client, statement!("verification_findings"), &[id.into(), buckets.into(), findings.into()]).map(drop)
}

fn finding(slice: &Verified) -> Value {
    let differences = &slice.differences;
    let extra = slice.extra_known.then_some(&differences.extra);
    json!({
        "outcome": slice.outcome.as_str(),
        "missing": differences.missing.count,
        "extra": extra.map(|ids| ids.count),
        "differing": differences.differing.count,
        "missing_ids": differences.missing.first,
        "extra_ids": extra.map(|ids| &ids.first),
        "differing_ids": differences.differing.first,
        "problem": slice.problem,
    })
}
