//! Candles of the Community edition over appended ticks: a refresh finds every one of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use btc_ingest_kit::candles::{By, must_hold_candles};
use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::{load, loaded};
use btc_ingest_kit::sql::{Session, execute, texts};
use btc_ingest_kit::ticks::{BUCKET_US, Random, Tick, time_us};
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{Generator, ParquetFile, ServerFixture};
use postgres::Client;

use crate::answers_fixture::{AnswersFixture, NOON, generated};

const SOON: Duration = Duration::from_secs(30);
const MINUTE: i64 = 60_000_000;
/// The candles of these tests: their aggregate, their name, their width, and by which time.
const CANDLES: [(&str, &str, i64, By); 3] = [
    ("btc_ohlcv_1m", "btc_ohlcv_1m", MINUTE, By::Event),
    ("btc_ohlcv_1h", "btc_ohlcv_1h", 60 * MINUTE, By::Event),
    ("btc_ohlcv_1m_tt_parts", "btc_ohlcv_1m_tt", MINUTE, By::Trade),
];

/// Makes a database without candles. `None` where there are no continuous aggregates.
fn community() -> Option<AnswersFixture> {
    let mut fixture = AnswersFixture::new();
    if fixture.text("SHOW timescaledb.license") == "timescale" {
        return Some(fixture);
    }
    println!("skipped: needs the Community edition");
    None
}

/// Makes candles that show what is stored and nothing else.
fn create(fixture: &mut AnswersFixture) {
    fixture.run("SELECT btc_ingest.create_candles('1 minute'), btc_ingest.create_candles('1 hour')");
    fixture.run("SELECT btc_ingest.create_candles('1 minute', by => 'trade_time')");
    for (aggregate, ..) in CANDLES {
        fixture.run(&format!(
            "ALTER MATERIALIZED VIEW market_data.{aggregate} SET (timescaledb.materialized_only = true)"
        ));
    }
}

/// Refreshes what TimescaleDB knows to have changed, and nothing else.
fn refresh(client: &mut Client) {
    for (aggregate, ..) in CANDLES {
        execute(client, &format!("CALL refresh_continuous_aggregate('market_data.{aggregate}', NULL, NULL)"));
    }
}

/// Checks that the table holds exactly these ticks, and, after a refresh, the candles theirs.
#[track_caller]
fn must_hold_all<'a>(fixture: &mut AnswersFixture, ticks: impl IntoIterator<Item = &'a Tick> + Clone) {
    refresh(&mut fixture.client);
    assert_eq!(fixture.number("SELECT count(*) FROM market_data.btc_ticks"), ticks.clone().into_iter().count() as i64);
    for (_, name, width, by) in CANDLES {
        must_hold_candles(&mut fixture.client, &format!("market_data.{name}"), ticks.clone(), width, by);
    }
}

/// Stores later ticks and refreshes, so that TimescaleDB has to log what changes before them.
fn refresh_until_later(fixture: &mut AnswersFixture) -> Vec<Tick> {
    let later = Generator::new(99, "BTCUSDT", time_us(NOON) + 40 * BUCKET_US, 1_000_000).per_second(0.2).next_slice();
    fixture.load("later", &later);
    create(fixture);
    refresh(&mut fixture.client);
    later
}

/// Returns the INSERT of another client for a tick.
fn insert(tick: &Tick) -> String {
    format!(
        "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity, is_market_maker)
         VALUES (to_timestamp({}), to_timestamp({}::numeric / 1000000), '{}', {}, 1, 1, true)",
        tick.bucket_us() / 1_000_000,
        tick.event_time_us,
        tick.symbol,
        tick.trade_id
    )
}

#[test]
fn with_candles_the_ticks_between_the_edges_of_a_load_are_appended() {
    let Some(mut fixture) = community() else { return };
    let mut all = refresh_until_later(&mut fixture);
    let slices = generated("BTCUSDT", 1, 3);
    let uri = fixture.put("slices", &slices);
    fixture.run("BEGIN");
    loaded(&mut fixture.client, &uri, "");
    // Rows of one statement share cmin. The insert path has a subtransaction, and thereby another xmin.
    let statements = texts(
        &mut fixture.client,
        "SELECT string_agg(count || CASE WHEN own THEN ' rows' ELSE ' in a subtransaction' END, ', ' ORDER BY cmin)
           FROM (SELECT cmin::text::int AS cmin, xmin::text = pg_current_xact_id()::text AS own, count(*) AS count
                   FROM market_data.btc_ticks WHERE bucket_5m < '2024-08-08 13:00Z' GROUP BY 1, 2) AS s",
    );
    fixture.run("COMMIT");
    // The first batch has 2,048 rows. The next ones widen the range at its end only.
    assert_eq!(statements, [format!("1 rows, 2046 rows, 1 rows, {} rows, 1 rows", slices.len() - 2_049)]);
    all.extend(slices);
    must_hold_all(&mut fixture, &all);
}

