//! Indexes that are filled in runs (`btc_ingest.index_fill`): they are what PostgreSQL's own insertions make of them,
//! by the checks of amcheck, and what is stored is exact.

use btc_ingest_kit::fixture::{Refusal, load, loaded};
use btc_ingest_kit::rows::{but, must_hold};
use btc_ingest_kit::sql::{execute, number, text, texts};
use btc_ingest_kit::ticks::{BUCKET_US, Random, Tick, time_us};
use btc_ingest_kit::{Generator, ParquetFile, ServerFixture, TestDb};
use postgres::Client;

const START: &str = "2024-08-08T12:00:00Z";
/// All indexes of all chunks.
const INDEXES: &str = "SELECT x.indexrelid::regclass FROM pg_index x JOIN pg_inherits h ON h.inhrelid = x.indrelid
                        WHERE h.inhparent = 'market_data.btc_ticks'::regclass";

/// A database whose hypertable has a chunk, and a session that fills indexes in runs.
struct RunsFixture {
    server: &'static ServerFixture,
    db: TestDb<'static>,
    client: Client,
    ticks: Vec<Tick>,
    objects: usize,
}

impl RunsFixture {
    fn new(fill: &str) -> RunsFixture {
        Self::on(ServerFixture::shared(), fill)
    }

    fn on(server: &'static ServerFixture, fill: &str) -> RunsFixture {
        let db = server.db();
        let mut client = db.client();
        execute(&mut client, "CREATE EXTENSION amcheck");
        execute(&mut client, &format!("LOAD 'btc_ingest'; SET btc_ingest.index_fill = {fill}"));
        let mut this = RunsFixture { server, db, client, ticks: Vec::new(), objects: 0 };
        let first = Generator::new(7, "AAAUSDT", time_us(START), 1).per_second(0.1).next_slice();
        this.load(&first);
        this
    }

    fn put(&mut self, ticks: &[Tick]) -> String {
        self.objects += 1;
        let key = format!("{}/{}.parquet", self.db.name(), self.objects);
        self.server.put(&key, ParquetFile::new().bytes(ticks))
    }

    /// Loads new ticks.
    #[track_caller]
    fn load(&mut self, ticks: &[Tick]) {
        let uri = self.put(ticks);
        assert_eq!(loaded(&mut self.client, &uri, "").inserted, ticks.len() as i64);
        self.ticks.extend_from_slice(ticks);
    }

    /// Checks everything: the order and the completeness of every index, and every stored tick.
    #[track_caller]
    fn must_be_sound(&mut self) {
        for index in texts(&mut self.client, &format!("SELECT i::text FROM ({INDEXES}) AS x (i)")) {
            let sql = format!("SELECT bt_index_parent_check('{index}', true, true)");
            self.client.execute(&sql, &[]).unwrap_or_else(|error| panic!("{index}: {error:?}"));
        }
        must_hold(&mut self.client, &self.ticks);
    }
}

/// Makes ticks of a symbol, in groups with the same event time.
fn grouped(symbol: &str, start: i64, first_id: i64, sizes: impl IntoIterator<Item = usize>) -> Vec<Tick> {
    let like = &Generator::new(1, symbol, start, 1).next_slice()[0];
    let groups = sizes.into_iter().enumerate();
    let times = groups.flat_map(|(group, size)| std::iter::repeat_n(start + group as i64 * 1_000, size));
    let tick = |(id, time): (usize, i64)| {
        but(like, |tick| {
            tick.trade_id = first_id + id as i64;
            tick.event_time_us = time;
            tick.trade_time_us = Some(time);
        })
    };
    times.enumerate().map(tick).collect()
}

#[test]
fn runs_make_full_pages_with_half_of_the_wal() {
    let ticks = Generator::new(1, "BTCUSDT", time_us(START), 1).per_second(5.0).next_slices(40);
    // A server of its own: the WAL is that of all sessions.
    let server = Box::leak(Box::new(ServerFixture::start()));
    let wal = ["row", "runs"].map(|fill| {
        let mut fixture = RunsFixture::on(server, fill);
        let before = text(&mut fixture.client, "SELECT pg_current_wal_insert_lsn()::text");
        fixture.load(&ticks);
        let sql = format!("SELECT (pg_current_wal_insert_lsn() - '{before}')::bigint");
        let wal = number(&mut fixture.client, &sql);
        fixture.must_be_sound();
        let size = format!("SELECT sum(pg_relation_size(i))::bigint FROM ({INDEXES}) AS x (i)");
        let filled = number(&mut fixture.client, &size);
        for index in texts(&mut fixture.client, &format!("SELECT i::text FROM ({INDEXES}) AS x (i)")) {
            execute(&mut fixture.client, &format!("REINDEX INDEX {index}"));
        }
        let fresh = number(&mut fixture.client, &size);
        if fill == "runs" {
            assert!(filled as f64 <= 1.1 * fresh as f64, "{filled} bytes, {fresh} when built anew");
        }
        wal
    });
    println!("WAL row by row {} and in runs {}", wal[0], wal[1]);
    assert!(wal[1] as f64 <= 0.7 * wal[0] as f64, "{wal:?}");
}

