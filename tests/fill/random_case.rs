//! Random loads, and what may happen between them, of a database that is compared with a twin table, which PostgreSQL
//! itself fills row by row.

use std::collections::{BTreeMap, BTreeSet};

use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::sql::{execute, number, texts};
use btc_ingest_kit::ticks::{Random, time_us};

use crate::fill_fixture::{FillFixture, chunks};
use crate::random_ticks::{MIDDLE, NUMBERS, Place, RandomTicks, insert, shuffle};
use crate::scans;

/// Where bucket 0 begins: a Thursday, with which a chunk begins.
const START: &str = "2024-08-08T00:00:00Z";
/// The number of buckets of a chunk of a week.
const WEEK: i64 = 2016;

/// Sizes of objects: around the rows of a leaf page, of a first batch (2,048), and more.
const SIZES: [u64; 16] = [1, 2, 7, 40, 150, 204, 290, 366, 407, 900, 1500, 2047, 2048, 2049, 3000, 6000];

/// Indexes beside the three of every chunk: nulls on either side, several sizes of keys, no deduplication, less filled
/// pages, further columns, and unique ones.
const INDEXES: [&str; 16] = [
    "INDEX ON # (event_time)",
    "INDEX ON # (trade_time DESC)",
    "INDEX ON # (trade_time NULLS FIRST, symbol DESC)",
    "INDEX ON # (buyer_order_id)",
    "INDEX ON # (seller_order_id DESC NULLS LAST)",
    "INDEX ON # (price, quantity DESC)",
    "INDEX ON # (is_market_maker)",
    "INDEX ON # (symbol DESC, trade_id DESC)",
    "INDEX ON # (symbol, trade_id) INCLUDE (price, buyer_order_id)",
    "INDEX ON # (event_time DESC) WITH (deduplicate_items = off)",
    "INDEX ON # (symbol, event_time) WITH (fillfactor = 50)",
    "INDEX ON # (event_time, trade_id) WITH (fillfactor = 10)",
    "INDEX ON # (seller_order_id, event_time DESC) WITH (fillfactor = 100)",
    "UNIQUE INDEX ON # (symbol DESC, bucket_5m DESC, trade_id DESC)",
    "UNIQUE INDEX ON # (trade_id, bucket_5m, symbol) INCLUDE (price)",
    "UNIQUE INDEX ON # (bucket_5m, buyer_order_id, trade_id, symbol) NULLS NOT DISTINCT",
];

/// A database and its twin table.
pub struct RandomCase {
    random: Random,
    pub fixture: FillFixture,
    made: RandomTicks,
    buckets: Vec<i64>,
    stored: BTreeSet<Place>,
    /// The lowest number of a slice, and the one behind the highest.
    ends: BTreeMap<(i64, usize), (i64, i64)>,
    /// The most ticks of an object.
    most: usize,
}

impl RandomCase {
    /// Makes chunks with a few ticks, perhaps further indexes, and the twin.
    pub fn new(seed: u64, mut fixture: FillFixture) -> RandomCase {
        let mut random = Random(seed);
        let made = RandomTicks::new(seed, time_us(START), 20);
        let mut buckets: Vec<i64> = (0..3).map(|_| random.below(WEEK as u64) as i64).collect();
        if random.below(4) == 0 {
            buckets.push(WEEK + random.below(3) as i64);
        }
        // The chunks must be there before their indexes.
        let first: Vec<Place> = buckets.iter().map(|&bucket| Place { bucket, symbol: 0, number: MIDDLE - 1 }).collect();
        fixture.load(&made.ticks(&first));
        execute(&mut fixture.client, "CREATE TABLE public.twin (LIKE market_data.btc_ticks INCLUDING ALL)");
        let mut case =
            RandomCase { random, fixture, made, buckets, stored: BTreeSet::new(), ends: BTreeMap::new(), most: 20_000 };
        case.keep(&first);
        for _ in 0..case.random.below(3) {
            let index = INDEXES[case.random.below(INDEXES.len() as u64) as usize];
            println!("CREATE {index}");
            for table in ["market_data.btc_ticks", "public.twin"] {
                execute(&mut case.fixture.client, &format!("CREATE {}", index.replace('#', table)));
            }
        }
        case
    }

