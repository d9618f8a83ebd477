//! What must hold for the vector of any slice.

use super::grid::Grid;
use super::stats::quantile;
use super::trade::Trade;
use super::vector::{BLOCKS, DIMENSIONS, Window, window_of};

/// A small generator of numbers; the kit's is not part of the core.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f64 + 0.5) / 2.0_f64.powi(31)
    }

    pub(super) fn normal(&mut self) -> f64 {
        (-2.0 * self.next().ln()).sqrt() * (std::f64::consts::TAU * self.next()).cos()
    }
}

/// Trades of one slice as a random walk with sizes over several octaves.
fn slice(seed: u64, trades: usize) -> Vec<(i64, Trade)> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let volatility = (random.normal() * 0.7 - 10.5).exp();
    let mut log = 60_000.0_f64.ln();
    let (clumps, sizes) = (1.0 + 3.0 * random.next(), 0.5 + 2.5 * random.next());
    let mut times: Vec<i64> = (0..trades).map(|_| (random.next().powf(clumps) * 3e8) as i64).collect();
    times.sort_unstable();
    let mut side = true;
    let mut made = Vec::new();
    for (id, offset_us) in times.into_iter().enumerate() {
        log += random.normal() * volatility;
        side = if random.next() < 0.3 { !side } else { side };
        let price = (log.exp() * 100.0).round() / 100.0;
        let quantity = (random.normal() * sizes - 4.0).exp();
        made.push((id as i64, Trade { offset_us, price, quantity, taker_buys: Some(side) }));
    }
    made
}

pub(super) fn distance(one: &Window, other: &Window) -> f64 {
    let squares = one.vector.iter().zip(other.vector).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

fn must_be_sound(window: &Window, what: &str) {
    assert!(window.vector.iter().all(|number| number.is_finite()), "{what}: {:?}", window.vector);
    let length: f64 = window.vector.iter().map(|number| f64::from(*number).powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-6, "{what}: {length}");
}

#[test]
fn the_blocks_fill_the_vector() {
    assert_eq!(BLOCKS.iter().map(|block| block.len).sum::<usize>(), DIMENSIONS);
}

#[test]
fn any_input_gives_finite_numbers_of_length_1() {
    let trade = |offset_us, price, quantity| (offset_us, Trade { offset_us, price, quantity, taker_buys: None });
    let odd = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e-300, 1e300, 60_000.0];
    must_be_sound(&window_of(&[]), "empty");
    must_be_sound(&window_of(&[trade(0, 60_000.0, 1.0)]), "one trade");
    let equal: Vec<_> = (0..1_000).map(|n| trade(n * 300_000, 60_000.01, 0.5)).collect();
    must_be_sound(&window_of(&equal), "equal prices");
    let at_once: Vec<_> =
        (0..100).map(|n| (n, Trade { offset_us: 7, ..trade(0, 60_000.0 + n as f64, 1.0).1 })).collect();
    must_be_sound(&window_of(&at_once), "one time");
    let mut random = Random(3);
    for round in 0..2_000 {
        let any = |random: &mut Random| odd[(random.next() * odd.len() as f64) as usize];
        let count = (random.next() * 12.0) as i64;
        let mixed: Vec<_> = (0..count)
            .map(|_| {
                let offset = ((random.next() - 0.1) * 4e8) as i64;
                trade(offset, any(&mut random), any(&mut random))
            })
            .collect();
        must_be_sound(&window_of(&mixed), &format!("round {round}: {mixed:?}"));
    }
}

#[test]
fn the_order_of_arrival_does_not_matter_and_a_repetition_gives_the_same_bits() {
    for seed in 0..20 {
        let trades = slice(seed, 700);
        let wanted = window_of(&trades);
        let mut shuffled = trades.clone();
        let mut random = Random(seed);
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, (random.next() * (place + 1) as f64) as usize);
        }
        assert_ne!(shuffled, trades);
        assert_eq!(window_of(&shuffled), wanted);
        assert_eq!(window_of(&trades), wanted);
    }
}

