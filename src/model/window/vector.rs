//! The vector of a slice, block by block.

use super::grid::Grid;
use super::trade::Trade;
use super::{counts, dynamics, flow, path, quantiles, shapes, trading};

/// Numbers of a vector.
pub const DIMENSIONS: usize = 256;

/// What the vectors of this library are called in `feature_version`. Any change of a number in them needs another name.
pub const FEATURE_VERSION: &str = "btc_ingest 1";

/// A finished vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Its length is 1, so that L2 distance and cosine distance give the same order.
    pub vector: [f32; DIMENSIONS],
    /// Trades that it is made of.
    pub ticks: i64,
}

/// Gathers the trades of one slice.
#[derive(Debug, Clone, Default)]
pub struct WindowBuilder {
    grid: Grid,
}

/// A part of the vector with one subject.
pub(super) struct Block {
    /// How many numbers it has.
    pub(super) len: usize,
    /// What its numbers are multiplied by. Over generated and recorded slices, all blocks then have about the same part
    /// in the squared distance of two vectors.
    weight: f64,
    /// Writes the numbers of the block before they are weighted.
    fill: fn(&Grid, &mut [f64]),
}

/// The blocks in the order of the vector.
pub(super) const BLOCKS: [Block; 7] = [
    Block { len: 64, weight: 0.09, fill: path::fill },
    Block { len: 60, weight: 0.25, fill: quantiles::fill },
    Block { len: 48, weight: 0.2, fill: flow::fill },
    Block { len: 32, weight: 2.0, fill: shapes::fill },
    Block { len: 24, weight: 0.5, fill: trading::fill },
    Block { len: 22, weight: 1.0, fill: dynamics::fill },
    Block { len: 6, weight: 1.5, fill: counts::fill },
];

impl WindowBuilder {
    /// Adds a trade. Trades come in the order of time and id.
    #[inline]
    pub fn add(&mut self, trade: &Trade) {
        self.grid.add(trade);
    }

    /// Returns the vector of the trades so far.
    pub fn finish(&self) -> Window {
        let mut numbers = [0.0_f64; DIMENSIONS];
        let mut rest = numbers.as_mut_slice();
        for block in &BLOCKS {
            let (own, behind) = rest.split_at_mut(block.len);
            (block.fill)(&self.grid, own);
            for number in own.iter_mut() {
                *number = if number.is_finite() { *number * block.weight } else { 0.0 };
            }
            rest = behind;
        }
        // The last number is never 0, so the length is not 0 either.
        let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
        Window { vector: numbers.map(|number| (number / length) as f32), ticks: self.grid.trades as i64 }
    }
}

/// Returns the vector of trades in any order. `id` is the exchange's number of a trade, which decides between trades of
/// one time.
pub fn window_of(trades: &[(i64, Trade)]) -> Window {
    let mut order: Vec<&(i64, Trade)> = trades.iter().collect();
    order.sort_by_key(|(id, trade)| (trade.offset_us, *id));
    let mut builder = WindowBuilder::default();
    order.into_iter().for_each(|(_, trade)| builder.add(trade));
    builder.finish()
}
