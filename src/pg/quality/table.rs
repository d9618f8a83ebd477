//! The stored ticks of a comparison, as sums per slice or one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiClient;

use crate::error::{Error, Result};
use crate::load::compare::{SliceKey, must_fit};
use crate::model::bucket::{BUCKET_US, POSTGRES_EPOCH_US};
use crate::model::digest::{CanonicalTick, TickSums};
use crate::model::tick::{PRICE_SCALE, QUANTITY_SCALE};
use crate::pg::session::ffi::{self, Column, Row};
use crate::pg::session::time::timestamp;
use crate::tuple::numeric::units;

/// Ranges of slices with at most this many empty buckets between them are read by one statement.
const GAP: i64 = 12 * BUCKET_US;

/// The columns of `verify_ticks.sql`.
const COLUMNS: [Column; 10] = {
    use Column::{Bool, Int8, Numeric, Text, Time};
    [Time, Time, Time, Text, Int8, Numeric, Numeric, Text, Text, Bool]
};

/// Consecutive buckets of some assets.
pub struct Span {
    /// Microseconds since 1970.
    pub buckets: Range<i64>,
    /// The assets.
    pub assets: BTreeSet<Arc<str>>,
}

/// Returns spans that hold all of these slices, which come in the order of their buckets.
pub fn spans<'a>(slices: impl IntoIterator<Item = &'a SliceKey>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (bucket, asset) in slices {
        match spans.last_mut() {
            Some(span) if *bucket <= span.buckets.end + GAP => {
                span.buckets.end = bucket + BUCKET_US;
                span.assets.insert(asset.clone());
            }
            _ => spans.push(Span { buckets: *bucket..bucket + BUCKET_US, assets: BTreeSet::from([asset.clone()]) }),
        }
    }
    spans
}

/// Passes every stored tick of a span to `each`, with its bucket.
pub fn for_each_tick(
    client: &SpiClient<'_>,
    span: &Span,
    mut each: impl FnMut(i64, &CanonicalTick<'_>) -> Result<()>,
) -> Result<()> {
    let assets: Vec<String> = span.assets.iter().map(ToString::to_string).collect();
    let args: [DatumWithOid<'_>; 3] =
        [timestamp(span.buckets.start)?.into(), timestamp(span.buckets.end)?.into(), assets.into()];
    ffi::for_each_row(client, statement!("verify_ticks"), &COLUMNS, &args, |row| {
        let (bucket, tick) = tick(row).ok_or_else(|| Error::Internal { why: "a stored tick has no key".into() })?;
        each(bucket, &tick)
    })
}

/// Returns a row of `verify_ticks.sql` with its bucket.
#[inline]
fn tick<'a>(row: &'a Row<'_>) -> Option<(i64, CanonicalTick<'a>)> {
    let time = |column| row.int8(column).map(|time| time.saturating_add(POSTGRES_EPOCH_US));
    let number = |column, scale| row.bytes(column).and_then(|bytes| units(bytes, scale));
    let tick = CanonicalTick {
        event_time: time(1)?,
        trade_time: time(2),
        symbol: row.bytes(3)?,
        trade_id: row.int8(4)?,
        price: number(5, PRICE_SCALE).and_then(|price| i64::try_from(price).ok()),
        quantity: number(6, QUANTITY_SCALE),
        buyer_order_id: row.bytes(7),
        seller_order_id: row.bytes(8),
        is_market_maker: row.bool(9),
    };
    Some((time(0)?, tick))
}

/// Returns the key of a stored tick's slice.
pub fn key(bucket: i64, tick: &CanonicalTick<'_>) -> SliceKey {
    (bucket, String::from_utf8_lossy(tick.symbol).into())
}

/// Sums over the stored ticks of each slice.
pub struct TableSums {
    slices: BTreeMap<SliceKey, TickSums>,
    /// The slice of the last tick. Consecutive ticks usually belong to one slice.
    last: Option<(SliceKey, TickSums)>,
    buffer: Vec<u8>,
    memory: u64,
}

impl TableSums {
    /// Begins with no tick.
    pub fn new(memory: u64) -> Self {
        TableSums { slices: BTreeMap::new(), last: None, buffer: Vec::new(), memory }
    }

    /// Adds the stored ticks of a span that belong to wanted slices.
    pub fn add(&mut self, client: &SpiClient<'_>, span: &Span, wanted: &dyn Fn(&SliceKey) -> bool) -> Result<()> {
        for_each_tick(client, span, |bucket, tick| self.add_tick(bucket, tick, wanted))?;
        self.close(wanted)
    }

    fn add_tick(&mut self, bucket: i64, tick: &CanonicalTick<'_>, wanted: &dyn Fn(&SliceKey) -> bool) -> Result<()> {
        let same = |(key, _): &(SliceKey, TickSums)| key.0 == bucket && key.1.as_bytes() == tick.symbol;
        if !self.last.as_ref().is_some_and(same) {
            self.close(wanted)?;
            self.last = Some((key(bucket, tick), TickSums::default()));
        }
        if let Some((_, sums)) = &mut self.last {
            sums.add(tick, tick.digest(&mut self.buffer));
        }
        Ok(())
    }

    fn close(&mut self, wanted: &dyn Fn(&SliceKey) -> bool) -> Result<()> {
        if let Some((key, sums)) = self.last.take().filter(|(key, _)| wanted(key)) {
            self.slices.entry(key).or_default().absorb(&sums);
        }
        must_fit(self.slices.len(), self.memory)
    }

    /// Returns the sums per slice.
    pub fn into_slices(self) -> BTreeMap<SliceKey, TickSums> {
        self.slices
    }
}
