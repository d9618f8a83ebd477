//! Indices 172 to 203: the distributions of trade sizes and of the times between trades.
//!
//! - 172 … 187: sqrt(part of the trades whose size is around 2^(k - 7.5) times the geometric mean) - 1/4, k = 0 …
//!   15
//! - 188: sqrt(part of the pairs of consecutive trades that have one time) - 1/4
//! - 189 … 203: sqrt(part of the pairs whose distance in time is around 2^(k - 7) times its geometric mean) - 1/4,
//!   k = 0 … 14
//!
//! "Around": a value between two centres counts for both, in proportion to its logarithm. Roots, so that L2 is the
//! Hellinger distance; less the root of a sixteenth, so that like parts are near 0. Relative to the mean, so that
//! neither the unit of volume nor the number of trades matters. The waiting times between trades as a fingerprint of a
//! market: Engle and Russell, Autoregressive conditional duration, Econometrica 1998.

use super::grid::Grid;

const SIZES: usize = 16;

pub fn fill(grid: &Grid, numbers: &mut [f64]) {
    let (sizes, gaps) = numbers.split_at_mut(SIZES);
    if grid.sizes.count > 0 {
        grid.sizes.spread(grid.sizes.mean(), grid.sizes.count as f64, sizes);
        take_roots(sizes);
    }
    let pairs = (grid.gaps.count + grid.same_times) as f64;
    if pairs > 0.0 {
        let (same, apart) = gaps.split_at_mut(1);
        same[0] = grid.same_times as f64 / pairs;
        grid.gaps.spread(grid.gaps.mean(), pairs, apart);
        take_roots(gaps);
    }
}

fn take_roots(parts: &mut [f64]) {
    parts.iter_mut().for_each(|part| *part = part.max(0.0).sqrt() - 0.25);
}
