//! The search for similar windows among 100,000, and whether it helps to tell what follows.

use std::io::Write;
use std::time::Instant;

use btc_ingest::model::window::{FEATURE_VERSION, Trade, WindowBuilder};
use btc_ingest_kit::ticks::Random;
use postgres::Client;

use crate::bench::Bench;
use crate::results::{Results, median};

/// Windows of both assets together.
const WINDOWS: usize = 100_000;
/// Trades of a window.
const TRADES: usize = 150;
/// Calls of a row.
const CALLS: usize = 200;
/// The windows behind these are asked for, so that there is a past.
const FIRST_ASKED: usize = WINDOWS * 2 / 3;
/// Neighbours from which the next window's volatility is predicted.
const NEIGHBOURS: i64 = 20;
/// Windows whose next volatility is predicted.
const PREDICTIONS: usize = 1_000;
const START: &str = "timestamptz '2023-01-01 00:00Z'";

/// The rows of this file.
pub const ROWS: &[&str] = &["similar-ivfflat", "similar-hnsw", "similar-helps"];

/// A made-up market. The logarithm of its volatility is an autoregression with jumps, so that regimes last for hours;
/// how strongly trades cluster, follow one another's side and trend changes with it, and says which way the volatility
/// goes.
struct Market {
    random: Random,
    level: f64,
    state: f64,
}

impl Market {
    fn normal(&mut self) -> f64 {
        (-2.0 * self.random.fraction().ln()).sqrt() * (std::f64::consts::TAU * self.random.fraction()).cos()
    }

    /// Returns the trades of the next window, and its realised volatility.
    fn next(&mut self) -> (Vec<Trade>, f64) {
        self.state = 0.9 * self.state + 0.44 * self.normal();
        // Clustered and one-sided trading comes before a rise of the volatility.
        self.level = 0.95 * self.level + 0.15 * self.state + 0.1 * self.normal();
        let step = (self.level - 10.0).exp();
        let clumps = 1.0 + (0.5 + self.state).max(0.0);
        let stay = 0.5 + 0.4 / (1.0 + (-self.state).exp());
        let mut times: Vec<i64> = (0..TRADES).map(|_| (self.random.fraction().powf(clumps) * 2.99e8) as i64).collect();
        times.sort_unstable();
        let (mut log, mut squares, mut buys) = (60_000.0_f64.ln(), 0.0, true);
        let trades = times.into_iter().map(|offset_us| {
            buys = if self.random.fraction() < stay { buys } else { !buys };
            let change = step * (self.normal() + if buys { 0.3 } else { -0.3 });
            log += change;
            squares += change * change;
            let quantity = (2.0 * self.normal() - 4.0).exp();
            Trade { offset_us, price: log.exp(), quantity, taker_buys: Some(buys) }
        });
        let trades: Vec<Trade> = trades.collect();
        (trades, squares.sqrt())
    }
}

/// Stores the windows of two assets, with the volatility of the next window as their label. Returns that volatility.
fn fill(client: &mut Client) -> Vec<f64> {
    client.batch_execute("TRUNCATE signals.btc_embeddings").expect("the table of vectors");
    let mut market = Market { random: Random(22), level: 0.0, state: 0.0 };
    let made: Vec<(String, f64)> = (0..WINDOWS)
        .map(|_| {
            let (trades, volatility) = market.next();
            let mut builder = WindowBuilder::default();
            trades.iter().for_each(|trade| builder.add(trade));
            let numbers: Vec<String> = builder.finish().vector.iter().map(ToString::to_string).collect();
            (numbers.join(","), volatility)
        })
        .collect();
    let create = "CREATE TEMPORARY TABLE made (place bigint, numbers text, volatility float8)";
    client.batch_execute(create).expect("a table");
    let mut copy = client.copy_in("COPY made FROM STDIN").expect("a COPY");
    for (place, (numbers, volatility)) in made.iter().enumerate() {
        writeln!(copy, "{place}\t[{numbers}]\t{volatility}").expect("a row");
    }
    copy.finish().expect("rows");
    let insert = format!(
        "INSERT INTO signals.btc_embeddings (bucket, exchange, asset, feature_vector, feature_version, ticks,
                                             label_snapshot, labelled_to)
         SELECT b.bucket, 'binance', CASE WHEN m.place % 2 = 0 THEN 'BTCUSDT' ELSE 'ETHUSDT' END, m.numbers::vector,
                '{FEATURE_VERSION}', {TRADES},
                jsonb_build_object('5m', jsonb_build_object('realised_volatility', n.volatility)),
                b.bucket + interval '10 minutes'
           FROM made m JOIN made n ON n.place = m.place + 1
          CROSS JOIN LATERAL (SELECT {START} + m.place * interval '5 minutes' AS bucket) AS b;
         DROP TABLE made"
    );
    client.batch_execute(&insert).expect("vectors");
    made.into_iter().map(|(_, volatility)| volatility).collect()
}

