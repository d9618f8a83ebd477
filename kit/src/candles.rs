//! Candles computed from ticks without PostgreSQL, to compare those of a database with.

use std::collections::BTreeMap;

use postgres::Client;

use crate::sql::texts;
use crate::ticks::{Tick, decimal_text};

/// A tick's place among those of its candle: time, then trade id.
type Place = (i64, i64);

/// One candle, in the units of [`Tick`].
#[derive(Debug, Clone)]
struct Candle {
    open: (Place, i64),
    close: (Place, i64),
    high: i64,
    low: i64,
    volume: i128,
    value: i128,
    trades: i64,
    taker_volume: i128,
    taker_value: i128,
    ids: (i64, i64),
}

/// By which time a tick belongs to a candle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The event time.
    Event,
    /// The trade time, or the event time of a tick without one.
    Trade,
}

/// Computes candles `width_us` wide, as lines in the order of time and symbol.
pub fn candles<'a>(ticks: impl IntoIterator<Item = &'a Tick>, width_us: i64, by: By) -> Vec<String> {
    let mut all: BTreeMap<(i64, &str), Candle> = BTreeMap::new();
    for tick in ticks {
        let time = match by {
            By::Event => tick.event_time_us,
            By::Trade => tick.trade_time_us.unwrap_or(tick.event_time_us),
        };
        let start = time.div_euclid(width_us) * width_us;
        let one = Candle::of(tick, time);
        all.entry((start, &*tick.symbol)).and_modify(|candle| candle.join(&one)).or_insert(one);
    }
    all.iter().map(|((start, symbol), candle)| candle.line(*start, symbol)).collect()
}

impl Candle {
    fn of(tick: &Tick, time: i64) -> Self {
        let value = i128::from(tick.price) * tick.quantity;
        let taken = |amount: i128| if tick.is_market_maker { 0 } else { amount };
        Candle {
            open: ((time, tick.trade_id), tick.price),
            close: ((time, tick.trade_id), tick.price),
            high: tick.price,
            low: tick.price,
            volume: tick.quantity,
            value,
            trades: 1,
            taker_volume: taken(tick.quantity),
            taker_value: taken(value),
            ids: (tick.trade_id, tick.trade_id),
        }
    }

    fn join(&mut self, other: &Candle) {
        self.open = self.open.min(other.open);
        self.close = self.close.max(other.close);
        self.high = self.high.max(other.high);
        self.low = self.low.min(other.low);
        self.volume += other.volume;
        self.value += other.value;
        self.trades += other.trades;
        self.taker_volume += other.taker_volume;
        self.taker_value += other.taker_value;
        self.ids = (self.ids.0.min(other.ids.0), self.ids.1.max(other.ids.1));
    }

    fn line(&self, start: i64, symbol: &str) -> String {
        let price = |units: i64| decimal_text(units.into(), 8, 8);
        let volume = |units: i128| decimal_text(units, 12, 12);
        let value = |units: i128| decimal_text(units, 20, 20);
        format!(
            "{start} in {} {symbol}: {} {} {} {}, {} for {} in {}, taken {} for {}, at {}, ids {} to {}",
            start.div_euclid(crate::ticks::BUCKET_US) * crate::ticks::BUCKET_US,
            price(self.open.1),
            price(self.high),
            price(self.low),
            price(self.close.1),
            volume(self.volume),
            value(self.value),
            self.trades,
            plain(&volume(self.taker_volume)),
            plain(&value(self.taker_value)),
            value(self.vwap()),
            self.ids.0,
            self.ids.1,
        )
    }

    /// Returns value / volume in units of 10^-20, rounded to the nearest as PostgreSQL rounds a quotient with so many
    /// places.
    fn vwap(&self) -> i128 {
        const UNIT: i128 = 1_000_000_000_000;
        let (whole, rest) = (self.value / self.volume, self.value % self.volume);
        whole * UNIT + (2 * rest * UNIT + self.volume) / (2 * self.volume)
    }
}

/// Returns a number without zeros at its end, because PostgreSQL writes the sum of no row without decimal places.
fn plain(number: &str) -> String {
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Returns the stored candles of a relation as [`candles`] writes them.
#[track_caller]
pub fn stored_candles(client: &mut Client, relation: &str) -> Vec<String> {
    let us = |column: &str| format!("(extract(epoch FROM {column}) * 1000000)::bigint");
    texts(
        client,
        &format!(
            "SELECT format('%s in %s %s: %s %s %s %s, %s for %s in %s, taken %s for %s, at %s, ids %s to %s',
                           {}, {}, symbol, open, high, low, close, volume, quote_volume, trades,
                           trim_scale(taker_buy_volume), trim_scale(taker_buy_quote_volume), vwap,
                           first_trade_id, last_trade_id)
               FROM {relation} ORDER BY bucket, symbol COLLATE \"C\"",
            us("bucket"),
            us("bucket_5m")
        ),
    )
}

/// Checks that a relation holds exactly the candles of these ticks.
#[track_caller]
pub fn must_hold_candles<'a>(
    client: &mut Client,
    relation: &str,
    ticks: impl IntoIterator<Item = &'a Tick>,
    width_us: i64,
    by: By,
) {
    let (found, wanted) = (stored_candles(client, relation), candles(ticks, width_us, by));
    if found != wanted {
        let differing: Vec<_> = wanted.iter().zip(&found).filter(|(wanted, found)| wanted != found).take(3).collect();
        panic!("{relation}: {} candles wanted, {} found; these differ: {differing:#?}", wanted.len(), found.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{but, ticks};

    #[test]
    fn a_candle_is_worked_out_by_hand() {
        let mut two = ticks(1, 2);
        two[0] = but(&two[0], |tick| (tick.price, tick.quantity) = (300_000_000, 2_000_000_000_000));
        two[1] = but(&two[1], |tick| (tick.price, tick.quantity) = (100_000_000, 1_000_000_000_000));
        assert!(two[0].is_market_maker && !two[1].is_market_maker);
        let start = two[0].event_time_us - 1;
        let line = format!(
            "{start} in {start} BTCUSDT: 3.00000000 3.00000000 1.00000000 1.00000000, 3.000000000000 for \
             7.00000000000000000000 in 2, taken 1 for 1, at 2.33333333333333333333, ids 1 to 2"
        );
        assert_eq!(candles(&two, 60_000_000, By::Event), [line]);
        assert_eq!(candles(&two, 100_000, By::Event).len(), 2);
    }

    #[test]
    fn ties_go_by_trade_id_in_any_order() {
        let mut three = ticks(1, 3);
        three.iter_mut().for_each(|tick| tick.event_time_us = 0);
        let forward = candles(&three, 100_000, By::Event);
        three.reverse();
        assert_eq!(candles(&three, 100_000, By::Event), forward);
        assert!(forward[0].contains(": 60000.00000000 60002.00000002 60000.00000000 60002.00000002,"), "{forward:?}");
    }
}