#[test]
fn candles_that_are_made_while_a_load_is_in_a_transaction_have_its_ticks() {
    let Some(mut fixture) = community() else { return };
    let slices = generated("BTCUSDT", 2, 4);
    let half = slices.partition_point(|tick| tick.bucket_us() < time_us(NOON) + 2 * BUCKET_US);
    // A refresh computes what is behind all that it has seen in any case.
    fixture.load("later", &slices[half..]);
    let uri = fixture.put("earlier", &slices[..half]);
    let mut loading = fixture.db.client();
    loading.batch_execute("BEGIN").unwrap();
    loaded(&mut loading, &uri, "");
    let mut making = fixture.db.client();
    let pid = backend_pid(&mut making);
    let made = thread::spawn(move || making.batch_execute("SELECT btc_ingest.create_candles('1 minute')"));
    let waits = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
    wait_until("the candles wait for the load", SOON, || made.is_finished() || fixture.number(&waits) == 1);
    let refresh = "CALL refresh_continuous_aggregate('market_data.btc_ohlcv_1m', NULL, NULL)";
    if made.is_finished() {
        fixture.run(refresh);
    }
    loading.batch_execute("COMMIT").unwrap();
    made.join().unwrap().unwrap();
    fixture.run(refresh);
    fixture.run(refresh);
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1m", &slices, MINUTE, By::Event);
}

/// Loads three slices while another client holds a tick of them, which it has inserted when the load meets it. That
/// tick has other values.
fn load_beside(held: impl Fn(&[Tick]) -> usize) {
    let Some(mut fixture) = community() else { return };
    let mut all = refresh_until_later(&mut fixture);
    let slices = generated("BTCUSDT", 3, 3);
    let held = held(&slices);
    let uri = fixture.put("slices", &slices);
    let mut holding = fixture.db.client();
    holding.batch_execute("BEGIN").unwrap();
    holding.batch_execute(&insert(&slices[held])).unwrap();
    let mut loading = fixture.db.client();
    let pid = backend_pid(&mut loading);
    let report = thread::spawn(move || loaded(&mut loading, &uri, ""));
    let waits =
        format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND locktype = 'transactionid' AND NOT granted");
    wait_until("the load waits for the other client", SOON, || fixture.number(&waits) == 1);
    holding.batch_execute("COMMIT").unwrap();
    let report = report.join().unwrap();
    all.extend(slices.iter().cloned());
    let kept = all.len() - slices.len() + held;
    all[kept].price = 100_000_000;
    all[kept].quantity = 1_000_000_000_000;
    all[kept].is_market_maker = true;
    all[kept].trade_time_us = None;
    must_hold_all(&mut fixture, &all);
    assert_eq!((report.inserted, report.conflicting), (slices.len() as i64 - 1, 1));
}

#[test]
fn an_edge_that_another_session_stores_meanwhile_leaves_no_tick_unnoticed() {
    load_beside(|_| 0);
    load_beside(|slices| slices.len() / 2);
    load_beside(|slices| slices.len() - 1);
}

#[test]
fn edges_that_repeat_within_an_object_are_stored_once() {
    let Some(mut fixture) = community() else { return };
    let mut all = refresh_until_later(&mut fixture);
    let slices = generated("BTCUSDT", 4, 3);
    let mut twice = slices.clone();
    twice.extend([slices[0].clone(), slices[slices.len() - 1].clone()]);
    twice.sort_by_key(|tick| tick.trade_id);
    let report = fixture.load("twice", &twice);
    assert_eq!((report.inserted, report.duplicate), (slices.len() as i64, 2));
    all.extend(slices);
    must_hold_all(&mut fixture, &all);
}

/// Ticks of some weeks that are loaded in pieces, and those of them that are stored.
struct Pieces {
    random: Random,
    /// For each week and symbol.
    weeks: Vec<Vec<Tick>>,
    stored: BTreeMap<(i64, Arc<str>, i64), Tick>,
    objects: usize,
}