fn bucket(place: usize) -> String {
    format!("({START} + {place} * interval '5 minutes')")
}

/// The call that is measured: the ten nearest windows of one asset that were known then.
fn call(place: usize, k: i64) -> String {
    let bucket = bucket(place);
    let asset = if place % 2 == 0 { "BTCUSDT" } else { "ETHUSDT" };
    format!(
        "SELECT similar_bucket::text, (labels -> '5m' ->> 'realised_volatility')::float8
           FROM btc_ingest.similar({bucket}, '{asset}', {k}, before => {bucket}, assets => '{{{asset}}}')"
    )
}

/// Measures the search through both kinds of index, and what it is good for.
pub fn similar(bench: &Bench, results: &mut Results) {
    bench.servers.reset();
    let mut client = bench.servers.session();
    let volatility = fill(&mut client);
    client.batch_execute("SET maintenance_work_mem = '1GB'").expect("a setting");
    let places: Vec<usize> = (0..CALLS).map(|n| FIRST_ASKED + n * (WINDOWS - FIRST_ASKED - 2) / CALLS).collect();
    let exact: Vec<Vec<String>> = {
        client.batch_execute("SET enable_indexscan = off").expect("a setting");
        let found = places.iter().map(|place| buckets(&mut client, &call(*place, 10))).collect();
        client.batch_execute("RESET enable_indexscan").expect("a setting");
        found
    };
    for (key, kind) in [("similar-ivfflat", "ivfflat"), ("similar-hnsw", "hnsw")] {
        if !bench.options.wants_any(&[key]) {
            continue;
        }
        let start = Instant::now();
        client.query_one("SELECT btc_ingest.rebuild_embedding_index($1)", &[&kind]).expect("an index");
        let build = start.elapsed().as_secs_f64();
        let (mut times, mut hits) = (Vec::new(), 0);
        for (place, exact) in places.iter().zip(&exact) {
            let sql = call(*place, 10);
            buckets(&mut client, &sql);
            let start = Instant::now();
            let found = buckets(&mut client, &sql);
            times.push(start.elapsed().as_secs_f64());
            assert_eq!(found.len(), 10, "{key}: {found:?}");
            hits += found.iter().filter(|bucket| exact.contains(bucket)).count();
        }
        let recall = hits as f64 / (10 * places.len()) as f64;
        results.add(key, median(&times).unwrap_or_default(), 0);
        results.note(key, format!("recall@10 {recall:.3}; index made in {build:.0} s"));
    }
    if bench.options.wants_any(&["similar-helps"]) {
        helps(&mut client, &volatility, results);
    }
}

fn buckets(client: &mut Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).expect("windows").iter().map(|row| row.get(0)).collect()
}

/// Predicts the logarithm of the next window's volatility, and notes how much of its variance is explained.
fn helps(client: &mut Client, volatility: &[f64], results: &mut Results) {
    let mut random = Random(7);
    let (mut similar, mut same, mut any, mut wanted, mut times) = (vec![], vec![], vec![], vec![], vec![]);
    for n in 0..PREDICTIONS {
        let place = FIRST_ASKED + n * (WINDOWS - FIRST_ASKED - 2) / PREDICTIONS;
        let start = Instant::now();
        let rows = client.query(&call(place, NEIGHBOURS), &[]).expect("windows");
        times.push(start.elapsed().as_secs_f64());
        let labels: Vec<f64> = rows.iter().map(|row| row.get::<_, f64>(1).ln()).collect();
        similar.push(mean(&labels));
        same.push(volatility[place].ln());
        // Windows of the same hour of another day.
        let days = place / 288;
        let others = (0..NEIGHBOURS).map(|_| (random.below(days as u64) as usize) * 288 + place % 288);
        any.push(mean(&others.map(|other| volatility[other + 1].ln()).collect::<Vec<_>>()));
        wanted.push(volatility[place + 1].ln());
    }
    let explained = |predicted: &[f64]| squared_correlation(predicted, &wanted);
    results.add("similar-helps", median(&times).unwrap_or_default(), 0);
    results.note(
        "similar-helps",
        format!(
            "R² {:.2}; of persistence {:.2}, of random windows of the same hour {:.2}; generated regimes",
            explained(&similar),
            explained(&same),
            explained(&any)
        ),
    );
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Returns the part of the variance that a linear fit of the prediction explains.
fn squared_correlation(one: &[f64], other: &[f64]) -> f64 {
    let (mean_one, mean_other) = (mean(one), mean(other));
    let product =
        |a: &[f64], ma: f64, b: &[f64], mb: f64| -> f64 { a.iter().zip(b).map(|(a, b)| (a - ma) * (b - mb)).sum() };
    product(one, mean_one, other, mean_other).powi(2)
        / (product(one, mean_one, one, mean_one) * product(other, mean_other, other, mean_other))
}
