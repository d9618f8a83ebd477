//! VACUUM, autovacuum and readers beside loads. Every scan of every index, forward and backward, finds each row that
//! its snapshot holds once and in order, and each tick that was committed before it began.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use btc_ingest_kit::Tick;
use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::rows::must_hold;
use btc_ingest_kit::sql::{execute, number};
use btc_ingest_kit::switches::seeds;
use btc_ingest_kit::ticks::{Random, time_us};
use btc_ingest_kit::wait::{SOON, wait_until};
use postgres::Client;

use crate::fill_fixture::{FillDatabase, FillFixture, chunk, load_until_it_succeeds};
use crate::random_ticks::{MIDDLE, Place, RandomTicks, shuffle};
use crate::scans;

both_ways!(
    scans_beside_loads_find_every_row_once_and_in_order,
    indexes_stay_sound_while_rows_are_deleted_and_vacuumed_beside_loads,
);

const START: &str = "2024-08-08T12:00:00Z";
/// The symbols of the two loaders, and the one whose ticks are loaded, rolled back and deleted.
const LOADERS: usize = 2;
const DOOMED: usize = 2;
const OBJECTS: i64 = 8;
const TICKS: i64 = 1500;

/// A server whose autovacuum does not wait.
const VACUUMED: [(&str, &str); 6] = [
    ("autovacuum_naptime", "1s"),
    ("autovacuum_vacuum_cost_delay", "0"),
    ("autovacuum_vacuum_threshold", "50"),
    ("autovacuum_vacuum_scale_factor", "0"),
    ("autovacuum_vacuum_insert_threshold", "500"),
    ("autovacuum_vacuum_insert_scale_factor", "0"),
];

/// A server of its own, and what its sessions share.
struct ReadersFixture {
    db: FillDatabase,
    made: RandomTicks,
    seed: u64,
    /// The chunk's table.
    chunk: String,
    /// Ticks of the loaders that are committed.
    committed: AtomicI64,
    ended: AtomicBool,
}

impl ReadersFixture {
    fn new(fill: &str, seed: u64) -> ReadersFixture {
        println!("seed {seed}, index_fill = {fill}");
        let db = FillFixture::alone(fill, &VACUUMED).db;
        let made = RandomTicks::new(seed, time_us(START), LOADERS + 1);
        let mut fixture = ReadersFixture {
            db,
            made,
            seed,
            chunk: String::new(),
            committed: AtomicI64::new(0),
            ended: AtomicBool::new(false),
        };
        let mut client = fixture.client();
        let first = fixture.object("first", &[Place { bucket: 0, symbol: 0, number: MIDDLE - 1 }]);
        load_until_it_succeeds(&mut client, &first);
        fixture.committed.store(1, Ordering::SeqCst);
        fixture.chunk = chunk(&mut client);
        fixture
    }

    fn client(&self) -> Client {
        self.db.session()
    }

    fn object(&self, key: &str, places: &[Place]) -> String {
        self.db.put_as(key, &self.made.ticks(places))
    }

    /// Returns the places of one object of a symbol, in a random order. Those of even objects are between those of odd
    /// ones.
    fn places(&self, symbol: usize, number: i64, random: &mut Random) -> Vec<Place> {
        let (pair, odd) = (number / 2, number % 2);
        let bucket = pair % 2;
        let first = MIDDLE + pair * 2 * TICKS + odd;
        let mut places: Vec<Place> = (0..TICKS).map(|at| Place { bucket, symbol, number: first + 2 * at }).collect();
        match random.below(3) {
            0 => places.reverse(),
            1 => shuffle(&mut places, random),
            _ => {}
        }
        places
    }

    /// Loads all objects of a symbol. Returns their ticks.
    fn load_all(&self, symbol: usize) -> Vec<Tick> {
        let (mut client, mut random) = (self.client(), Random(self.seed + symbol as u64));
        let mut all = Vec::new();
        for number in 0..OBJECTS {
            let places = self.places(symbol, number, &mut random);
            let uri = self.object(&format!("{symbol}/{number}.parquet"), &places);
            let report = load_until_it_succeeds(&mut client, &uri);
            assert_eq!(report.inserted, TICKS);
            self.committed.fetch_add(TICKS, Ordering::SeqCst);
            all.extend(self.made.ticks(&places));
        }
        all
    }

    /// Loads ticks of a symbol of its own again and again: some loads are rolled back, and what is stored is deleted.
    fn load_and_delete(&self) {
        let (mut client, mut random) = (self.client(), Random(self.seed ^ 0x64));
        let mut number = 0;
        while !self.ended.load(Ordering::SeqCst) {
            let places = self.places(DOOMED, number, &mut random);
            let uri = self.object(&format!("doomed/{number}.parquet"), &places);
            execute(&mut client, "BEGIN");
            let report = loaded(&mut client, &uri, "");
            assert_eq!(report.inserted, TICKS);
            execute(&mut client, if random.below(2) == 0 { "ROLLBACK" } else { "COMMIT" });
            let symbol = &self.made.symbols[DOOMED];
            execute(&mut client, &format!("DELETE FROM {} WHERE symbol = '{symbol}'", self.chunk));
            number += 1;
        }
    }

