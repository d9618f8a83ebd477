//! Generated trades: the same for the same seed, with what real ones have — ids without holes, bursts of hundreds
//! within one millisecond, heavy-tailed quantities, an event time that trails the trade time and may fall into the
//! next bucket.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::DateTime;

/// Five minutes, in microseconds.
pub const BUCKET_US: i64 = 300_000_000;
/// Units of a price per 1.
pub const PRICE_UNIT: i64 = 100_000_000;
/// Units of a quantity per 1.
pub const QUANTITY_UNIT: i128 = 1_000_000_000_000;
/// The smallest price step, 0.01.
const PRICE_STEP: i64 = PRICE_UNIT / 100;
/// The smallest quantity step, 0.00001.
const QUANTITY_STEP: i128 = QUANTITY_UNIT / 100_000;
/// The most trades that real data hold in one millisecond.
const LARGEST_BURST: f64 = 735.0;
/// The mean of the burst sizes below.
const MEAN_BURST: f64 = 1.9;

/// One trade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// Microseconds since 1970, UTC.
    pub event_time_us: i64,
    /// Microseconds since 1970, UTC.
    pub trade_time_us: Option<i64>,
    /// For example `BTCUSDT`.
    pub symbol: Arc<str>,
    /// The exchange's number of the trade.
    pub trade_id: i64,
    /// In units of 10^-8.
    pub price: i64,
    /// In units of 10^-12.
    pub quantity: i128,
    /// The buyer's order.
    pub buyer_order_id: Option<i64>,
    /// The seller's order.
    pub seller_order_id: Option<i64>,
    /// Whether the buyer was the maker.
    pub is_market_maker: bool,
}

impl Tick {
    /// Returns the start of the tick's bucket, in microseconds since 1970.
    pub fn bucket_us(&self) -> i64 {
        bucket_of(self.event_time_us)
    }
}

/// Returns the start of the bucket of a time.
pub fn bucket_of(time_us: i64) -> i64 {
    time_us.div_euclid(BUCKET_US) * BUCKET_US
}

/// Returns a time such as `2024-08-08T12:00:00Z` in microseconds since 1970.
pub fn time_us(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap_or_else(|e| panic!("{text}: {e}")).timestamp_micros()
}

/// Formats a time in UTC, in a format of strftime.
pub fn time_text(time_us: i64, format: &str) -> String {
    DateTime::from_timestamp_micros(time_us).expect("a time within chrono's years").format(format).to_string()
}

/// Returns the usual key of a slice: `PREFIX/SYMBOL/2024/08/08/SYMBOL_20240808T1200Z.parquet`.
pub fn slice_key(prefix: &str, symbol: &str, bucket_us: i64) -> String {
    let (day, minute) = (time_text(bucket_us, "%Y/%m/%d"), time_text(bucket_us, "%Y%m%dT%H%MZ"));
    format!("{prefix}/{symbol}/{day}/{symbol}_{minute}.parquet")
}

/// An endless sequence of trades of one symbol, in the order of id and of event time.
#[derive(Debug, Clone)]
pub struct Generator {
    random: Random,
    symbol: Arc<str>,
    per_second: f64,
    /// The time of the next burst, before its delay.
    clock_us: f64,
    event_time_us: i64,
    next_bucket_us: i64,
    trade_id: i64,
    order_id: i64,
    price: i64,
    pending: VecDeque<Tick>,
}

impl Generator {
    /// Makes a generator. The first trade comes at or shortly after `start_time_us`.
    pub fn new(seed: u64, symbol: &str, start_time_us: i64, first_trade_id: i64) -> Self {
        Self {
            random: Random(seed),
            symbol: symbol.into(),
            per_second: 33.0,
            clock_us: start_time_us as f64,
            event_time_us: start_time_us,
            next_bucket_us: bucket_of(start_time_us),
            trade_id: first_trade_id,
            order_id: first_trade_id.saturating_mul(7),
            price: 60_000 * PRICE_UNIT,
            pending: VecDeque::new(),
        }
    }

