//! Objects with planted holes, duplicates, conflicts, rows out of order and replaced versions, and what must be found.

use btc_ingest_kit::Tick;
use btc_ingest_kit::rows::but;
use btc_ingest_kit::ticks::{PRICE_UNIT, QUANTITY_UNIT, Random, time_us};

/// Three assets on two markets, each with trade ids of its own. The ranges of ids overlap.
pub const SPACES: [&str; 6] = ["BTCUSDT", "BTCUSDT-PERP", "ETHUSDT", "ETHUSDT-PERP", "SOLUSDT", "SOLUSDT-PERP"];
/// Trade ids per asset and market.
const IDS: i64 = 3000;
/// Holes over all assets and markets.
pub const HOLES: usize = 1000;
const START: &str = "2024-08-08T00:00:00Z";
const DAY_US: i64 = 86_400_000_000;
/// Objects per asset and market.
const OBJECTS: usize = 12;

/// What becomes of a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Explained,
    Filled,
    /// One id in its middle comes late.
    Split,
}

struct Hole {
    space: usize,
    first: i64,
    last: i64,
    fate: Fate,
}

impl Hole {
    /// Returns the ids that come late.
    fn late(&self) -> Option<(i64, i64)> {
        match self.fate {
            Fate::Filled => Some((self.first, self.last)),
            Fate::Split => Some((self.first + 1, self.first + 1)),
            Fate::Open | Fate::Explained => None,
        }
    }
}

/// An object: its name and its rows.
pub type Object = (String, Vec<Tick>);

/// Everything that is planted.
pub struct Planted {
    /// What is there at first. The names of two objects differ.
    pub first: Vec<Object>,
    /// Whole versions of some of them, which had less at first.
    pub replaced: Vec<Object>,
    /// What comes late.
    pub late: Vec<Object>,
    holes: Vec<Hole>,
}

impl Planted {
    /// Plants by a seed.
    pub fn new(seed: u64) -> Planted {
        let mut random = Random(seed);
        let mut planted = Planted { first: Vec::new(), replaced: Vec::new(), late: Vec::new(), holes: Vec::new() };
        for space in 0..SPACES.len() {
            let holes = (HOLES + space) / SPACES.len();
            planted.dig(space, holes, &mut random);
            planted.fill(space, &mut random);
        }
        planted
    }

    /// Digs holes of one to five ids, and in the first space one of a whole day.
    fn dig(&mut self, space: usize, count: usize, random: &mut Random) {
        let base = first_id(space);
        let mut at = base + 2;
        let mut left = count;
        if space == 0 {
            let (first, last) = (base + IDS / 3, base + 2 * IDS / 3 - 1);
            self.holes.push(Hole { space, first, last, fate: Fate::Open });
            left -= 1;
        }
        while left > 0 {
            let first = at + 1 + random.below(5) as i64;
            let last = first + random.below(5) as i64;
            at = last + 2;
            if space == 0 && last >= base + IDS / 3 - 2 && first <= base + 2 * IDS / 3 + 1 {
                at = at.max(base + 2 * IDS / 3 + 2);
                continue;
            }
            assert!(last < base + IDS - 2, "too many holes");
            let fate = match random.below(4) {
                0 => Fate::Explained,
                1 => Fate::Filled,
                2 if last > first + 1 => Fate::Split,
                _ => Fate::Open,
            };
            self.holes.push(Hole { space, first, last, fate });
            left -= 1;
        }
    }

    /// Makes the objects of a space.
    fn fill(&mut self, space: usize, random: &mut Random) {
        let base = first_id(space);
        let missing =
            |id: i64| self.holes.iter().any(|hole| hole.space == space && (hole.first..=hole.last).contains(&id));
        let all: Vec<Tick> = (base..base + IDS).filter(|id| !missing(*id)).map(|id| tick(space, id)).collect();
        let part = IDS as usize / OBJECTS;
        for object in 0..OBJECTS {
            let ids = base + (object * part) as i64..base + ((object + 1) * part) as i64;
            let mut rows: Vec<Tick> = all.iter().filter(|tick| ids.contains(&tick.trade_id)).cloned().collect();
            if rows.is_empty() {
                continue;
            }
            let name = format!("{}-{object}", SPACES[space]);
            match object % 5 {
                1 => shuffle(&mut rows, random),
                2 => rows.extend_from_within(..5),
                3 => {
                    self.replaced.push((name.clone(), rows.clone()));
                    rows.retain(|_| random.below(3) > 0);
                }
                _ => {}
            }
            self.first.push((name, rows));
        }
        let late: Vec<Tick> = self
            .holes
            .iter()
            .filter(|hole| hole.space == space)
            .filter_map(Hole::late)
            .flat_map(|(first, last)| (first..=last).map(move |id| tick(space, id)))
            .collect();
        for (number, rows) in late.chunks(late.len().div_ceil(4)).enumerate() {
            let mut rows = rows.to_vec();
            // Two ticks that are stored already, with other prices.
            rows.extend(all[number * 7..number * 7 + 2].iter().map(|tick| but(tick, |tick| tick.price += PRICE_UNIT)));
            shuffle(&mut rows, random);
            self.late.push((format!("{}-late-{number}", SPACES[space]), rows));
        }
    }

    /// Returns the lines of the view `gaps` before the late objects, if nothing is explained yet.
    pub fn before(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.holes.iter().map(|hole| line(hole.space, hole.first, hole.last, "open")).collect();
        lines.sort();
        lines
    }

    /// Returns the lines of the view `gaps` at the end.
    pub fn after(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Hole { space, first, last, fate } in &self.holes {
            match fate {
                Fate::Open => lines.push(line(*space, *first, *last, "open")),
                Fate::Explained => lines.push(line(*space, *first, *last, "explained")),
                Fate::Filled => lines.push(line(*space, *first, *last, "filled")),
                Fate::Split => {
                    lines.push(line(*space, *first, *first, "open"));
                    lines.push(line(*space, *first + 1, *first + 1, "filled"));
                    lines.push(line(*space, *first + 2, *last, "open"));
                }
            }
        }
        lines.sort();
        lines
    }

    /// Returns the statements that explain the holes that are to be explained.
    pub fn explanations(&self) -> String {
        let explained = self.holes.iter().filter(|hole| hole.fate == Fate::Explained);
        let statement = |hole: &Hole| {
            let (asset, first, last) = (SPACES[hole.space], hole.first, hole.last);
            format!("SELECT btc_ingest.explain_gap('{asset}', {first}, {last}, 'the exchange was down');")
        };
        explained.map(statement).collect()
    }
}

/// Brings objects into a random order.
pub fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at as u64 + 1) as usize);
    }
}

fn line(space: usize, first: i64, last: i64, state: &str) -> String {
    format!("{} {first}-{last} {} {state}", SPACES[space], last - first + 1)
}

fn first_id(space: usize) -> i64 {
    1000 + 500 * space as i64
}

/// Makes the tick of an id. The ids of a space are spread over three days.
fn tick(space: usize, id: i64) -> Tick {
    let place = id - first_id(space);
    let event_time_us = time_us(START) + place * (3 * DAY_US / IDS) + 1000;
    Tick {
        event_time_us,
        trade_time_us: Some(event_time_us - 1000),
        symbol: SPACES[space].into(),
        trade_id: id,
        price: (60_000 + place) * PRICE_UNIT,
        quantity: QUANTITY_UNIT,
        buyer_order_id: None,
        seller_order_id: None,
        is_market_maker: id % 2 == 0,
    }
}
