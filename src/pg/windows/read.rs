//! The stored ticks of one asset as trades, slice by slice.

use pgrx::spi::SpiClient;

use crate::error::{Error, Result};
use crate::model::bucket::{BUCKET_US, POSTGRES_EPOCH_US};
use crate::model::tick::{PRICE_SCALE, QUANTITY_SCALE};
use crate::model::window::Trade;
use crate::pg::session::ffi::{self, Column, Row};
use crate::pg::session::time::timestamp;
use crate::tuple::numeric::units;

/// The columns of `windows_ticks.sql`.
const COLUMNS: [Column; 5] = [Column::Time, Column::Time, Column::Numeric, Column::Numeric, Column::Bool];

/// Passes each stored trade of an asset's buckets to `each`, with its bucket, in the order of bucket, event time and
/// trade id. Times are in microseconds since 1970; `to` is exclusive. What this transaction has stored is there as
/// well.
pub fn trades(
    client: &SpiClient<'_>,
    asset: &str,
    (from, to): (i64, i64),
    mut each: impl FnMut(i64, &Trade) -> Result<()>,
) -> Result<()> {
    let args = [asset.to_owned().into(), timestamp(from)?.into(), timestamp(to)?.into()];
    ffi::for_each_row_now(client, statement!("windows_ticks"), &COLUMNS, &args, |row| {
        let (bucket, trade) = trade(row).ok_or_else(|| Error::Internal { why: "a stored tick has no key".into() })?;
        each(bucket, &trade)
    })
}

#[inline]
fn trade(row: &Row<'_>) -> Option<(i64, Trade)> {
    let time = |column| row.int8(column).map(|time| time.saturating_add(POSTGRES_EPOCH_US));
    let number = |column, scale: u32| {
        let units = row.bytes(column).and_then(|bytes| units(bytes, scale))?;
        Some(units as f64 / 10_f64.powi(scale as i32))
    };
    let bucket = time(0)?;
    let trade = Trade {
        offset_us: time(1)?.saturating_sub(bucket).clamp(0, BUCKET_US - 1),
        price: number(2, PRICE_SCALE).unwrap_or(0.0),
        quantity: number(3, QUANTITY_SCALE).unwrap_or(0.0),
        taker_buys: row.bool(4).map(|maker| !maker),
    };
    Some((bucket, trade))
}
