//! Indices 64 to 123: quantiles over dyadic parts of the slice.
//!
//! - 64 … 83: asinh of the quantiles (k + 1/2) / 20 of the returns of all 256 cells, divided by their root mean
//!   square
//! - 84 … 99: the same with 8 quantiles in each half
//! - 100 … 115: the same with 4 quantiles in each quarter
//! - 116 … 123: the median of the z-normalised path in each eighth
//!
//! Quantiles over dyadic intervals of a series and of its differences: Dempster, Schmidt and Webb, QUANT: A minimalist
//! interval method for time series classification, Data Mining and Knowledge Discovery 2024. asinh keeps a single jump
//! from outweighing everything else.

use super::grid::{CELLS, Grid};
use super::stats::{TINY, quantile, z_normalise};

/// Parts of the slice, and quantiles of the returns in each of them.
const LEVELS: [(usize, usize); 3] = [(1, 20), (2, 8), (4, 4)];
/// Parts in which the path has its median.
const EIGHTHS: usize = 8;

pub fn fill(grid: &Grid, numbers: &mut [f64]) {
    let mut returns = grid.returns();
    let scale = (returns.iter().map(|change| change * change).sum::<f64>() / CELLS as f64).sqrt();
    returns = returns.map(|change| if scale < TINY { 0.0 } else { change / scale });
    let mut numbers = numbers.iter_mut();
    let mut put = |number: f64| {
        if let Some(place) = numbers.next() {
            *place = number;
        }
    };
    for (parts, quantiles) in LEVELS {
        for part in returns.chunks(CELLS / parts) {
            let sorted = sorted(part);
            (0..quantiles).for_each(|k| put(quantile(&sorted, (k as f64 + 0.5) / quantiles as f64).asinh()));
        }
    }
    let mut path = [0.0; CELLS];
    z_normalise(&grid.path(), &mut path);
    path.chunks(CELLS / EIGHTHS).for_each(|part| put(quantile(&sorted(part), 0.5)));
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}
