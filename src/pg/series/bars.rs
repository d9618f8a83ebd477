//! Bars of a fixed number of trades, volume or value.

use pgrx::Spi;

use super::read::{must_be_known, ticks};
use crate::error::{Error, Result};
use crate::model::bars::{AMOUNT_SCALE, Bar, BarKind, Bars, Trade};
use crate::model::tick::{PRICE_SCALE, QUANTITY_SCALE};
use crate::pg::session::ffi::{ResultRows, Value};
use crate::tuple::numeric::{decimal, parse_units};

/// What is asked for.
pub struct Question<'a> {
    pub symbol: &'a str,
    /// First event time and end (exclusive), microseconds since 2000.
    pub range: (i64, i64),
    pub kind: BarKind,
    /// The size as a decimal number.
    pub size: &'a str,
    /// At the first event time, only trades with a higher id.
    pub after: Option<i64>,
}

/// Adds a row for each bar.
pub fn bars(question: &Question<'_>, rows: &mut ResultRows) -> Result<()> {
    let Question { symbol, range: (from, end), kind, size, after } = *question;
    let size = parse_units(size, kind.scale()).ok_or_else(|| Error::InvalidArgument {
        what: format!("size must be a number with at most {} decimal places for this kind, not {size}", kind.scale()),
    })?;
    let mut bars = Bars::new(kind, size)?;
    Spi::connect(|client| {
        let mut found = false;
        ticks(client, symbol, from, end, |tick| {
            found = true;
            if tick.time == from && after.is_some_and(|after| tick.id <= after) {
                return Ok(());
            }
            let trade = Trade {
                time: tick.time,
                id: tick.id,
                price: tick.price.and_then(|price| price.price_units()),
                quantity: tick.quantity.and_then(|quantity| quantity.quantity_units()),
                taker_buys: tick.is_market_maker == Some(false),
            };
            if let Some(bar) = bars.add(&trade)? {
                put(rows, &bar, true);
            }
            Ok(())
        })?;
        if found { Ok(()) } else { must_be_known(client, symbol) }
    })?;
    if let Some(bar) = bars.rest() {
        put(rows, &bar, false);
    }
    Ok(())
}

fn put(rows: &mut ResultRows, bar: &Bar, complete: bool) {
    let prices = bar.prices.map(|prices| prices.map(|price| decimal(price, PRICE_SCALE)));
    let price = |index: usize| prices.as_ref().map_or(Value::Null, |prices| Value::Numeric(prices[index].as_bytes()));
    let (volume, taker_volume) = (decimal(bar.volume, QUANTITY_SCALE), decimal(bar.taker_buy_volume, QUANTITY_SCALE));
    let (value, taker_value) = (decimal(bar.value, AMOUNT_SCALE), decimal(bar.taker_buy_value, AMOUNT_SCALE));
    rows.put(&[
        Value::Int8(bar.first.0),
        Value::Int8(bar.last.0),
        price(0),
        price(1),
        price(2),
        price(3),
        Value::Numeric(volume.as_bytes()),
        Value::Numeric(value.as_bytes()),
        Value::Int8(bar.trades),
        Value::Numeric(taker_volume.as_bytes()),
        Value::Numeric(taker_value.as_bytes()),
        Value::Int8(bar.first.1),
        Value::Int8(bar.last.1),
        Value::Bool(complete),
    ]);
}
