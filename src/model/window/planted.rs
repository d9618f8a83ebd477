//! A pattern that is repeated among many windows that no plain measure tells apart: all have the same volatility and
//! nearly the same number of trades.

use super::tests::{Random, distance};
use super::trade::Trade;
use super::vector::{Window, window_of};

const WINDOWS: u64 = 20_000;
/// Every so many windows, one is repeated.
const STEP: usize = 1_000;
const TRADES: usize = 400;
/// Root of the sum of squared changes of the logarithm of the price.
const VOLATILITY: f64 = 0.002;
/// The step of the prices.
const TICK: f64 = 0.01;

fn rounded(price: f64) -> f64 {
    (price / TICK).round() * TICK
}

/// Trades of one slice as a random walk of [`VOLATILITY`], with times, sizes and sides of a kind of its own.
fn slice(seed: u64) -> Vec<(i64, Trade)> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let changes: Vec<f64> = (0..TRADES).map(|_| random.normal()).collect();
    let scale = VOLATILITY / changes.iter().map(|change| change * change).sum::<f64>().sqrt();
    let (clumps, sizes, turns) = (1.0 + 2.0 * random.next(), 0.5 + 2.0 * random.next(), 0.1 + 0.4 * random.next());
    let mut times: Vec<i64> = (0..TRADES).map(|_| (random.next().powf(clumps) * 3e8) as i64).collect();
    times.sort_unstable();
    let (mut log, mut side) = (60_000.0_f64.ln(), true);
    let trade = |(id, (offset_us, change)): (usize, (i64, f64))| {
        log += change * scale;
        side ^= random.next() < turns;
        let quantity = (random.normal() * sizes - 4.0).exp();
        (id as i64, Trade { offset_us, price: rounded(log.exp()), quantity, taker_buys: Some(side) })
    };
    times.into_iter().zip(changes).enumerate().map(trade).collect()
}

/// Returns the same slice at another price and volume, without a fifth of its trades and with prices that are off by
/// one step at most.
fn repeated(trades: &[(i64, Trade)], random: &mut Random) -> Window {
    let kept = trades.iter().filter(|_| random.next() > 0.2).cloned().collect::<Vec<_>>();
    let other = |(id, trade): (i64, Trade)| {
        let noise = ((random.next() * 3.0).floor() - 1.0) * TICK;
        (id, Trade { price: rounded(trade.price * 0.37) + noise, quantity: trade.quantity * 40.0, ..trade })
    };
    window_of(&kept.into_iter().map(other).collect::<Vec<_>>())
}

#[test]
fn a_repeated_window_is_nearest_to_its_pattern_among_20_000_of_equal_volatility() {
    let windows: Vec<Window> = (1..=WINDOWS).map(|seed| window_of(&slice(seed))).collect();
    let mut random = Random(77);
    for pattern in (0..windows.len()).step_by(STEP) {
        let wanted = repeated(&slice(pattern as u64 + 1), &mut random);
        let mut near: Vec<(f64, usize)> =
            windows.iter().enumerate().map(|(place, window)| (distance(window, &wanted), place)).collect();
        near.select_nth_unstable_by(1, |one, other| one.0.total_cmp(&other.0));
        assert!(near[0].1 == pattern && near[0].0 < near[1].0, "{pattern}: {:?}", &near[..2]);
    }
}