#[test]
fn neither_the_price_level_nor_the_unit_of_volume_matters() {
    for seed in 0..20 {
        let trades = slice(seed, 900);
        let wanted = window_of(&trades);
        let other = |price: f64, quantity: f64| {
            let change =
                |trade: &Trade| Trade { price: trade.price * price, quantity: trade.quantity * quantity, ..*trade };
            window_of(&trades.iter().map(|(id, trade)| (*id, change(trade))).collect::<Vec<_>>())
        };
        assert!(distance(&other(0.001, 1.0), &wanted) < 1e-6, "{}", distance(&other(0.001, 1.0), &wanted));
        assert!(distance(&other(1.0, 1_000.0), &wanted) < 0.02, "{}", distance(&other(1.0, 1_000.0), &wanted));
        assert!(distance(&other(7.0, 0.01), &wanted) < 0.02);
    }
}

#[test]
fn the_nearest_by_l2_is_the_nearest_by_cosine() {
    let windows: Vec<Window> = (0..40).map(|seed| window_of(&slice(seed, 300))).collect();
    for one in &windows {
        for other in &windows {
            let product: f64 = one.vector.iter().zip(other.vector).map(|(a, b)| f64::from(*a) * f64::from(b)).sum();
            assert!((distance(one, other).powi(2) - 2.0 * (1.0 - product)).abs() < 1e-5);
        }
    }
}

#[test]
fn each_block_has_a_like_part_in_the_distance_of_two_slices() {
    let windows: Vec<Window> = (0..120).map(|seed| window_of(&slice(seed, 200 + 37 * seed as usize))).collect();
    let mut parts = [0.0; BLOCKS.len()];
    for (place, one) in windows.iter().enumerate() {
        for other in &windows[place + 1..] {
            let mut from = 0;
            for (part, block) in parts.iter_mut().zip(&BLOCKS) {
                let own = from..from + block.len;
                let pairs = one.vector[own.clone()].iter().zip(&other.vector[own]);
                *part += pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
                from += block.len;
            }
        }
    }
    let all: f64 = parts.iter().sum();
    let shares = parts.map(|part| part / all);
    let alike = 1.0 / BLOCKS.len() as f64;
    assert!(shares.iter().all(|share| (alike / 3.0..alike * 3.0).contains(share)), "{shares:?}");
}

#[test]
fn a_slice_is_nearest_to_itself_with_other_price_volume_and_fewer_trades() {
    let trades = slice(1, 1_500);
    let mut random = Random(77);
    let repeated: Vec<_> = trades
        .iter()
        .filter(|_| random.next() > 0.2)
        .map(|(id, trade)| (*id, Trade { price: trade.price * 0.37, quantity: trade.quantity * 40.0, ..*trade }))
        .collect();
    let wanted = window_of(&repeated);
    let own = distance(&window_of(&trades), &wanted);
    for seed in 2..300 {
        let other = distance(&window_of(&slice(seed, 1_500)), &wanted);
        assert!(own < other / 2.0, "{own} and {other} of {seed}");
    }
}

#[test]
fn a_missing_side_is_that_of_the_last_change_of_the_price() {
    let prices = [100.0, 101.0, 101.0, 99.0, 99.0];
    let sides = [None, None, None, None, None];
    let told = [None, Some(true), Some(true), Some(false), Some(false)];
    let flow = |sides: [Option<bool>; 5]| {
        let mut grid = Grid::default();
        for (place, (price, taker_buys)) in prices.into_iter().zip(sides).enumerate() {
            grid.add(&Trade { offset_us: place as i64, price, quantity: 1.0, taker_buys });
        }
        (grid.flow, grid.sign_products)
    };
    assert_eq!(flow(sides), flow(told));
}

#[test]
fn a_quantile_lies_between_two_values() {
    assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
    assert_eq!(quantile(&[5.0], 0.1), 5.0);
    assert_eq!(quantile(&[], 0.5), 0.0);
}