    /// Makes objects of few ticks only.
    pub fn small(self) -> RandomCase {
        RandomCase { most: 900, ..self }
    }

    /// Notes ticks as stored, and stores them in the twin.
    fn keep(&mut self, places: &[Place]) {
        self.stored.extend(places);
        insert(&mut self.fixture.client, "public.twin", &self.made.ticks(places));
    }

    fn one_of(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    /// Loads one object in one way, after something has happened beside it.
    pub fn step(&mut self, step: usize) {
        self.beside();
        let places = self.places();
        let new: BTreeSet<Place> = places.iter().filter(|place| !self.stored.contains(place)).copied().collect();
        let ticks = self.made.ticks(&places);
        let how = self.random.below(8);
        println!("step {step}: {} ticks, {} of them new, way {how}", places.len(), new.len());
        let fixture = &mut self.fixture;
        match how {
            // The twins of what is loaded are dead then.
            0 => {
                execute(&mut fixture.client, "BEGIN");
                assert_eq!(fixture.load(&ticks), new.len() as i64);
                execute(&mut fixture.client, "ROLLBACK");
                if self.random.below(3) == 0 {
                    return;
                }
                assert_eq!(fixture.load(&ticks), new.len() as i64);
            }
            1 => {
                execute(&mut fixture.client, "BEGIN; SAVEPOINT s");
                assert_eq!(fixture.load(&ticks), new.len() as i64);
                execute(&mut fixture.client, "ROLLBACK TO s");
                assert_eq!(fixture.load(&ticks), new.len() as i64);
                execute(&mut fixture.client, "COMMIT");
            }
            2 => {
                let (some, all) = (&ticks[..ticks.len() / 2], &ticks);
                execute(&mut fixture.client, "BEGIN");
                let inserted = fixture.load(some);
                assert_eq!(fixture.load(all) + inserted, new.len() as i64);
                execute(&mut fixture.client, "COMMIT");
            }
            _ => assert_eq!(fixture.load(&ticks), new.len() as i64),
        }
        self.keep(&new.into_iter().collect::<Vec<_>>());
    }

    /// What happens between two loads.
    fn beside(&mut self) {
        if self.one_of(8) {
            let bucket = self.buckets[self.random.below(self.buckets.len() as u64) as usize];
            let from = (bucket + 10_000) * NUMBERS + MIDDLE - self.random.below(2000) as i64;
            let to = from + self.random.below(5000) as i64;
            println!("ticks {from} to {to} are deleted");
            for table in ["market_data.btc_ticks", "public.twin"] {
                let sql = format!("DELETE FROM {table} WHERE trade_id BETWEEN {from} AND {to}");
                execute(&mut self.fixture.client, &sql);
            }
            self.stored.retain(|place| !(from..=to).contains(&place.id()));
        }
        if self.one_of(5) {
            println!("VACUUM");
            execute(&mut self.fixture.client, "VACUUM (INDEX_CLEANUP on) market_data.btc_ticks");
        }
        if self.one_of(5) {
            let mut places = self.places();
            places.truncate(300);
            println!("a client inserts {}", places.len());
            insert(&mut self.fixture.client, "market_data.btc_ticks", &self.made.ticks(&places));
            self.keep(&places);
        }
        if self.one_of(4) {
            // A scan marks the entries that point to dead rows.
            self.scan();
        }
        if self.one_of(20) {
            println!("REINDEX");
            for chunk in chunks(&mut self.fixture.client) {
                execute(&mut self.fixture.client, &format!("REINDEX TABLE {chunk}"));
            }
        }
    }

    /// Returns the places of an object, in the order of its rows.
    fn places(&mut self) -> Vec<Place> {
        let large = self.one_of(10);
        let count = if large { 20_000 } else { SIZES[self.random.below(SIZES.len() as u64) as usize] };
        let count = (count as usize).min(self.most);
        let bucket = self.buckets[self.random.below(self.buckets.len() as u64) as usize];
        let slices: Vec<(i64, usize)> = match self.random.below(4) {
            0 => (0..self.made.symbols.len()).map(|symbol| (bucket, symbol)).collect(),
            1 => self.buckets.iter().map(|bucket| (*bucket, 0)).collect(),
            _ => vec![(bucket, self.random.below(3) as usize)],
        };
        let each = count.div_ceil(slices.len());
        let mut places: Vec<Place> = Vec::new();
        for (bucket, symbol) in slices {
            let numbers = self.numbers(bucket, symbol, each as i64);
            places.extend(numbers.into_iter().map(|number| Place { bucket, symbol, number }));
        }
        match self.random.below(4) {
            0 => places.reverse(),
            1 => shuffle(&mut places, &mut self.random),
            // Symbols take turns.
            2 => places.sort_by_key(|place| place.number),
            _ => {}
        }
        if self.one_of(5) {
            for _ in 0..=self.random.below(20) {
                let again = places[self.random.below(places.len() as u64) as usize];
                places.insert(self.random.below(places.len() as u64) as usize, again);
            }
        }
        places
    }

    /// Returns numbers of a slice: behind or before those that it has, between them, or anywhere.
    fn numbers(&mut self, bucket: i64, symbol: usize, count: i64) -> Vec<i64> {
        let (low, high) = self.ends.get(&(bucket, symbol)).copied().unwrap_or((MIDDLE, MIDDLE));
        let step = 1 + self.random.below(4) as i64;
        let mut ends = (low, high);
        let numbers: Vec<i64> = match self.random.below(6) {
            0 | 1 => {
                ends.1 = high + count;
                (high..high + count).collect()
            }
            2 => {
                ends.0 = low - count;
                (low - count..low).collect()
            }
            // With holes, which a later object fills.
            3 => {
                ends.1 = high + count * step;
                (0..count).map(|at| high + at * step).collect()
            }
            4 => {
                let width = (high - low).max(count) as u64;
                (0..count).map(|_| low + self.random.below(width) as i64).collect()
            }
            _ => (0..count).map(|_| self.random.below(NUMBERS as u64) as i64).collect(),
        };
        if ends.0 > 0 && ends.1 < NUMBERS {
            self.ends.insert((bucket, symbol), ends);
        }
        // No number twice: repeated rows are made above.
        let distinct: BTreeSet<i64> = numbers.into_iter().map(|number| number.clamp(0, NUMBERS - 1)).collect();
        distinct.into_iter().collect()
    }

    /// Scans all indexes of all chunks.
    #[track_caller]
    fn scan(&mut self) {
        for chunk in chunks(&mut self.fixture.client) {
            scans::must_agree(&mut self.fixture.client, &chunk, "true");
        }
    }

    /// Compares with the twin, checks all indexes and scans them.
    #[track_caller]
    pub fn check(&mut self) {
        let columns = "bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity, buyer_order_id,
                       seller_order_id, is_market_maker";
        let sql = format!(
            "WITH ours AS (SELECT {columns} FROM market_data.btc_ticks), twin AS (SELECT {columns} FROM public.twin)
             (SELECT 'too many: ' || t::text FROM (TABLE ours EXCEPT ALL TABLE twin) AS t LIMIT 3) UNION ALL
             (SELECT 'missing: ' || t::text FROM (TABLE twin EXCEPT ALL TABLE ours) AS t LIMIT 3)"
        );
        let differing = texts(&mut self.fixture.client, &sql);
        assert!(differing.is_empty(), "{differing:#?}");
        must_be_sound(&mut self.fixture.client, "after the loads");
        self.scan();
        for chunk in chunks(&mut self.fixture.client) {
            scans::must_have_no_more_entries(&mut self.fixture.client, &chunk);
        }
        let stored = number(&mut self.fixture.client, "SELECT count(*) FROM market_data.btc_ticks");
        assert_eq!(stored, self.stored.len() as i64);
    }
}
