//! Indices 250 to 255: how much was traded, and what the slice lacks.
//!
//! - 250: squash(ln(1 + N), 7, 3), N the number of trades
//! - 251: part of the 256 cells that have a trade
//! - 252: offset of the first trade, of five minutes; 1 without trades
//! - 253: time from the last trade to the end, of five minutes; 1 without trades
//! - 254: part of the trades of which the file does not say whether the taker bought
//! - 255: 0.1, so that no vector is 0

use super::grid::{CELLS, Grid};
use super::stats::squash;
use crate::model::bucket::BUCKET_US;

pub fn fill(grid: &Grid, numbers: &mut [f64]) {
    let trades = grid.trades as f64;
    numbers[0] = squash((1.0 + trades).ln(), 7.0, 3.0);
    numbers[1] = grid.counts.iter().filter(|count| **count > 0.0).count() as f64 / CELLS as f64;
    (numbers[2], numbers[3]) = match grid.trades {
        0 => (1.0, 1.0),
        _ => (grid.first_us as f64 / BUCKET_US as f64, (BUCKET_US - grid.last_us) as f64 / BUCKET_US as f64),
    };
    numbers[4] = if trades > 0.0 { (trades - grid.sides_known as f64) / trades } else { 0.0 };
    numbers[5] = 0.1;
}
