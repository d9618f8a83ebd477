//! Realised variance at several scales, from the returns of the grid.

use super::grid::{CELLS, Grid};

/// Cells of a return at each scale: 1.2, 4.7, 18.75 and 75 seconds.
pub const SCALES: [usize; 4] = [1, 4, 16, 64];

/// What the returns of a slice say of its volatility.
pub struct Volatility {
    /// Sum of squared returns at each of [`SCALES`].
    pub realised: [f64; 4],
    /// Bipower variation of the returns of single cells, which jumps do not raise.
    pub bipower: f64,
    /// Skewness and kurtosis of the returns of single cells around 0.
    pub skewness: f64,
    pub kurtosis: f64,
}

impl Volatility {
    pub fn of(grid: &Grid) -> Self {
        let path = grid.path();
        let realised = SCALES.map(|step| {
            let mut last = 0.0;
            let ends = (1..=CELLS / step).map(|part| path[part * step - 1]);
            ends.map(|log| (log - std::mem::replace(&mut last, log)).powi(2)).sum()
        });
        let returns = grid.returns();
        let neighbours = returns.windows(2).map(|pair| pair[0].abs() * pair[1].abs()).sum::<f64>();
        let power = |n: i32| returns.iter().map(|change| change.powi(n)).sum::<f64>() / CELLS as f64;
        let variance = power(2);
        let spread = variance.sqrt();
        let flat = spread < super::stats::TINY;
        Volatility {
            realised,
            bipower: neighbours * std::f64::consts::FRAC_PI_2,
            skewness: if flat { 0.0 } else { power(3) / (spread * variance) },
            kurtosis: if flat { 3.0 } else { power(4) / (variance * variance) },
        }
    }
}
