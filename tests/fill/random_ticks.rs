//! Ticks by their place: what a tick holds follows from its symbol, its bucket and its number alone, so that two
//! objects never contradict each other. How event times are distributed differs from slice to slice.

use std::sync::Arc;

use btc_ingest_kit::Tick;
use btc_ingest_kit::ticks::{BUCKET_US, PRICE_UNIT, QUANTITY_UNIT, Random, decimal_text};
use postgres::Client;

/// The most numbers of a slice.
pub const NUMBERS: i64 = 1_000_000;
/// The number of the tick in the middle of a slice, from which numbers grow and fall.
pub const MIDDLE: i64 = NUMBERS / 2;

/// The place of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub bucket: i64,
    pub symbol: usize,
    pub number: i64,
}

/// How ticks are made of places.
pub struct RandomTicks {
    seed: u64,
    /// The start of bucket 0.
    start_us: i64,
    pub symbols: Vec<Arc<str>>,
}

/// Sizes of groups of ticks with one event time: a leaf page holds about 200 to 400 entries of our indexes without
/// deduplication, and about 1,350 with it.
const GROUPS: [i64; 10] = [2, 3, 50, 190, 204, 205, 290, 407, 1350, 5000];

impl RandomTicks {
    /// Makes `symbols` symbols whose names are of different lengths.
    pub fn new(seed: u64, start_us: i64, symbols: usize) -> Self {
        let mut random = Random(seed ^ 0x73);
        let names = (0..symbols).map(|number| {
            // Up to the longest that a load takes.
            let length = [0, 0, 0, random.below(60), random.below(60), random.below(245)][random.below(6) as usize];
            Arc::from(format!("S{number}{}", "X".repeat(length as usize)))
        });
        Self { seed, start_us, symbols: names.collect() }
    }

    /// Returns the tick of a place.
    pub fn tick(&self, place: Place) -> Tick {
        let Place { bucket, symbol, number } = place;
        let mut random = Random(mix(self.seed, &[bucket, symbol as i64, number]));
        let event_time_us = self.start_us + bucket * BUCKET_US + self.offset(place);
        let trade_time_us = match random.below(4) {
            0 => None,
            1 => Some(event_time_us),
            _ => Some(event_time_us - 1000 * random.below(3) as i64),
        };
        Tick {
            event_time_us,
            trade_time_us,
            symbol: self.symbols[symbol].clone(),
            trade_id: place.id(),
            price: (1 + random.below(1000) as i64) * PRICE_UNIT / 100,
            quantity: i128::from(1 + random.below(1_000_000)) * QUANTITY_UNIT / 1000,
            buyer_order_id: (random.below(3) > 0).then(|| random.below(1_000_000) as i64),
            seller_order_id: (random.below(3) > 0).then(|| random.below(5) as i64),
            is_market_maker: random.below(2) == 0,
        }
    }

    /// Returns the ticks of places.
    pub fn ticks(&self, places: &[Place]) -> Vec<Tick> {
        places.iter().map(|place| self.tick(*place)).collect()
    }

    /// Returns the event time within the bucket, in microseconds. Each slice has a distribution of its own.
    fn offset(&self, Place { bucket, symbol, number }: Place) -> i64 {
        let mut of_slice = Random(mix(self.seed, &[bucket, symbol as i64]));
        let (step, last) = (BUCKET_US / NUMBERS, NUMBERS - 1);
        let group = GROUPS[of_slice.below(GROUPS.len() as u64) as usize];
        match of_slice.below(8) {
            0 => number * step,
            1 => (last - number) * step,
            2 => (mix(self.seed, &[number, 1]) % BUCKET_US as u64) as i64,
            3 => 1000,
            4 => number / group * group * step,
            5 => (last - number) / group * group * step,
            6 => (mix(self.seed, &[number, 2]) % 5) as i64 * 1000,
            // Mostly ascending, with ticks that come late.
            _ => (number - (mix(self.seed, &[number, 3]) % 64) as i64).max(0) * step,
        }
    }
}

/// Returns a number that follows from these numbers.
fn mix(seed: u64, numbers: &[i64]) -> u64 {
    numbers.iter().fold(seed, |state, number| Random(state ^ (*number as u64).rotate_left(17)).bits())
}

/// Puts values into a random order.
pub fn shuffle<T>(values: &mut [T], random: &mut Random) {
    for at in (1..values.len()).rev() {
        values.swap(at, random.below(at as u64 + 1) as usize);
    }
}

impl Place {
    /// Returns the trade id. Those of neighbouring buckets differ.
    pub fn id(self) -> i64 {
        (self.bucket + 10_000) * NUMBERS + self.number
    }
}

/// Inserts ticks as a client does, by one INSERT. Ticks whose keys are stored are left out. Returns how many were
/// inserted.
#[track_caller]
pub fn insert(client: &mut Client, table: &str, ticks: &[Tick]) -> u64 {
    let sql = format!(
        "INSERT INTO {table} (bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity, buyer_order_id,
                              seller_order_id, is_market_maker)
         SELECT 'epoch'::timestamptz + b * interval '1 us', 'epoch'::timestamptz + e * interval '1 us',
                'epoch'::timestamptz + t * interval '1 us', s, i, p::numeric, q::numeric, o1, o2, m
           FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::text[],
                       $8::text[], $9::text[], $10::boolean[]) AS u (b, e, t, s, i, p, q, o1, o2, m)
         ON CONFLICT DO NOTHING"
    );
    let text = |id: Option<i64>| id.map(|id| id.to_string());
    client
        .execute(
            &sql,
            &[
                &ticks.iter().map(Tick::bucket_us).collect::<Vec<_>>(),
                &ticks.iter().map(|tick| tick.event_time_us).collect::<Vec<_>>(),
                &ticks.iter().map(|tick| tick.trade_time_us).collect::<Vec<_>>(),
                &ticks.iter().map(|tick| tick.symbol.to_string()).collect::<Vec<_>>(),
                &ticks.iter().map(|tick| tick.trade_id).collect::<Vec<_>>(),
                &ticks.iter().map(|tick| decimal_text(tick.price.into(), 8, 8)).collect::<Vec<_>>(),
                &ticks.iter().map(|tick| decimal_text(tick.quantity, 12, 12)).collect::<Vec<_>>(),
                &ticks.iter().map(|tick| text(tick.buyer_order_id)).collect::<Vec<_>>(),
                &ticks.iter().map(|tick| text(tick.seller_order_id)).collect::<Vec<_>>(),
                &ticks.iter().map(|tick| tick.is_market_maker).collect::<Vec<_>>(),
            ],
        )
        .unwrap_or_else(|error| panic!("{table}: {error:?}"))
}
