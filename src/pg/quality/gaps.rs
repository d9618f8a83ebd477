//! Holes in the trade ids of each asset, and what is noted about them.

use std::collections::HashMap;
use std::sync::Arc;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::ids::IdSet;
use crate::model::incidents::{Incident, incidents};
use crate::pg::load::id_sets;
use crate::pg::session::ffi::Column;
use crate::pg::session::target::{as_owner, as_reading_owner};
use crate::pg::session::{ffi, spi};

/// Consecutive trade ids that no loaded object holds, between ids that loaded objects hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// The asset.
    pub asset: Arc<str>,
    /// The lowest id.
    pub first: i64,
    /// The highest id.
    pub last: i64,
}

/// Asset, first and last id.
const COLUMNS: [Column; 3] = [Column::Text, Column::Int8, Column::Int8];

/// Returns the holes of an asset, or of all assets, in the order of asset and id.
pub fn holes(client: &SpiClient<'_>, asset: Option<&str>) -> Result<Vec<Hole>> {
    let mut sets: HashMap<Vec<u8>, IdSet> = HashMap::new();
    let mut by_slice: Vec<String> = Vec::new();
    let args = [asset.map(ToOwned::to_owned).into()];
    ffi::for_each_row(client, statement!("held_ids"), &COLUMNS, &args, |row| {
        let Some(asset) = row.bytes(0) else { return Ok(()) };
        match (row.int8(1), row.int8(2)) {
            (Some(first), Some(last)) => insert(&mut sets, asset, first, last),
            _ => by_slice.push(String::from_utf8_lossy(asset).into_owned()),
        }
        Ok(())
    })?;
    if !by_slice.is_empty() {
        ffi::for_each_row(client, statement!("slice_ids"), &COLUMNS, &[by_slice.into()], |row| {
            if let (Some(asset), Some(first), Some(last)) = (row.bytes(0), row.int8(1), row.int8(2)) {
                insert(&mut sets, asset, first, last);
            }
            Ok(())
        })?;
    }
    let mut holes = Vec::new();
    for (asset, set) in sets {
        let asset: Arc<str> = String::from_utf8_lossy(&asset).into();
        holes.extend(set.holes().map(|(first, last)| Hole { asset: asset.clone(), first, last }));
    }
    holes.sort_unstable_by(|a, b| (&a.asset, a.first).cmp(&(&b.asset, b.first)));
    Ok(holes)
}

fn insert(sets: &mut HashMap<Vec<u8>, IdSet>, asset: &[u8], first: i64, last: i64) {
    match sets.get_mut(asset) {
        Some(set) => set.insert(first, last),
        None => sets.entry(asset.to_owned()).or_default().insert(first, last),
    }
}

/// Returns the holes of an asset, or of all, with the privileges of the caller.
pub fn holes_as_caller(asset: Option<&str>) -> Result<Vec<Hole>> {
    Spi::connect(|client| holes(client, asset))
}

/// Notes a reason for the holes of an asset, or parts of them, within a range of ids. Returns how many there are.
pub fn explain(asset: &str, first: i64, last: i64, reason: &str) -> Result<i64> {
    if reason.trim().is_empty() {
        return Err(wrong("reason", "must say why the ticks are missing"));
    }
    as_owner(|client, _| {
        let all = holes(client, Some(asset))?;
        let mut found = all.clone();
        found.retain(|hole| hole.first <= last && hole.last >= first);
        for hole in &mut found {
            (hole.first, hole.last) = (hole.first.max(first), hole.last.min(last));
        }
        if found.is_empty() {
            return Err(wrong("first_trade_id", &format!("no trade id of {asset} is missing from {first} to {last}")));
        }
        note(client, &found, reason)?;
        count(client, &all, Some(asset))?;
        Ok(found.len() as i64)
    })
}

/// Notes the reason for each hole within one of the known outages, or no more than `tolerance` microseconds outside it.
/// Returns how many there are.
pub fn import_incidents(list: &Value, tolerance: i64) -> Result<i64> {
    let incidents = incidents(list)?;
    as_owner(|client, _| {
        let found = holes(client, None)?;
        let times = times(client, &found)?;
        let mut explained = 0;
        for (hole, times) in found.iter().zip(times) {
            let (Some(before), Some(after)) = (times.before, times.after) else { continue };
            let covers = |incident: &&Incident| incident.covers(&hole.asset, before, after, tolerance);
            if let Some(incident) = incidents.iter().find(covers) {
                note(client, std::slice::from_ref(hole), &incident.reason)?;
                explained += 1;
            }
        }
        count(client, &found, None)?;
        Ok(explained)
    })
}

/// Returns the number of holes without a reason, and of their trade ids.
pub fn open() -> Result<(i64, i64)> {
    as_reading_owner(|client| {
        let found = holes(client, None)?;
        spi::fetch(client, statement!("gaps_open"), &arrays(&found))
    })
}

/// Notes the holes that were not noted before, and tells the listeners of `btc_ingest_gaps`. Returns their number.
pub fn report() -> Result<i64> {
    as_owner(|client, _| report_in(client))
}

/// Does the same in the transaction of a worker, with the privileges of the tables' owner.
pub fn report_in(client: &mut SpiClient<'_>) -> Result<i64> {
    id_sets::merge_all(client)?;
    let found = holes(client, None)?;
    let new = spi::fetch(client, statement!("gap_report"), &arrays(&found))?;
    count(client, &found, None)?;
    Ok(new)
}

/// Declares whether the trade ids of an asset are a sequence.
pub fn declare(asset: &str, sequential: bool) -> Result<()> {
    if asset.is_empty() {
        return Err(wrong("asset", "must be the symbol, e.g. BTCUSDT"));
    }
    as_owner(|client, _| {
        let args = [asset.to_owned().into(), sequential.into()];
        spi::execute(client, statement!("asset_declare"), &args).map(drop)
    })
}

/// Records how many of all holes of an asset, or of all assets, have no reason.
fn count(client: &mut SpiClient<'_>, holes: &[Hole], asset: Option<&str>) -> Result<()> {
    let [assets, firsts, lasts] = arrays(holes);
    let args = [assets, firsts, lasts, asset.map(ToOwned::to_owned).into()];
    spi::execute(client, statement!("gaps_count"), &args).map(drop)
}

fn wrong(key: &str, why: &str) -> Error {
    Error::InvalidOption { key: key.into(), why: why.into() }
}

fn note(client: &mut SpiClient<'_>, holes: &[Hole], reason: &str) -> Result<()> {
    let [assets, firsts, lasts] = arrays(holes);
    spi::execute(client, statement!("gap_note"), &[assets, firsts, lasts, reason.to_owned().into()]).map(drop)
}

/// The times of the ticks around a hole (`gap_times.sql`).
#[derive(Deserialize)]
struct Times {
    #[serde(deserialize_with = "spi::nullable")]
    before: Option<i64>,
    #[serde(deserialize_with = "spi::nullable")]
    after: Option<i64>,
}

fn times(client: &mut SpiClient<'_>, holes: &[Hole]) -> Result<Vec<Times>> {
    spi::fetch(client, statement!("gap_times"), &arrays(holes))
}

fn arrays(holes: &[Hole]) -> [DatumWithOid<'static>; 3] {
    let assets: Vec<String> = holes.iter().map(|hole| hole.asset.to_string()).collect();
    let firsts: Vec<i64> = holes.iter().map(|hole| hole.first).collect();
    let lasts: Vec<i64> = holes.iter().map(|hole| hole.last).collect();
    [assets.into(), firsts.into(), lasts.into()]
}
