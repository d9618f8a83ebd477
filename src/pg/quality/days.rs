//! What is loaded of each asset on each day, for the conditions of days.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::prelude::*;

use crate::error::Result;
use crate::model::ids::IdSet;
use crate::pg::session::ffi;

/// Microseconds in a day.
const DAY_US: i64 = 86_400_000_000;

/// What loaded objects hold of an asset on one day.
#[derive(Debug, Default)]
pub struct Day {
    ids: IdSet,
    buckets: BTreeSet<i64>,
    /// Ticks whose event time is before that of the tick with the next lower trade id.
    pub out_of_order: i64,
    /// The largest difference of event time and trade time, in microseconds.
    pub max_skew: Option<i64>,
    /// When an object last brought ticks, in microseconds since 2000.
    pub last_loaded: i64,
}

impl Day {
    /// Returns the number of ticks.
    pub fn ticks(&self) -> i64 {
        self.ids.count()
    }

    /// Returns the number of slices.
    pub fn slices(&self) -> i64 {
        self.buckets.len() as i64
    }
}

/// Returns what is loaded in a range of buckets, by day (microseconds since 2000) and asset, with the privileges of the
/// caller.
pub fn days(from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<BTreeMap<(i64, String), Day>> {
    let mut days: BTreeMap<i64, BTreeMap<Vec<u8>, Day>> = BTreeMap::new();
    Spi::connect(|client| {
        ffi::for_each_row(client, statement!("slice_days"), &[from.into(), to.into()], |row| {
            let (Some(asset), Some(bucket), Some(first), Some(last)) =
                (row.bytes(0), row.int8(1), row.int8(2), row.int8(3))
            else {
                return Ok(());
            };
            let assets = days.entry(bucket - bucket.rem_euclid(DAY_US)).or_default();
            let day = match assets.get_mut(asset) {
                Some(day) => day,
                None => assets.entry(asset.to_owned()).or_default(),
            };
            day.ids.insert(first, last);
            day.buckets.insert(bucket);
            day.out_of_order += row.int8(4).unwrap_or(0);
            day.max_skew = day.max_skew.max(row.int8(5));
            day.last_loaded = day.last_loaded.max(row.int8(6).unwrap_or(i64::MIN));
            Ok(())
        })
    })?;
    let named = |(day, assets): (i64, BTreeMap<Vec<u8>, Day>)| {
        assets.into_iter().map(move |(asset, found)| ((day, String::from_utf8_lossy(&asset).into_owned()), found))
    };
    Ok(days.into_iter().flat_map(named).collect())
}
