//! Makes the vectors of slices from their stored ticks.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::spi::SpiClient;

use super::read::trades;
use super::write::Writer;
use crate::error::Result;
use crate::model::bucket::{BUCKET_US, bucket_of};
use crate::model::window::{Window, WindowBuilder};
use crate::pg::session::ffi::Column;
use crate::pg::session::locks::Lock;
use crate::pg::session::target::{Target, as_owner};
use crate::pg::session::time::timestamp;
use crate::pg::session::{ffi, lock_room, spi};

const DAY_US: i64 = 86_400_000_000;
/// Slices with at most this many empty buckets between them are read by one statement.
const GAP_US: i64 = 12 * BUCKET_US;

/// A slice that a load has stored ticks of.
pub struct StoredSlice<'a> {
    /// Microseconds since 1970.
    pub bucket: i64,
    pub asset: &'a str,
    /// The lowest and the highest trade id of the load.
    pub ids: (i64, i64),
    /// Whether the load has all ids between them.
    pub has_all: bool,
    /// The vector of the load's ticks, if it is made and all of them were new.
    pub made: Option<&'a Window>,
}

/// Makes the vectors of slices that a load has stored ticks of, in the load's transaction and with the privileges of
/// the tables' owner.
pub fn embed_slices<'a>(
    client: &mut SpiClient<'_>,
    target: &Target,
    slices: impl Iterator<Item = StoredSlice<'a>>,
) -> Result<()> {
    let mut days: BTreeMap<(&str, i64), Vec<StoredSlice<'_>>> = BTreeMap::new();
    for slice in slices {
        days.entry((slice.asset, slice.bucket.div_euclid(DAY_US))).or_default().push(slice);
    }
    let mut writer = begin(client, target)?;
    // What is loaded counts more than a vector; doctor() tells of the dimension.
    if writer.must_fit().is_err() {
        return Ok(());
    }
    lock_room::reserve(days.len())?;
    for ((asset, day), slices) in &days {
        lock(asset, *day);
        let mut buckets = BTreeSet::new();
        for slice in slices {
            match slice.made {
                Some(window) if !has_others(client, slice)? => writer.add(client, slice.bucket, asset, window)?,
                _ => {
                    buckets.insert(slice.bucket);
                }
            }
        }
        let buckets = &buckets;
        let mut span: Option<(i64, i64)> = None;
        for bucket in buckets {
            span = match span {
                Some((from, to)) if *bucket <= to + GAP_US => Some((from, bucket + BUCKET_US)),
                Some(done) => {
                    embed_span(client, &mut writer, asset, done, &|bucket| buckets.contains(&bucket))?;
                    Some((*bucket, bucket + BUCKET_US))
                }
                None => Some((*bucket, bucket + BUCKET_US)),
            };
        }
        if let Some(span) = span {
            embed_span(client, &mut writer, asset, span, &|bucket| buckets.contains(&bucket))?;
        }
    }
    writer.finish(client).map(drop)
}

/// Returns whether the table has ticks of the slice that the load has not stored.
fn has_others(client: &mut SpiClient<'_>, slice: &StoredSlice<'_>) -> Result<bool> {
    let (bucket, asset) = (timestamp(slice.bucket)?, slice.asset.to_owned());
    if slice.has_all {
        let args = [bucket.into(), asset.into(), slice.ids.0.into(), slice.ids.1.into()];
        return spi::fetch(client, statement!("windows_others"), &args);
    }
    let sql = "SELECT count(*)::text FROM market_data.btc_ticks WHERE bucket_5m = $1 AND symbol = $2";
    let stored: i64 = spi::fetch(client, sql, &[bucket.into(), asset.into()])?;
    Ok(slice.made.is_none_or(|made| made.ticks != stored))
}

/// Makes the vectors of all slices of an asset, or of all assets that loads have stored, in a range of microseconds
/// since 1970. Returns how many rows were new or have changed.
pub fn embed(from: i64, to: i64, asset: Option<&str>) -> Result<i64> {
    as_owner(|client, target| {
        let mut writer = begin(client, target)?;
        writer.must_fit()?;
        embed_range(client, &mut writer, (from, to), asset)?;
        writer.finish(client)
    })
}