    /// Scans as long as loads run. Returns how often.
    fn read(&self) -> usize {
        let mut client = self.client();
        let mut scans = 0;
        let condition = format!("symbol <> '{}'", self.made.symbols[DOOMED]);
        while !self.ended.load(Ordering::SeqCst) {
            let committed = self.committed.load(Ordering::SeqCst);
            let found = scans::must_agree(&mut client, &self.chunk, &condition);
            assert!(found >= committed, "{committed} ticks were committed before the scan, {found} are found");
            scans::must_agree(&mut client, &self.chunk, "true");
            scans += 1;
        }
        scans
    }

    /// Checks all indexes as long as loads run, as one does on a live server.
    fn check(&self) {
        let mut client = self.client();
        execute(&mut client, "CREATE SCHEMA amcheck; CREATE EXTENSION amcheck SCHEMA amcheck");
        let sql = format!(
            "SELECT amcheck.bt_index_check(indexrelid, true) FROM pg_index WHERE indrelid = '{}'::regclass",
            self.chunk
        );
        while !self.ended.load(Ordering::SeqCst) {
            execute(&mut client, &sql);
        }
    }

    /// Vacuums as long as loads run.
    fn vacuum(&self) {
        let mut client = self.client();
        while !self.ended.load(Ordering::SeqCst) {
            execute(&mut client, &format!("VACUUM (INDEX_CLEANUP on) {}", self.chunk));
        }
    }

    /// Loads with everything beside it that `beside` starts. Returns all ticks that must be stored.
    fn run(&self, beside: &[fn(&Self)]) -> Vec<Tick> {
        std::thread::scope(|scope| {
            let loads: Vec<_> = (0..LOADERS).map(|symbol| scope.spawn(move || self.load_all(symbol))).collect();
            let others: Vec<_> = beside.iter().map(|other| scope.spawn(move || other(self))).collect();
            let loaded: Vec<_> = loads.into_iter().map(|load| load.join()).collect();
            self.ended.store(true, Ordering::SeqCst);
            others.into_iter().for_each(|other| other.join().unwrap());
            let first = self.made.tick(Place { bucket: 0, symbol: 0, number: MIDDLE - 1 });
            loaded.into_iter().flat_map(|load| load.unwrap()).chain([first]).collect()
        })
    }

    #[track_caller]
    fn must_hold(&self, ticks: &[Tick]) {
        let mut client = self.client();
        let symbol = &self.made.symbols[DOOMED];
        execute(&mut client, &format!("DELETE FROM {} WHERE symbol = '{symbol}'", self.chunk));
        must_hold(&mut client, ticks);
        must_be_sound(&mut client, "after the loads");
        scans::must_have_no_more_entries(&mut client, &self.chunk);
        must_be_sound(&mut client, "after a vacuum");
    }
}

fn scans_beside_loads_find_every_row_once_and_in_order(fill: &str) {
    for seed in seeds(1) {
        let fixture = ReadersFixture::new(fill, seed);
        let ticks = fixture.run(&[
            |fixture| assert!(fixture.read() > 0),
            ReadersFixture::check,
            ReadersFixture::load_and_delete,
        ]);
        fixture.must_hold(&ticks);
    }
}

fn indexes_stay_sound_while_rows_are_deleted_and_vacuumed_beside_loads(fill: &str) {
    for seed in seeds(1) {
        let fixture = ReadersFixture::new(fill, seed);
        let ticks = fixture
            .run(&[ReadersFixture::load_and_delete, ReadersFixture::vacuum, |fixture| assert!(fixture.read() > 0)]);
        fixture.must_hold(&ticks);
        let sql =
            format!("SELECT autovacuum_count FROM pg_stat_all_tables WHERE relid = '{}'::regclass", fixture.chunk);
        let mut client = fixture.client();
        // Autovacuum may have had nothing to do so far.
        let dead = format!(
            "BEGIN; INSERT INTO {0} (bucket_5m, event_time, symbol, trade_id)
             SELECT bucket_5m, event_time, symbol, -trade_id FROM {0} LIMIT 500; ROLLBACK",
            fixture.chunk
        );
        execute(&mut client, &dead);
        wait_until("autovacuum", SOON.max(Duration::from_secs(60)), || number(&mut client, &sql) > 0);
        must_be_sound(&mut client, "after autovacuum");
    }
}
