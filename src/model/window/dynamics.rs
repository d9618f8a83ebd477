//! Indices 228 to 249: how the path moves, by measures that are easy to compute and say different things.
//!
//! z is the z-normalised path of 256 cells, u its returns with mean 0 and spread 1, p the path of 64 points. The choice
//! follows the classes of catch22: Lubba et al., catch22: CAnonical Time-series CHaracteristics, Data Mining and
//! Knowledge Discovery 2019; the formulas are textbook ones.
//!
//! - 228 … 233: autocorrelation of u at lags 1, 2, 3, 5, 8, 13
//! - 234 … 238: autocorrelation of abs(u) - mean at lags 1, 2, 4, 8, 16
//! - 239: squash(mean of (u_{i+1} - u_i)³, 0, 5): asymmetry under time reversal
//! - 240: part of consecutive returns other than 0 that change their sign
//! - 241: sqrt of the longest stretch of z above 0, of 256
//! - 242: sqrt of the longest stretch in which no return is below 0, of 256
//! - 243: entropy of the order of three consecutive points of z, of ln 6: Bandt and Pompe, Phys. Rev. Lett. 2002
//! - 244: part of the power of p at frequencies 1 to 3
//! - 245: sqrt(mean frequency of p, of 32)
//! - 246, 247: place of the first highest and the first lowest point of z, of 256
//! - 248: middle of the fullest of five equal bins of z, divided by 3
//! - 249: sqrt of the number of changes of sign of z, of 256

use std::f64::consts::TAU;

use super::grid::{CELLS, Grid};
use super::path::{POINTS, points};
use super::stats::{TINY, autocorrelation, mean, mean_and_spread, squash, z_normalise};

/// Lags of the autocorrelations.
const LAGS: [usize; 6] = [1, 2, 3, 5, 8, 13];
const LAGS_OF_SIZES: [usize; 5] = [1, 2, 4, 8, 16];

pub fn fill(grid: &Grid, numbers: &mut [f64]) {
    let (path, returns) = (grid.path(), grid.returns());
    if mean_and_spread(&path).1 < TINY {
        return;
    }
    let (mut z, mut u) = ([0.0; CELLS], [0.0; CELLS]);
    z_normalise(&path, &mut z);
    z_normalise(&returns, &mut u);
    let mut sizes = u.map(f64::abs);
    let centre = mean(&sizes);
    sizes.iter_mut().for_each(|size| *size -= centre);
    for (place, lag) in LAGS.into_iter().enumerate() {
        numbers[place] = autocorrelation(&u, lag);
    }
    for (place, lag) in LAGS_OF_SIZES.into_iter().enumerate() {
        numbers[6 + place] = autocorrelation(&sizes, lag);
    }
    let steps: Vec<f64> = u.windows(2).map(|pair| (pair[1] - pair[0]).powi(3)).collect();
    numbers[11] = squash(mean(&steps), 0.0, 5.0);
    numbers[12] = reversals(&returns);
    let part = |count: usize| (count as f64 / CELLS as f64).sqrt();
    numbers[13] = part(longest(z.iter().map(|value| *value > 0.0)));
    numbers[14] = part(longest(returns.iter().map(|change| *change >= 0.0)));
    numbers[15] = order_entropy(&path);
    spectrum(&points(grid), &mut numbers[16..18]);
    numbers[18] = first(&path, |value, best| value > best) as f64 / CELLS as f64;
    numbers[19] = first(&path, |value, best| value < best) as f64 / CELLS as f64;
    numbers[20] = mode(&z) / 3.0;
    numbers[21] = part(z.windows(2).filter(|pair| (pair[0] > 0.0) != (pair[1] > 0.0)).count());
}

/// Returns which part of the returns other than 0 has the other sign than the one before.
fn reversals(returns: &[f64]) -> f64 {
    let moves: Vec<bool> = returns.iter().filter(|change| **change != 0.0).map(|change| *change > 0.0).collect();
    let changes = moves.windows(2).filter(|pair| pair[0] != pair[1]).count();
    if moves.len() < 2 { 0.0 } else { changes as f64 / (moves.len() - 1) as f64 }
}

fn longest(flags: impl Iterator<Item = bool>) -> usize {
    let mut run = 0;
    flags
        .map(|flag| {
            run = if flag { run + 1 } else { 0 };
            run
        })
        .max()
        .unwrap_or_default()
}

/// Returns the entropy of the six orders that three consecutive values may have; of equal values the first is lower.
fn order_entropy(path: &[f64]) -> f64 {
    let mut orders = [0_u32; 8];
    for three in path.windows(3) {
        let order = usize::from(three[0] > three[1])
            | usize::from(three[1] > three[2]) << 1
            | usize::from(three[0] > three[2]) << 2;
        orders[order] += 1;
    }
    let total: f64 = orders.iter().map(|count| f64::from(*count)).sum();
    let parts = orders.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / total);
    -parts.map(|part| part * part.ln()).sum::<f64>() / 6.0_f64.ln()
}

/// Writes the part of the power at low frequencies, and the root of the mean frequency.
fn spectrum(points: &[f64; POINTS], numbers: &mut [f64]) {
    let mut z = [0.0; POINTS];
    z_normalise(points, &mut z);
    let wave: [f64; POINTS] = std::array::from_fn(|place| (TAU * place as f64 / POINTS as f64).cos());
    let (mut low, mut all, mut weighted) = (0.0, 0.0, 0.0);
    for frequency in 1..=POINTS / 2 {
        let (mut real, mut imaginary) = (0.0, 0.0);
        for (place, value) in z.iter().enumerate() {
            let angle = frequency * place;
            real += value * wave[angle % POINTS];
            // The sine is the cosine a quarter of the circle before.
            imaginary += value * wave[(angle + POINTS * 3 / 4) % POINTS];
        }
        let power = real * real + imaginary * imaginary;
        all += power;
        weighted += power * frequency as f64;
        if frequency <= 3 {
            low += power;
        }
    }
    if all > TINY {
        numbers[0] = low / all;
        numbers[1] = (weighted / all / (POINTS / 2) as f64).sqrt();
    }
}

/// Returns the place of the first value that no other one beats.
fn first(values: &[f64], beats: impl Fn(f64, f64) -> bool) -> usize {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if beats(*value, values[best]) {
            best = place;
        }
    }
    best
}

/// Returns the middle of the fullest of five equal bins, the first of those that are equally full.
fn mode(values: &[f64]) -> f64 {
    const BINS: usize = 5;
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = (highest - lowest) / BINS as f64;
    if width < TINY {
        return 0.0;
    }
    let mut bins = [0_u32; BINS];
    for value in values {
        bins[(((value - lowest) / width) as usize).min(BINS - 1)] += 1;
    }
    let fullest = bins.iter().enumerate().rev().max_by_key(|(_, count)| **count).map_or(0, |(bin, _)| bin);
    lowest + width * (fullest as f64 + 0.5)
}