/// Makes the vectors of a chunk that was attached, unless the column takes vectors of another length.
pub fn embed_chunk(client: &mut SpiClient<'_>, target: &Target, range: (i64, i64)) -> Result<()> {
    let mut writer = begin(client, target)?;
    if writer.must_fit().is_err() {
        return Ok(());
    }
    embed_range(client, &mut writer, range, None)?;
    writer.finish(client).map(drop)
}

fn embed_range(
    client: &mut SpiClient<'_>,
    writer: &mut Writer,
    (from, to): (i64, i64),
    asset: Option<&str>,
) -> Result<()> {
    let (from, to) = (bucket_of(from), bucket_of(to.saturating_add(BUCKET_US - 1)));
    let args = [timestamp(from)?.into(), timestamp(to)?.into(), asset.map(ToOwned::to_owned).into()];
    let assets: Option<Vec<String>> = spi::fetch_kept(client, statement!("windows_assets"), &args)?;
    for asset in assets.unwrap_or_default() {
        let mut from = from;
        while let Some(first) = first_bucket(client, &asset, from, to)? {
            let day = first.div_euclid(DAY_US);
            let end = ((day + 1) * DAY_US).min(to);
            lock_room::reserve(1)?;
            lock(&asset, day);
            embed_span(client, writer, &asset, (first, end), &|_| true)?;
            from = end;
        }
    }
    Ok(())
}

/// Locks the table of vectors against changes of its definition, and makes sure that the guard's answer still holds.
fn begin(client: &mut SpiClient<'_>, target: &Target) -> Result<Writer> {
    // The table and its indexes.
    lock_room::reserve(4)?;
    ffi::lock_for_writing(target.embeddings);
    target.must_still_hold(client)?;
    Writer::new(client)
}

/// Waits for other transactions that store vectors of an asset's day. What they have stored is seen by the statements
/// that follow: so the last of two loads of one slice makes the vector of the ticks of both.
fn lock(asset: &str, day: i64) {
    Lock::Windows { asset, day }.take_for_transaction();
}

/// Returns the first bucket of an asset that has a tick.
fn first_bucket(client: &mut SpiClient<'_>, asset: &str, from: i64, to: i64) -> Result<Option<i64>> {
    if from >= to {
        return Ok(None);
    }
    let args = [asset.to_owned().into(), timestamp(from)?.into(), timestamp(to)?.into()];
    let mut found = None;
    ffi::for_each_row_now(client, statement!("windows_first"), &[Column::Time], &args, |row| {
        found = row.int8(0).map(|time| bucket_of(time.saturating_add(crate::model::bucket::POSTGRES_EPOCH_US)));
        Ok(())
    })?;
    Ok(found)
}

/// Makes the vectors of the wanted slices in a span of buckets.
fn embed_span(
    client: &mut SpiClient<'_>,
    writer: &mut Writer,
    asset: &str,
    span: (i64, i64),
    wanted: &dyn Fn(i64) -> bool,
) -> Result<()> {
    let mut done = Vec::new();
    let mut current: Option<(i64, WindowBuilder)> = None;
    trades(client, asset, span, |bucket, trade| {
        if !wanted(bucket) {
            return Ok(());
        }
        match &mut current {
            Some((same, builder)) if *same == bucket => builder.add(trade),
            _ => {
                if let Some((last, builder)) = current.take() {
                    done.push((last, builder.finish()));
                }
                let mut builder = WindowBuilder::default();
                builder.add(trade);
                current = Some((bucket, builder));
            }
        }
        Ok(())
    })?;
    if let Some((last, builder)) = current {
        done.push((last, builder.finish()));
    }
    // A span is a day at most, so these are 300 kilobytes at most.
    done.iter().try_for_each(|(bucket, window)| writer.add(client, *bucket, asset, window))
}
