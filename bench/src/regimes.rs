//! Generated windows of a market that changes between calm and wild: what each window's vector is made of, and what
//! followed it.
//!
//! The logarithm of the volatility of a trade is the sum of a slow part (a day's memory), a fast part (a few minutes'),
//! and an hour's part that repeats every day. Trades come faster when they move more, sides persist, and now and then
//! the price jumps, which adds to the fast part. So a window tells of the next one by its level, by how it changed
//! towards its end, and by its hour.

use btc_ingest::model::window::{Trade, Window, WindowBuilder};
use btc_ingest_kit::ticks::{BUCKET_US, Random};

/// Trades of a window on average.
const TRADES: f64 = 150.0;
/// Steps of ten seconds, over which realised volatility is summed, as `label()` does.
const STEP_US: f64 = 10e6;
const DAY: f64 = 288.0;

/// A window, and the realised volatility and return of its own.
pub struct Made {
    /// Its vector.
    pub window: Window,
    /// Root of the sum of squared changes of the logarithm of the price.
    pub volatility: f64,
    /// Change of that logarithm.
    pub change: f64,
}

/// One market. It makes one window after another.
pub struct Market {
    random: Random,
    number: u64,
    slow: f64,
    fast: f64,
    log: f64,
    id: i64,
    buys: bool,
}

impl Market {
    /// Begins with an average market.
    pub fn new(seed: u64) -> Self {
        Self { random: Random(seed), number: 0, slow: 0.0, fast: 0.0, log: 60_000_f64.ln(), id: 0, buys: true }
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.random.fraction().max(1e-300).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.random.fraction()).cos()
    }

    fn exponential(&mut self) -> f64 {
        -self.random.fraction().max(1e-300).ln()
    }
}

impl Iterator for Market {
    type Item = Made;

    fn next(&mut self) -> Option<Made> {
        let hour = 0.35 * (std::f64::consts::TAU * self.number as f64 / DAY).sin();
        self.number += 1;
        self.slow = 0.995 * self.slow + 0.06 * self.normal();
        let first = self.log;
        let (mut time, mut squares, mut last, mut end) = (0.0, 0.0, self.log, STEP_US);
        let mut builder = WindowBuilder::default();
        loop {
            let level = self.slow + self.fast + hour;
            time += self.exponential() * BUCKET_US as f64 / TRADES / (0.7 * level).exp();
            if time >= BUCKET_US as f64 {
                break;
            }
            while time >= end {
                (squares, last, end) = (squares + (self.log - last).powi(2), self.log, end + STEP_US);
            }
            self.fast = 0.99 * self.fast + 0.06 * self.normal();
            self.log += 1e-4 * level.exp() * self.normal();
            if self.random.fraction() < 0.0005 {
                self.log += 3e-3 * self.normal();
                self.fast += 0.8;
            }
            self.buys ^= self.random.fraction() < 0.3;
            self.id += 1;
            let quantity = (1.2 * self.normal() - 4.0).exp();
            let price = (self.log.exp() * 100.0).round() / 100.0;
            builder.add(&Trade { offset_us: time as i64, price, quantity, taker_buys: Some(self.buys) });
        }
        squares += (self.log - last).powi(2);
        Some(Made { window: builder.finish(), volatility: squares.sqrt(), change: self.log - first })
    }
}
