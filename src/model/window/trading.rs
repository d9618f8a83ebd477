//! Indices 204 to 227: volatility, liquidity and imbalance.
//!
//! squash(x, c, w) = tanh((x - c) / w). r are the returns of the 256 cells, d the changes of the price from trade to
//! trade, s the signs of the trades (1 if the taker bought), all prices as logarithms.
//!
//! - 204 … 207: squash(ln(sqrt(RV_k) + 1e-8), -7, 1.5), RV_k the sum of squared returns of k = 1, 4, 16, 64 cells;
//!   Andersen et al., Econometrica 2003
//! - 208: squash(BV / RV_1 - 1, 0, 0.5), BV = pi / 2 · sum of abs(r_i) · abs(r_{i-1}); Barndorff-Nielsen and
//!   Shephard, J. Financial Econometrics 2004
//! - 209 … 211: squash(ln((RV_k + 1e-16) / (RV_1 + 1e-16)), 0, 1), k = 4, 16, 64: variance ratios; Lo and
//!   MacKinlay, Rev. Financial Studies 1988
//! - 212 … 215: sum of s_t · s_{t-l} / (N - l), l = 1, 2, 5, 10; Lillo and Farmer, Studies in Nonlinear Dynamics
//!   2004
//! - 216: C / sum of d_t², C = sum of d_t · d_{t-1}; Roll, J. Finance 1984
//! - 217: squash(ln(2 · sqrt(max(0, -C / N)) + 1e-8), -10, 2): Roll's spread; Roll 1984
//! - 218: squash(ln(A + 1e-3), 0, 1), A = mean of abs(R_j) / V_j, times mean(V) / mean(abs(R)), over 16 parts that
//!   traded; Amihud, J. Financial Markets 2002
//! - 219, 220: correlation of return and signed quantity over 256 cells and over 16 parts: the scale-free slope;
//!   Kyle, Econometrica 1985
//! - 221: quantity bought less quantity sold by takers, of all quantity; Chordia, Roll and Subrahmanyam, J.
//!   Financial Economics 2002
//! - 222: trades bought less trades sold, of all trades; as before
//! - 223: 2 · (volume-weighted mean - middle of the range) / range
//! - 224, 225: squash(skewness of r, 0, 2); squash(ln(kurtosis of r + 1), ln 4, 1)
//! - 226, 227: longest way down and longest way up, of the range

use super::grid::{Grid, SIGN_LAGS, parts};
use super::stats::{TINY, correlation, mean, ratio, squash};
use super::volatility::Volatility;

const PARTS: usize = 16;

pub fn fill(grid: &Grid, numbers: &mut [f64]) {
    if grid.trades == 0 {
        return;
    }
    let volatility = Volatility::of(grid);
    let realised = volatility.realised;
    for (number, variance) in numbers.iter_mut().zip(realised) {
        *number = squash((variance.sqrt() + 1e-8).ln(), -7.0, 1.5);
    }
    let flat = realised[0] < TINY * TINY;
    numbers[4] = if flat { 0.0 } else { squash(volatility.bipower / realised[0] - 1.0, 0.0, 0.5) };
    for (number, variance) in numbers[5..8].iter_mut().zip(&realised[1..]) {
        *number = squash(((variance + 1e-16) / (realised[0] + 1e-16)).ln(), 0.0, 1.0);
    }
    let trades = grid.trades as f64;
    for (place, lag) in SIGN_LAGS.into_iter().enumerate() {
        let pairs = trades - lag as f64;
        numbers[8 + place] = if pairs > 0.0 { grid.sign_products[place] / pairs } else { 0.0 };
    }
    let products = grid.change_products;
    numbers[12] = if grid.change_squares < TINY * TINY { 0.0 } else { products / grid.change_squares };
    numbers[13] = squash((2.0 * (-products / trades).max(0.0).sqrt() + 1e-8).ln(), -10.0, 2.0);
    liquidity(grid, &mut numbers[14..17]);
    numbers[17] = ratio(grid.flow, grid.volume);
    numbers[18] = grid.buys_less_sells / trades;
    numbers[20] = squash(volatility.skewness, 0.0, 2.0);
    numbers[21] = squash((volatility.kurtosis + 1.0).ln(), 4.0_f64.ln(), 1.0);
    let range = grid.range();
    if range >= TINY {
        let middle = (grid.highest + grid.lowest) / 2.0;
        let weighted = if grid.volume > 0.0 { grid.weighted / grid.volume } else { middle };
        numbers[19] = 2.0 * (weighted - middle) / range;
        numbers[22] = grid.drawdown / range;
        numbers[23] = grid.runup / range;
    }
}

/// Writes Amihud's illiquidity and the correlations of return and flow.
fn liquidity(grid: &Grid, numbers: &mut [f64]) {
    let returns = grid.returns();
    let (moves, flows) = (parts::<PARTS>(&returns), parts::<PARTS>(&grid.flows));
    let volumes = parts::<PARTS>(&grid.volumes);
    let traded: Vec<(f64, f64)> = moves
        .iter()
        .zip(volumes)
        .filter(|(_, volume)| *volume > 0.0)
        .map(|(way, volume)| (way.abs(), volume))
        .collect();
    let ways: Vec<f64> = traded.iter().map(|(way, _)| *way).collect();
    let volume: Vec<f64> = traded.iter().map(|(_, volume)| *volume).collect();
    let costs: Vec<f64> = traded.iter().map(|(way, volume)| way / volume).collect();
    if mean(&ways) >= TINY {
        numbers[0] = squash((mean(&costs) * mean(&volume) / mean(&ways) + 1e-3).ln(), 0.0, 1.0);
    }
    if grid.range() >= TINY {
        numbers[1] = correlation(&returns, &grid.flows);
        numbers[2] = correlation(&moves, &flows);
    }
}
