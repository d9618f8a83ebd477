//! What is loaded of each asset on each day, for the conditions of days.

use std::collections::{BTreeMap, HashMap};

use pgrx::prelude::*;

use crate::error::Result;
use crate::model::bucket::BUCKET_US;
use crate::model::ids::{IdSet, ranges_of};
use crate::pg::session::ffi::{self, Column};
use crate::pg::session::spi;

/// Microseconds in a day.
const DAY_US: i64 = 86_400_000_000;
/// Buckets in a day.
const BUCKETS: usize = (DAY_US / BUCKET_US) as usize;

/// What loaded objects hold of an asset on one day.
#[derive(Debug, Default)]
pub struct Day {
    ids: IdSet,
    /// A bit per bucket.
    buckets: [u64; BUCKETS.div_ceil(64)],
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
        self.buckets.iter().map(|bits| i64::from(bits.count_ones())).sum()
    }
}

/// The columns of `slice_days.sql`.
const COLUMNS: [Column; 8] = {
    use Column::{Int8, Text, Time};
    [Text, Time, Int8, Int8, Int8, Int8, Time, Text]
};

/// Returns what is loaded in a range of buckets, by day (microseconds since 2000) and asset, with the privileges of the
/// caller.
pub fn days(from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<BTreeMap<(i64, String), Day>> {
    // Rows of an asset mostly come day after day, so a day is found in the map once.
    let mut assets: HashMap<Vec<u8>, Days> = HashMap::new();
    Spi::connect(|client| {
        ffi::for_each_row(client, statement!("slice_days"), &COLUMNS, &[from.into(), to.into()], |row| {
            let (Some(asset), Some(bucket), Some(first), Some(last)) =
                (row.bytes(0), row.int8(1), row.int8(2), row.int8(3))
            else {
                return Ok(());
            };
            let days = match assets.get_mut(asset) {
                Some(days) => days,
                None => assets.entry(asset.to_owned()).or_default(),
            };
            let begin = bucket - bucket.rem_euclid(DAY_US);
            let day = days.of(begin);
            insert(&mut day.ids, row.bytes(7), (first, last))?;
            let number = ((bucket - begin) / BUCKET_US) as usize;
            day.buckets[number / 64] |= 1 << (number % 64);
            day.out_of_order += row.int8(4).unwrap_or(0);
            day.max_skew = day.max_skew.max(row.int8(5));
            day.last_loaded = day.last_loaded.max(row.int8(6).unwrap_or(i64::MIN));
            Ok(())
        })
    })?;
    let mut all = BTreeMap::new();
    for (asset, days) in assets {
        let asset = String::from_utf8_lossy(&asset).into_owned();
        all.extend(days.finish().into_iter().map(|(begin, day)| ((begin, asset.clone()), day)));
    }
    Ok(all)
}

/// Adds the ids of a slice: those of the multirange, or all from its first to its last one.
fn insert(ids: &mut IdSet, multirange: Option<&[u8]>, (first, last): (i64, i64)) -> Result<()> {
    let Some(text) = multirange else {
        ids.insert(first, last);
        return Ok(());
    };
    let ranges = std::str::from_utf8(text).ok().and_then(ranges_of);
    let ranges = ranges.ok_or_else(|| spi::unexpected("the ids of a slice are no multirange"))?;
    ranges.into_iter().for_each(|(first, last)| ids.insert(first, last));
    Ok(())
}

/// The days of an asset, and apart from them the one that was met last.
#[derive(Debug, Default)]
struct Days {
    others: BTreeMap<i64, Day>,
    last: Option<(i64, Day)>,
}

impl Days {
    /// Returns the day that begins at this time.
    fn of(&mut self, begin: i64) -> &mut Day {
        if self.last.as_ref().is_none_or(|(last, _)| *last != begin) {
            let day = self.others.remove(&begin).unwrap_or_default();
            if let Some((last, before)) = self.last.replace((begin, day)) {
                self.others.insert(last, before);
            }
        }
        &mut self.last.get_or_insert_with(|| (begin, Day::default())).1
    }

    fn finish(self) -> BTreeMap<i64, Day> {
        let mut days = self.others;
        days.extend(self.last);
        days
    }
}
