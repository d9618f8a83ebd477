//! Bars of a fixed number of trades, volume or value. A trade is never split: it closes the bar whose size it reaches.

use crate::error::{Error, Result};
use crate::model::tick::{PRICE_SCALE, QUANTITY_SCALE};

/// Decimal places of a price times a quantity.
pub const AMOUNT_SCALE: u32 = PRICE_SCALE + QUANTITY_SCALE;

/// What a bar has a fixed amount of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// Trades.
    Tick,
    /// Quantity in the base asset.
    Volume,
    /// Price times quantity, in the quote asset.
    Value,
}

impl BarKind {
    /// Returns the decimal places of a size.
    pub fn scale(self) -> u32 {
        match self {
            BarKind::Tick => 0,
            BarKind::Volume => QUANTITY_SCALE,
            BarKind::Value => AMOUNT_SCALE,
        }
    }
}

impl std::str::FromStr for BarKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tick" => Ok(BarKind::Tick),
            "volume" => Ok(BarKind::Volume),
            "value" => Ok(BarKind::Value),
            _ => Err(Error::InvalidArgument { what: format!("kind must be tick, volume or value, not \"{text}\"") }),
        }
    }
}

/// One trade. A stored tick may have nulls: without a price it is no open, high, low or close and has no value, without
/// a quantity it has neither volume nor value.
#[derive(Debug, Clone, Copy)]
pub struct Trade {
    /// Any number that grows with time.
    pub time: i64,
    /// The exchange's number of the trade.
    pub id: i64,
    /// Units of 10^-8.
    pub price: Option<i128>,
    /// Units of 10^-12.
    pub quantity: Option<i128>,
    /// Whether the taker bought.
    pub taker_buys: bool,
}

/// One bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Time and id of the first trade.
    pub first: (i64, i64),
    /// Time and id of the last trade.
    pub last: (i64, i64),
    /// Open, high, low and close, units of 10^-8. `None` if no trade has a price.
    pub prices: Option<[i128; 4]>,
    /// Units of 10^-12.
    pub volume: i128,
    /// Units of 10^-20.
    pub value: i128,
    /// Units of 10^-12.
    pub taker_buy_volume: i128,
    /// Units of 10^-20.
    pub taker_buy_value: i128,
    /// The number of trades.
    pub trades: i64,
}

/// Makes bars of trades that come in the order of time and id.
#[derive(Debug)]
pub struct Bars {
    kind: BarKind,
    size: i128,
    open: Option<Bar>,
}

impl Bars {
    /// `size` is in units of the kind's scale.
    pub fn new(kind: BarKind, size: i128) -> Result<Self> {
        if size <= 0 {
            return Err(Error::InvalidArgument { what: "size must be greater than 0".into() });
        }
        Ok(Bars { kind, size, open: None })
    }

    /// Adds the next trade. Returns the bar that it closes.
    pub fn add(&mut self, trade: &Trade) -> Result<Option<Bar>> {
        let mut bar = self.open.take().unwrap_or_else(|| Bar::begin(trade));
        bar.add(trade).ok_or_else(|| Error::InvalidArgument {
            what: format!("the values of trade {} are too large for a bar", trade.id),
        })?;
        let reached = match self.kind {
            BarKind::Tick => i128::from(bar.trades),
            BarKind::Volume => bar.volume,
            BarKind::Value => bar.value,
        };
        if reached >= self.size {
            return Ok(Some(bar));
        }
        self.open = Some(bar);
        Ok(None)
    }

    /// Returns the bar that is not full, if it has a trade.
    pub fn rest(self) -> Option<Bar> {
        self.open
    }
}

impl Bar {
    fn begin(trade: &Trade) -> Bar {
        let place = (trade.time, trade.id);
        Bar {
            first: place,
            last: place,
            prices: None,
            volume: 0,
            value: 0,
            taker_buy_volume: 0,
            taker_buy_value: 0,
            trades: 0,
        }
    }

