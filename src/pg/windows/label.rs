//! What followed a window: the return and the realised volatility over some horizons behind it.

use std::collections::BTreeMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::SpiClient;
use serde_json::{Map, json};

use super::read::trades;
use crate::error::{Error, Result};
use crate::model::bucket::{BUCKET_US, POSTGRES_EPOCH_US, bucket_of};
use crate::model::window::labels::{Labels, horizon_name};
use crate::pg::session::ffi::Column;
use crate::pg::session::target::as_owner;
use crate::pg::session::time::timestamp;
use crate::pg::session::{ffi, spi};

/// Rows that one statement writes.
const MOST: usize = 1_000;
const DAY_US: i64 = 86_400_000_000;

/// Ranges of an asset, or of any asset, in which ticks are missing or may be. Microseconds since 1970, the end
/// exclusive.
pub struct Incomplete {
    pub asset: Option<String>,
    pub from: i64,
    pub to: i64,
}

/// What is asked for.
pub struct Question {
    /// First bucket and end (exclusive), microseconds since 1970.
    pub range: (i64, i64),
    /// Microseconds, ascending.
    pub horizons: Vec<i64>,
    pub incomplete: Vec<Incomplete>,
}

/// A row of `signals.btc_embeddings` without one of the labels.
struct Row {
    bucket: i64,
    exchange: String,
}

/// Fills in the labels that windows lack and whose horizon is over and complete. Returns how many rows it has changed.
pub fn label(question: &Question) -> Result<i64> {
    as_owner(|client, target| {
        ffi::lock_for_writing(target.embeddings);
        target.must_still_hold(client)?;
        let mut changed = 0;
        for (asset, rows) in unlabelled(client, question)? {
            changed += label_asset(client, question, &asset, &rows)?;
        }
        Ok(changed)
    })
}

fn unlabelled(client: &SpiClient<'_>, question: &Question) -> Result<BTreeMap<String, Vec<Row>>> {
    let names: Vec<String> = question.horizons.iter().map(|horizon| horizon_name(*horizon)).collect();
    let (from, to) = question.range;
    let mut found: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let args = [timestamp(from)?.into(), timestamp(to)?.into(), names.into()];
    let columns = [Column::Text, Column::Time, Column::Text];
    ffi::for_each_row_now(client, statement!("windows_unlabelled"), &columns, &args, |row| {
        let text = |column| row.bytes(column).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        if let (Some(asset), Some(bucket), Some(exchange)) = (text(0), row.int8(1), text(2)) {
            let bucket = bucket.saturating_add(POSTGRES_EPOCH_US);
            found.entry(asset).or_default().push(Row { bucket, exchange });
        }
        Ok(())
    })?;
    Ok(found)
}

fn label_asset(client: &mut SpiClient<'_>, question: &Question, asset: &str, rows: &[Row]) -> Result<i64> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(0) };
    let longest = question.horizons.iter().copied().max().unwrap_or_default();
    let end = bucket_of(last.bucket) + 2 * BUCKET_US + longest;
    let mut labels = Labels::new(missing_of(question, asset));
    let mut from = bucket_of(first.bucket);
    // Day by day, so that no statement sorts more.
    while from < end {
        let to = ((from.div_euclid(DAY_US) + 1) * DAY_US).min(end);
        trades(client, asset, (from, to), |bucket, trade| {
            labels.add(bucket, trade);
            Ok(())
        })?;
        from = to;
    }
    let later = "SELECT (EXISTS (SELECT FROM market_data.btc_ticks WHERE symbol = $1 AND bucket_5m >= $2))::text";
    if spi::fetch(client, later, &[asset.to_owned().into(), timestamp(end)?.into()])? {
        labels.reach_to(end);
    }
    let mut writer = Writer::default();
    for row in rows {
        let mut found = Map::new();
        let mut until = 0;
        for horizon in &question.horizons {
            if let Some(label) = labels.label(row.bucket, *horizon) {
                let value = json!({"return": label.change, "realised_volatility": label.volatility});
                found.insert(horizon_name(*horizon), value);
                until = row.bucket + BUCKET_US + horizon;
            }
        }
        if !found.is_empty() {
            writer.add(client, asset, row, &serde_json::Value::Object(found).to_string(), until)?;
        }
    }
    writer.finish(client)
}

fn missing_of(question: &Question, asset: &str) -> Vec<(i64, i64)> {
    let concerns = |range: &&Incomplete| range.asset.as_deref().is_none_or(|named| named == asset);
    question.incomplete.iter().filter(concerns).map(|range| (range.from, range.to)).collect()
}

#[derive(Default)]
struct Writer {
    buckets: Vec<TimestampWithTimeZone>,
    exchanges: Vec<String>,
    assets: Vec<String>,
    labels: Vec<String>,
    until: Vec<TimestampWithTimeZone>,
    changed: i64,
}

impl Writer {
    fn add(&mut self, client: &mut SpiClient<'_>, asset: &str, row: &Row, labels: &str, until: i64) -> Result<()> {
        self.buckets.push(timestamp(row.bucket)?);
        self.exchanges.push(row.exchange.clone());
        self.assets.push(asset.to_owned());
        self.labels.push(labels.to_owned());
        self.until.push(timestamp(until)?);
        if self.buckets.len() >= MOST { self.flush(client) } else { Ok(()) }
    }

    fn finish(mut self, client: &mut SpiClient<'_>) -> Result<i64> {
        self.flush(client)?;
        Ok(self.changed)
    }

    fn flush(&mut self, client: &mut SpiClient<'_>) -> Result<()> {
        let rows = std::mem::take(self);
        let args =
            [rows.buckets.into(), rows.exchanges.into(), rows.assets.into(), rows.labels.into(), rows.until.into()];
        self.changed = rows.changed + spi::execute_kept(client, statement!("windows_label"), &args)? as i64;
        Ok(())
    }
}

/// Checks the horizons. Returns them in ascending order, each once.
pub fn checked_horizons(mut horizons: Vec<i64>) -> Result<Vec<i64>> {
    const LONGEST: i64 = 30 * DAY_US;
    horizons.sort_unstable();
    horizons.dedup();
    let fits = |horizon: &i64| (BUCKET_US..=LONGEST).contains(horizon) && horizon % BUCKET_US == 0;
    if (1..=16).contains(&horizons.len()) && horizons.iter().all(fits) {
        return Ok(horizons);
    }
    let what = "horizons must be 1 to 16 intervals, each a multiple of 5 minutes and at most 30 days";
    Err(Error::InvalidArgument { what: what.into() })
}