#[test]
fn many_equal_keys_at_the_borders_of_pages_keep_their_order() {
    let mut fixture = RunsFixture::new("runs");
    let mut random = Random(3);
    // Later ones first, then earlier ones, then both between them.
    for (number, bucket) in [8, 0, 4, 2, 6, 1, 3].into_iter().enumerate() {
        let sizes: Vec<usize> = (0..60).map(|_| 1 + random.pareto(0.6).min(700.0) as usize).collect();
        let start = time_us(START) + bucket * BUCKET_US + 1_000_000;
        let ticks = grouped("BTCUSDT", start, 1_000_000 * bucket, sizes);
        let (even, odd): (Vec<Tick>, Vec<Tick>) = ticks.into_iter().partition(|tick| tick.trade_id % 2 == 0);
        fixture.load(&even);
        fixture.load(&odd);
        if number % 3 == 0 {
            fixture.must_be_sound();
        }
    }
    fixture.must_be_sound();
}

#[test]
fn several_symbols_and_objects_in_any_order_are_stored_exactly() {
    for seed in 0..4 {
        let mut fixture = RunsFixture::new("runs");
        let mut random = Random(seed);
        let symbols: Vec<String> = (0..1 + seed * 6).map(|number| format!("S{number:02}USDT")).collect();
        let mut objects: Vec<Vec<Tick>> = Vec::new();
        for symbol in &symbols {
            let mut generator = Generator::new(seed, symbol, time_us(START), 1).per_second(2.0);
            (0..12).for_each(|_| objects.push(generator.next_slice()));
        }
        for at in (1..objects.len()).rev() {
            objects.swap(at, random.below(at as u64 + 1) as usize);
        }
        // Some are loaded twice, some by a transaction that is rolled back to a savepoint, and some together.
        while let Some(mut object) = objects.pop() {
            let uri = fixture.put(&object);
            match random.below(4) {
                0 => {
                    execute(&mut fixture.client, "BEGIN; SAVEPOINT a");
                    load(&mut fixture.client, &uri, "").unwrap();
                    execute(&mut fixture.client, "ROLLBACK TO a; COMMIT");
                    fixture.load(&object);
                }
                1 => {
                    fixture.load(&object);
                    let again = fixture.put(&object);
                    assert_eq!(loaded(&mut fixture.client, &again, "").inserted, 0);
                }
                2 => {
                    object.extend(objects.pop().unwrap_or_default());
                    object.sort_by_key(|tick| tick.event_time_us);
                    fixture.load(&object);
                }
                _ => fixture.load(&object),
            }
        }
        fixture.must_be_sound();
    }
}

#[test]
fn two_loaders_in_runs_store_every_tick_once() {
    let mut fixture = RunsFixture::new("runs");
    let ticks = Generator::new(5, "BTCUSDT", time_us(START), 1).per_second(4.0).next_slices(12);
    // Overlapping objects: each loader has two thirds of the ticks, in pieces that alternate.
    let pieces: Vec<Vec<Tick>> = ticks.chunks(ticks.len() / 30).map(<[Tick]>::to_vec).collect();
    let uris: Vec<String> = pieces.windows(2).map(|pair| fixture.put(&pair.concat())).collect();
    std::thread::scope(|scope| {
        for loader in 0..2 {
            let (uris, db) = (&uris, &fixture.db);
            scope.spawn(move || {
                let mut client = db.client();
                execute(&mut client, "LOAD 'btc_ingest'; SET btc_ingest.index_fill = runs");
                for uri in uris.iter().skip(loader).step_by(2) {
                    // Each may wait for what the other has appended.
                    while let Err(error) = load(&mut client, uri, "") {
                        assert_eq!(Refusal::from(error).sqlstate, "40P01");
                    }
                }
            });
        }
    });
    fixture.ticks.extend(ticks);
    fixture.must_be_sound();
}