    fn add(&mut self, trade: &Trade) -> Option<()> {
        let quantity = trade.quantity.unwrap_or(0);
        let value = quantity.checked_mul(trade.price.unwrap_or(0))?;
        self.last = (trade.time, trade.id);
        self.trades += 1;
        self.volume = self.volume.checked_add(quantity)?;
        self.value = self.value.checked_add(value)?;
        if trade.taker_buys {
            self.taker_buy_volume = self.taker_buy_volume.checked_add(quantity)?;
            self.taker_buy_value = self.taker_buy_value.checked_add(value)?;
        }
        if let Some(price) = trade.price {
            let [open, high, low, _] = self.prices.unwrap_or([price; 4]);
            self.prices = Some([open, high.max(price), low.min(price), price]);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: i128 = 100_000_000;
    const QUANTITY: i128 = 1_000_000_000_000;

    fn trade(id: i64, price: i128, quantity: i128) -> Trade {
        let (price, quantity) = (Some(price * PRICE), Some(quantity * QUANTITY));
        Trade { time: 10 * id, id, price, quantity, taker_buys: id % 2 == 0 }
    }

    fn bars(kind: BarKind, size: i128, trades: &[Trade]) -> (Vec<Bar>, Option<Bar>) {
        let mut bars = Bars::new(kind, size).unwrap();
        let full = trades.iter().filter_map(|trade| bars.add(trade).unwrap()).collect();
        (full, bars.rest())
    }

    #[test]
    fn a_bar_of_trades_holds_its_sums_and_prices() {
        let trades = [trade(1, 5, 2), trade(2, 7, 1), trade(3, 4, 10), trade(4, 6, 1)];
        let (full, rest) = bars(BarKind::Tick, 3, &trades);
        assert_eq!(
            full,
            [Bar {
                first: (10, 1),
                last: (30, 3),
                prices: Some([5 * PRICE, 7 * PRICE, 4 * PRICE, 4 * PRICE]),
                volume: 13 * QUANTITY,
                value: 57 * PRICE * QUANTITY,
                taker_buy_volume: QUANTITY,
                taker_buy_value: 7 * PRICE * QUANTITY,
                trades: 3,
            }]
        );
        assert_eq!(rest.map(|bar| (bar.first, bar.trades)), Some(((40, 4), 1)));
    }

    #[test]
    fn a_trade_is_not_split_and_closes_the_bar_whose_size_it_reaches() {
        let trades = [trade(1, 1, 4), trade(2, 1, 9), trade(3, 1, 10), trade(4, 1, 1)];
        let (full, rest) = bars(BarKind::Volume, 10 * QUANTITY, &trades);
        assert_eq!(full.iter().map(|bar| bar.volume / QUANTITY).collect::<Vec<_>>(), [13, 10]);
        assert_eq!(rest.map(|bar| bar.volume / QUANTITY), Some(1));
        let (full, _) = bars(BarKind::Value, 10 * PRICE * QUANTITY, &trades);
        assert_eq!(full.iter().map(|bar| bar.last.1).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn bars_that_are_continued_are_those_of_one_pass() {
        let trades: Vec<Trade> =
            (1..200).map(|id| trade(id, 5 + i128::from(id) % 7, 1 + i128::from(id * id) % 5)).collect();
        for (kind, size) in
            [(BarKind::Tick, 7), (BarKind::Volume, 9 * QUANTITY), (BarKind::Value, 50 * PRICE * QUANTITY)]
        {
            let (whole, _) = bars(kind, size, &trades);
            assert!(whole.len() > 10);
            for (index, bar) in whole.iter().enumerate() {
                let next: Vec<Trade> = trades.iter().filter(|trade| trade.id > bar.last.1).copied().collect();
                assert_eq!(bars(kind, size, &next).0, whole[index + 1..]);
            }
        }
    }

    #[test]
    fn a_trade_without_price_or_quantity_counts_as_one_trade() {
        let mut trades = [trade(1, 5, 2), trade(2, 7, 1), trade(3, 4, 10)];
        (trades[0].price, trades[1].quantity) = (None, None);
        let (full, _) = bars(BarKind::Tick, 3, &trades);
        assert_eq!(full[0].prices, Some([7 * PRICE, 7 * PRICE, 4 * PRICE, 4 * PRICE]));
        assert_eq!((full[0].volume, full[0].value), (12 * QUANTITY, 40 * PRICE * QUANTITY));
    }

    #[test]
    fn a_size_that_is_not_positive_and_values_that_do_not_fit_are_refused() {
        assert!(Bars::new(BarKind::Tick, 0).is_err());
        assert!(Bars::new(BarKind::Volume, -1).is_err());
        let huge = Trade { time: 1, id: 1, price: Some(i128::MAX), quantity: Some(2), taker_buys: true };
        assert!(Bars::new(BarKind::Tick, 5).unwrap().add(&huge).is_err());
        assert_eq!("volume".parse(), Ok(BarKind::Volume));
        assert!("dollar".parse::<BarKind>().is_err());
    }
}