    /// Sets the approximate number of trades per second. The default is 33, which makes ten thousand per slice.
    pub fn per_second(mut self, rate: f64) -> Self {
        self.per_second = rate;
        self
    }

    /// Sets the first price, in whole units of the quote currency. The default is 60,000.
    pub fn starting_at(mut self, price: i64) -> Self {
        self.price = price * PRICE_UNIT;
        self
    }

    /// Returns the bucket that [`Generator::next_slice`] fills next.
    pub fn next_bucket_us(&self) -> i64 {
        self.next_bucket_us
    }

    /// Generates all trades of the next bucket.
    pub fn next_slice(&mut self) -> Vec<Tick> {
        let end = self.next_bucket_us + BUCKET_US;
        self.next_bucket_us = end;
        let mut slice = Vec::new();
        loop {
            while let Some(tick) = self.pending.pop_front_if(|tick| tick.event_time_us < end) {
                slice.push(tick);
            }
            if !self.pending.is_empty() {
                return slice;
            }
            self.burst();
        }
    }

    /// Generates all trades of the next `buckets` buckets.
    pub fn next_slices(&mut self, buckets: usize) -> Vec<Tick> {
        (0..buckets).flat_map(|_| self.next_slice()).collect()
    }

    /// Generates all trades of the next 288 buckets.
    pub fn day(&mut self) -> Vec<Tick> {
        self.next_slices(288)
    }

    /// Generates the trades of one taker's order with all the makers that it meets, at one moment.
    fn burst(&mut self) {
        let gap = -self.random.fraction().ln() * MEAN_BURST / self.per_second * 1e6;
        self.clock_us += gap;
        // Exchanges stamp whole milliseconds.
        let trade_time_us = (self.clock_us as i64).div_euclid(1000) * 1000;
        let delay_us = 1000 * self.random.below(4) as i64;
        self.event_time_us = self.event_time_us.max(trade_time_us + delay_us);
        let size = if self.random.fraction() < 0.6 { 1.0 } else { self.random.pareto(1.3).min(LARGEST_BURST) };
        let is_market_maker = self.random.below(2) == 0;
        // A taker that buys raises the price, a taker that sells lowers it.
        let direction = if is_market_maker { -PRICE_STEP } else { PRICE_STEP };
        self.order_id += 1 + self.random.below(5) as i64;
        let taker = self.order_id;
        for _ in 0..size as usize {
            if self.random.below(4) == 0 {
                // The price never reaches zero.
                let steps = 1 + self.random.below(3) as i64;
                self.price = (self.price + direction * steps).max(100 * PRICE_STEP);
            }
            let maker = taker - 1 - self.random.below(5000) as i64;
            let (buyer, seller) = if is_market_maker { (maker, taker) } else { (taker, maker) };
            let steps = (20.0 * self.random.pareto(1.1)).min(5e6) as i128;
            self.pending.push_back(Tick {
                event_time_us: self.event_time_us,
                trade_time_us: Some(trade_time_us),
                symbol: self.symbol.clone(),
                trade_id: self.trade_id,
                price: self.price,
                quantity: steps * QUANTITY_STEP,
                buyer_order_id: Some(buyer),
                seller_order_id: Some(seller),
                is_market_maker,
            });
            self.trade_id += 1;
        }
    }
}

impl Iterator for Generator {
    type Item = Tick;

    fn next(&mut self) -> Option<Tick> {
        while self.pending.is_empty() {
            self.burst();
        }
        self.pending.pop_front()
    }
}

/// SplitMix64: enough for trades, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Random(
    /// The seed, then the state.
    pub u64,
);

impl Random {
    /// Returns 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to `end` − 1; the bias of the remainder does not matter here.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// Returns a number that is more than 0 and at most 1.
    pub fn fraction(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a number that is at least 1, with a heavy tail: the heavier, the smaller `alpha`.
    pub fn pareto(&mut self, alpha: f64) -> f64 {
        self.fraction().powf(-1.0 / alpha)
    }
}

/// The exact sums of a table after loads of ticks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// The number of ticks.
    pub rows: u64,
    /// The smallest trade id.
    pub first_id: Option<i64>,
    /// The largest trade id.
    pub last_id: Option<i64>,
    /// Σ price · quantity in units of 10^-20.
    pub amount: i128,
}

