//! What is kept of the trades of a slice: sums on a grid of time, and sums over consecutive trades.

use super::histogram::LogHistogram;
use super::trade::Trade;
use crate::model::bucket::BUCKET_US;

/// Cells of the grid. A power of two, so that it has dyadic parts.
pub const CELLS: usize = 256;
/// Microseconds of a cell.
pub const CELL_US: i64 = BUCKET_US / CELLS as i64;
/// Distances in trades at which signs are compared.
pub const SIGN_LAGS: [usize; 4] = [1, 2, 5, 10];
/// The greatest of them.
const FARTHEST: usize = 10;

/// The sums of a slice. Their size does not depend on the number of trades.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Logarithm of the last price in each cell in which a trade was; relative to the first price.
    closes: [f64; CELLS],
    /// Trades in each cell.
    pub counts: [f64; CELLS],
    /// Quantity in each cell.
    pub volumes: [f64; CELLS],
    /// Quantity bought by takers less quantity sold by them, in each cell.
    pub flows: [f64; CELLS],
    /// Trades with a price.
    pub trades: u64,
    /// Trades whose taker bought, less those whose taker sold.
    pub buys_less_sells: f64,
    /// Trades for which the file says whether the taker bought.
    pub sides_known: u64,
    /// Sum of quantity.
    pub volume: f64,
    /// Sum of quantity with the sign of the trade.
    pub flow: f64,
    /// Sum of quantity times logarithm of the price.
    pub weighted: f64,
    /// Sum of squared changes of the price from trade to trade.
    pub change_squares: f64,
    /// Sum of products of consecutive changes.
    pub change_products: f64,
    /// For each of [`SIGN_LAGS`], the sum of products of two signs.
    pub sign_products: [f64; SIGN_LAGS.len()],
    /// Quantities above 0.
    pub sizes: LogHistogram,
    /// Microseconds between consecutive trades that have not one time.
    pub gaps: LogHistogram,
    /// Pairs of consecutive trades that have one time.
    pub same_times: u64,
    /// Offset of the first trade in microseconds.
    pub first_us: i64,
    /// Offset of the last trade in microseconds.
    pub last_us: i64,
    /// Highest logarithm of the price.
    pub highest: f64,
    /// Lowest logarithm of the price.
    pub lowest: f64,
    /// Longest way down between two trades.
    pub drawdown: f64,
    /// Longest way up between two trades.
    pub runup: f64,
    first_log: f64,
    last: f64,
    change: f64,
    sign: f64,
    signs: [f64; FARTHEST],
}

impl Default for Grid {
    fn default() -> Self {
        Grid {
            closes: [f64::NAN; CELLS],
            counts: [0.0; CELLS],
            volumes: [0.0; CELLS],
            flows: [0.0; CELLS],
            trades: 0,
            buys_less_sells: 0.0,
            sides_known: 0,
            volume: 0.0,
            flow: 0.0,
            weighted: 0.0,
            change_squares: 0.0,
            change_products: 0.0,
            sign_products: [0.0; SIGN_LAGS.len()],
            sizes: LogHistogram::default(),
            gaps: LogHistogram::default(),
            same_times: 0,
            first_us: 0,
            last_us: 0,
            highest: 0.0,
            lowest: 0.0,
            drawdown: 0.0,
            runup: 0.0,
            first_log: 0.0,
            last: 0.0,
            change: 0.0,
            sign: 0.0,
            signs: [0.0; FARTHEST],
        }
    }
}

impl Grid {
    /// Adds a trade, which is not before the last one.
    pub fn add(&mut self, trade: &Trade) {
        if !(trade.price > 0.0 && trade.price.is_finite()) {
            return;
        }
        let quantity = if trade.quantity > 0.0 && trade.quantity.is_finite() { trade.quantity } else { 0.0 };
        let offset = trade.offset_us.clamp(0, BUCKET_US - 1);
        if self.trades == 0 {
            (self.first_us, self.first_log) = (offset, trade.price.ln());
        } else {
            self.add_gap(offset - self.last_us);
        }
        let log = trade.price.ln() - self.first_log;
        self.add_price(log);
        self.add_side(trade.taker_buys, quantity);
        let cell = (offset / CELL_US) as usize;
        self.closes[cell] = log;
        self.counts[cell] += 1.0;
        self.volumes[cell] += quantity;
        self.flows[cell] += self.sign * quantity;
        self.volume += quantity;
        self.weighted += quantity * log;
        if quantity > 0.0 {
            self.sizes.add(quantity);
        }
        self.last_us = offset;
        self.trades += 1;
    }

    fn add_gap(&mut self, gap: i64) {
        if gap > 0 { self.gaps.add(gap as f64) } else { self.same_times += 1 }
    }

    fn add_price(&mut self, log: f64) {
        let change = log - self.last;
        self.change_squares += change * change;
        self.change_products += change * self.change;
        self.highest = self.highest.max(log);
        self.lowest = self.lowest.min(log);
        self.drawdown = self.drawdown.max(self.highest - log);
        self.runup = self.runup.max(log - self.lowest);
        (self.change, self.last) = (change, log);
    }

    /// Adds the sign of a trade: 1 if the taker bought, -1 if it sold. Where the file does not say it, a trade at a
    /// higher price than the last one was bought, one at a lower price sold, and one at the same price as the last one.
    fn add_side(&mut self, taker_buys: Option<bool>, quantity: f64) {
        self.sign = match taker_buys {
            Some(true) => 1.0,
            Some(false) => -1.0,
            None if self.change > 0.0 => 1.0,
            None if self.change < 0.0 => -1.0,
            None => self.sign,
        };
        self.sides_known += u64::from(taker_buys.is_some());
        for (sum, lag) in self.sign_products.iter_mut().zip(SIGN_LAGS) {
            *sum += self.sign * self.signs[lag - 1];
        }
        self.signs.rotate_right(1);
        self.signs[0] = self.sign;
        self.buys_less_sells += self.sign;
        self.flow += self.sign * quantity;
    }

    /// Returns the path of the logarithm of the price: the last one at the end of each cell, 0 before the first trade.
    pub fn path(&self) -> [f64; CELLS] {
        let mut last = 0.0;
        self.closes.map(|close| {
            last = if close.is_nan() { last } else { close };
            last
        })
    }

    /// Returns the change of the path in each cell.
    pub fn returns(&self) -> [f64; CELLS] {
        let mut last = 0.0;
        self.path().map(|log| log - std::mem::replace(&mut last, log))
    }

    /// Returns the difference of the highest and the lowest logarithm of the price.
    pub fn range(&self) -> f64 {
        self.highest - self.lowest
    }
}

/// Returns the sums over so many equal parts of the cells.
pub fn parts<const PARTS: usize>(cells: &[f64; CELLS]) -> [f64; PARTS] {
    let mut sums = [0.0; PARTS];
    for (sum, cells) in sums.iter_mut().zip(cells.chunks(CELLS / PARTS)) {
        *sum = cells.iter().sum();
    }
    sums
}