impl Pieces {
    fn new(seed: u64) -> Self {
        let start = time_us("2024-07-31T23:35:00Z");
        let week = |index: i64| {
            let symbol = ["BTCUSDT", "ETHUSDT"][index as usize % 2];
            let first = start + index / 2 * 7 * 86_400_000_000;
            Generator::new(seed + index as u64, symbol, first, 1 + index * 1_000_000).per_second(6.0).next_slices(10)
        };
        Pieces { random: Random(seed), weeks: (0..6).map(week).collect(), stored: BTreeMap::new(), objects: 0 }
    }

    /// Makes an object of a part of the ticks: of some buckets of a week or two, in some order, with or without all.
    fn object(&mut self, server: &ServerFixture, prefix: &str, in_order: bool) -> (String, Vec<Tick>) {
        let mut ticks = Vec::new();
        for _ in 0..1 + self.random.below(2) {
            let week = &self.weeks[self.random.below(self.weeks.len() as u64) as usize];
            let first = week[0].bucket_us() + self.random.below(10) as i64 * BUCKET_US;
            let after = first + (1 + self.random.below(10) as i64) * BUCKET_US;
            let part = 0.2 + self.random.fraction();
            let chosen = week.iter().filter(|tick| (first..after).contains(&tick.bucket_us()));
            ticks.extend(chosen.filter(|_| self.random.fraction() < part).cloned());
        }
        ticks.sort_by_key(|tick| (tick.bucket_us(), tick.symbol.clone(), tick.trade_id));
        match self.random.below(3) {
            _ if in_order => {}
            0 => ticks.reverse(),
            1 => (1..ticks.len()).for_each(|at| ticks.swap(at, self.random.below(at as u64 + 1) as usize)),
            _ => {}
        }
        self.objects += 1;
        let key = format!("{prefix}/{}.parquet", self.objects);
        (server.put(&key, ParquetFile::new().bytes(&ticks)), ticks)
    }

    fn store(&mut self, ticks: Vec<Tick>) {
        for tick in ticks {
            self.stored.insert((tick.bucket_us(), tick.symbol.clone(), tick.trade_id), tick);
        }
    }
}

/// Loads objects in one of the ways in which a client may do it, and notes what is stored thereafter.
fn load_somehow(fixture: &mut AnswersFixture, pieces: &mut Pieces) {
    let (server, name) = (fixture.server, fixture.db.name().to_owned());
    let (uri, ticks) = pieces.object(server, &name, false);
    let way = pieces.random.below(5);
    match way {
        0 => drop(loaded(&mut fixture.client, &uri, "")),
        1 => {
            // What was refreshed meanwhile is not seen by this transaction.
            fixture.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
            refresh(&mut fixture.db.client());
            loaded(&mut fixture.client, &uri, "");
            fixture.run("COMMIT");
        }
        2 => {
            let (other, rolled_back) = pieces.object(server, &name, false);
            fixture.run("BEGIN; SAVEPOINT a");
            loaded(&mut fixture.client, &other, "");
            fixture.run("ROLLBACK TO a");
            loaded(&mut fixture.client, &uri, "");
            fixture.run("COMMIT");
            drop(rolled_back);
        }
        3 => {
            fixture.run("BEGIN; SAVEPOINT a");
            loaded(&mut fixture.client, &uri, "");
            fixture.run("ROLLBACK TO a");
            loaded(&mut fixture.client, &uri, "");
            fixture.run("RELEASE a; COMMIT");
        }
        _ => {
            let others: Vec<(String, Vec<Tick>)> = (0..2).map(|_| pieces.object(server, &name, true)).collect();
            thread::scope(|scope| {
                for (uri, _) in &others {
                    let mut client = fixture.db.client();
                    scope.spawn(move || until_no_deadlock(&mut client, uri));
                }
            });
            others.into_iter().for_each(|(_, ticks)| pieces.store(ticks));
            return;
        }
    }
    pieces.store(ticks);
}

/// Loads an object that another session may load the ticks of as well.
fn until_no_deadlock(client: &mut Client, uri: &str) {
    while let Err(error) = load(client, uri, "") {
        assert_eq!(error.code().map(|code| code.code()), Some("40P01"), "{error:?}");
    }
}

#[test]
fn no_refresh_misses_a_tick_in_random_loads() {
    let Some(mut fixture) = community() else { return };
    let seed = std::env::var("BTC_INGEST_TEST_SEED").map_or(21, |text| text.parse().unwrap());
    let rounds = std::env::var("BTC_INGEST_TEST_ROUNDS").map_or(12, |text| text.parse().unwrap());
    let mut pieces = Pieces::new(seed);
    create(&mut fixture);
    for round in 0..rounds {
        println!("seed {seed}, round {round}");
        load_somehow(&mut fixture, &mut pieces);
        must_hold_all(&mut fixture, pieces.stored.values());
    }
}