impl Sums {
    /// Returns the sums of these ticks.
    pub fn of<'a>(ticks: impl IntoIterator<Item = &'a Tick>) -> Self {
        let mut sums = Self::default();
        for tick in ticks {
            sums.add(tick);
        }
        sums
    }

    /// Adds one more tick.
    pub fn add(&mut self, tick: &Tick) {
        self.rows += 1;
        self.first_id = Some(self.first_id.map_or(tick.trade_id, |id| id.min(tick.trade_id)));
        self.last_id = Some(self.last_id.map_or(tick.trade_id, |id| id.max(tick.trade_id)));
        let amount = i128::from(tick.price).checked_mul(tick.quantity).and_then(|all| all.checked_add(self.amount));
        self.amount = amount.expect("sums below 10^18");
    }

    /// Formats the amount as PostgreSQL writes `sum(price * quantity)::text`: the scales of both columns add up to 20.
    pub fn amount_text(&self) -> String {
        decimal_text(self.amount, 20, 20)
    }
}

/// Formats `units` of 10^-`scale` with at least `places` decimal places, and no more than it needs beyond.
pub fn decimal_text(units: i128, scale: usize, places: usize) -> String {
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let needed = fraction.trim_end_matches('0').len().max(places.min(scale));
    let sign = if units < 0 { "-" } else { "" };
    let point = if needed > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{}", &fraction[..needed])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator(seed: u64) -> Generator {
        Generator::new(seed, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1000)
    }

    #[test]
    fn the_same_seed_makes_the_same_ticks() {
        assert_eq!(generator(1).next_slices(2), generator(1).next_slices(2));
        assert_ne!(generator(1).next_slice(), generator(2).next_slice());
    }

    #[test]
    fn ids_have_no_holes_and_times_do_not_run_backwards() {
        let ticks = generator(1).next_slices(3);
        for pair in ticks.windows(2) {
            assert_eq!(pair[0].trade_id + 1, pair[1].trade_id);
            assert!(pair[0].event_time_us <= pair[1].event_time_us);
        }
        assert_eq!(ticks[0].trade_id, 1000);
    }

    #[test]
    fn a_slice_holds_about_ten_thousand_ticks_of_its_bucket_alone() {
        let mut generator = generator(1);
        for _ in 0..3 {
            let bucket = generator.next_bucket_us();
            let slice = generator.next_slice();
            assert!((6_000..16_000).contains(&slice.len()), "{}", slice.len());
            assert!(slice.iter().all(|tick| tick.bucket_us() == bucket));
        }
    }

    #[test]
    fn hundreds_of_trades_share_one_millisecond() {
        let ticks = generator(1).next_slices(6);
        let largest = ticks.chunk_by(|a, b| a.trade_time_us == b.trade_time_us).map(<[Tick]>::len).max();
        assert!(largest > Some(200), "{largest:?}");
    }

    #[test]
    fn event_and_trade_time_of_some_trade_lie_in_different_buckets() {
        let ticks = Generator::new(1, "BTCUSDT", 0, 1).next_slices(100);
        assert!(ticks.iter().any(|tick| bucket_of(tick.trade_time_us.unwrap()) != tick.bucket_us()));
    }

    #[test]
    fn decimals_are_written_as_postgresql_writes_them() {
        assert_eq!(decimal_text(123_450_000_000, 8, 8), "1234.50000000");
        assert_eq!(decimal_text(123_456, 12, 8), "0.000000123456");
        assert_eq!(decimal_text(5, 2, 0), "0.05");
        assert_eq!(decimal_text(-500, 2, 0), "-5");
        assert_eq!(decimal_text(7, 0, 0), "7");
    }
}
