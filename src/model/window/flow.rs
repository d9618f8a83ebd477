//! Indices 124 to 171: when and by whom it was traded. The slice has 16 parts of 18.75 seconds.
//!
//! - 124 … 139: sign(F_s) · sqrt(16 · abs(F_s) / V): F_s quantity bought less quantity sold by takers, V all
//!   quantity
//! - 140 … 155: sqrt(16 · V_s / V) - 1: quantity
//! - 156 … 171: sqrt(16 · N_s / N) - 1: number of trades
//!
//! Roots of shares are the coordinates of the Hellinger distance. The signed flow as what moves prices: Cont, Kukanov
//! and Stoikov, The price impact of order book events, Journal of Financial Econometrics 2014.

use super::grid::{Grid, parts};
use super::stats::root_share;

const PARTS: usize = 16;

pub fn fill(grid: &Grid, numbers: &mut [f64]) {
    let flows = parts::<PARTS>(&grid.flows);
    let volumes = parts::<PARTS>(&grid.volumes);
    let counts = parts::<PARTS>(&grid.counts);
    let share = |part: f64, whole: f64| if whole > 0.0 { root_share(part, whole, PARTS) - 1.0 } else { 0.0 };
    let (of_flows, rest) = numbers.split_at_mut(PARTS);
    let (of_volumes, of_counts) = rest.split_at_mut(PARTS);
    for (number, flow) in of_flows.iter_mut().zip(flows) {
        let root = root_share(flow.abs(), grid.volume, PARTS);
        *number = if flow < 0.0 { -root } else { root };
    }
    of_volumes.iter_mut().zip(volumes).for_each(|(number, volume)| *number = share(volume, grid.volume));
    of_counts.iter_mut().zip(counts).for_each(|(number, count)| *number = share(count, grid.trades as f64));
}
