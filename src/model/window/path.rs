//! Indices 0 to 63: the path of the price.
//!
//! - j = 0 … 63: (p_j - mean(p)) / sd(p), where p_j is the logarithm of the last price before 4(j + 1) cells have
//!   passed
//!
//! The L2 distance of two such blocks is the z-normalised Euclidean distance, by which a matrix profile compares
//! subsequences: Yeh et al., Matrix Profile I, ICDM 2016. 64 points are one per 4.7 seconds, and leave out the noise of
//! single trades.

use super::grid::Grid;
use super::stats::z_normalise;

/// Points of the path.
pub const POINTS: usize = 64;

/// Returns every fourth point of the path.
pub fn points(grid: &Grid) -> [f64; POINTS] {
    let path = grid.path();
    std::array::from_fn(|point| path[4 * point + 3])
}

pub fn fill(grid: &Grid, numbers: &mut [f64]) {
    z_normalise(&points(grid), numbers);
}
