//! The ticks of one symbol, as the functions of this folder read them.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::SpiClient;

use crate::error::{Error, Result};
use crate::model::tick::{PRICE_SCALE, QUANTITY_SCALE};
use crate::pg::session::ffi::{self, Column, Row, Value};
use crate::pg::session::spi;
use crate::tuple::numeric::units;

/// The longest numeric that is kept: a price or a quantity has 14 bytes at most.
const LONGEST: usize = 32;

/// A numeric as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    bytes: [u8; LONGEST],
    len: u8,
}

impl Stored {
    fn of(row: &Row<'_>, column: usize) -> Option<Self> {
        let stored = row.bytes(column)?;
        let mut bytes = [0; LONGEST];
        bytes.get_mut(..stored.len())?.copy_from_slice(stored);
        Some(Stored { bytes, len: stored.len() as u8 })
    }

    /// Returns the value for a result.
    pub fn value(&self) -> Value<'_> {
        Value::Numeric(&self.bytes[..self.len as usize])
    }

    /// Returns the price in units of 10^-8, unless it is no number.
    pub fn price_units(&self) -> Option<i128> {
        units(&self.bytes[..self.len as usize], PRICE_SCALE)
    }

    /// Returns the quantity in units of 10^-12, unless it is no number.
    pub fn quantity_units(&self) -> Option<i128> {
        units(&self.bytes[..self.len as usize], QUANTITY_SCALE)
    }
}

/// A stored tick.
#[derive(Debug, Clone, Copy)]
pub struct Tick {
    /// Microseconds since 2000.
    pub time: i64,
    pub id: i64,
    pub price: Option<Stored>,
    pub quantity: Option<Stored>,
    pub is_market_maker: Option<bool>,
}

impl Tick {
    fn of(row: &Row<'_>) -> Result<Self> {
        let key = row.int8(0).zip(row.int8(1));
        let (time, id) = key.ok_or_else(|| Error::Internal { why: "a stored tick has no key".into() })?;
        let (price, quantity) = (Stored::of(row, 2), Stored::of(row, 3));
        Ok(Tick { time, id, price, quantity, is_market_maker: row.bool(4) })
    }
}

/// The columns of the statements over ticks.
const COLUMNS: [Column; 5] = [Column::Time, Column::Int8, Column::Numeric, Column::Numeric, Column::Bool];

/// Converts microseconds since 2000 to PostgreSQL's type; what lies beyond its range becomes infinite.
pub fn timestamp(us: i64) -> TimestampWithTimeZone {
    TimestampWithTimeZone::try_from(us).unwrap_or_else(|_| match us < 0 {
        true => TimestampWithTimeZone::negative_infinity(),
        false => TimestampWithTimeZone::positive_infinity(),
    })
}

/// Passes each tick from a time on and before another one to `each`, in the order of time and id.
pub fn ticks(
    client: &SpiClient<'_>,
    symbol: &str,
    from: i64,
    end: i64,
    mut each: impl FnMut(&Tick) -> Result<()>,
) -> Result<()> {
    let args = [symbol.to_owned().into(), timestamp(from).into(), timestamp(end).into()];
    ffi::for_each_row(client, statement!("series_ticks"), &COLUMNS, &args, |row| each(&Tick::of(row)?))
}

/// Passes each tick with a price from a time on and before another one to `each`, in the order of time.
pub fn priced(
    client: &SpiClient<'_>,
    symbol: &str,
    from: i64,
    end: i64,
    mut each: impl FnMut(&Tick) -> Result<()>,
) -> Result<()> {
    let args = [symbol.to_owned().into(), timestamp(from).into(), timestamp(end).into()];
    ffi::for_each_row(client, statement!("series_prices"), &COLUMNS, &args, |row| each(&Tick::of(row)?))
}

/// Returns the last tick with a price at or before a time, and not before another one.
pub fn last_before(client: &SpiClient<'_>, symbol: &str, time: i64, earliest: i64) -> Result<Option<Tick>> {
    const HOUR: i64 = 3_600_000_000;
    let mut found = None;
    // The plan of a short range has few chunks. Most times have a trade shortly before.
    for reach in [Some(HOUR), Some(7 * 24 * HOUR), None] {
        let from = reach.map_or(earliest, |reach| time.saturating_sub(reach).max(earliest));
        let args = [symbol.to_owned().into(), timestamp(from).into(), timestamp(time).into()];
        ffi::for_each_row(client, statement!("series_before"), &COLUMNS, &args, |row| {
            found = Some(Tick::of(row)?);
            Ok(())
        })?;
        if found.is_some() || from == earliest {
            break;
        }
    }
    Ok(found)
}

/// Returns whether a tick is stored at or after a time.
pub fn reaches(client: &SpiClient<'_>, symbol: &str, time: i64) -> Result<bool> {
    let sql = "SELECT (EXISTS (SELECT FROM market_data.btc_ticks t
                        WHERE t.symbol = $1 AND t.event_time >= $2
                          AND t.bucket_5m >= date_bin('5 minutes', $2, '1970-01-01 00:00:00+00')))::text";
    spi::fetch_in_snapshot(client, sql, &[symbol.to_owned().into(), timestamp(time).into()])
}

/// Refuses a symbol of which no tick is stored.
pub fn must_be_known(client: &SpiClient<'_>, symbol: &str) -> Result<()> {
    let sql = "SELECT (EXISTS (SELECT FROM market_data.btc_ticks t WHERE t.symbol = $1))::text";
    match spi::fetch_in_snapshot(client, sql, &[symbol.to_owned().into()])? {
        true => Ok(()),
        false => Err(Error::UnknownSymbol { symbol: symbol.to_owned() }),
    }
}
