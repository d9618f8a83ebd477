//! The search for similar windows, by each kind of index and by none, and whether what followed them foretells.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use btc_ingest::model::window::FEATURE_VERSION;
use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::ticks::{BUCKET_US, time_us};
use postgres::{Client, NoTls};

use crate::bench::Bench;
use crate::data::START;
use crate::format::{duration, grouped, megabytes};
use crate::regimes::{Made, Market};
use crate::results::{Results, median};
use crate::servers::{Servers, timed};

/// The rows that search among [`WINDOWS`] windows.
pub const NEED_WINDOWS: &[&str] = &["similar-exact", "similar-ivfflat", "similar-hnsw", "helps"];
/// The row that takes far longer than all others, and is measured only if it is named.
pub const MILLION: &str = "similar-million";
/// The row that says how well what followed similar windows foretells.
const HELPS: &str = "helps";
/// How many windows there are. Each asset has half of them, and a search is for one asset.
const WINDOWS: usize = 100_000;
const ASSETS: [&str; 2] = ["BTCUSDT", "ETHUSDT"];
/// Windows that are asked for in one round, and neighbours of each.
const QUERIES: usize = 100;
const K: usize = 10;
/// Windows whose volatility is foretold, and the neighbours that foretell it.
const FORETOLD: usize = 300;
const NEIGHBOURS: usize = 50;
/// Microseconds from 1970 to 2000.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

const INTO: &str = "signals.btc_embeddings (bucket, exchange, asset, feature_vector, feature_version, label_snapshot, \
                    labelled_to)";

/// Generates the windows, and stores them in a database for each kind of index.
pub fn make(servers: &Servers) {
    let file = servers.file("windows.copy");
    write(&file, WINDOWS / ASSETS.len());
    for (database, kind) in [(database("ivfflat"), "ivfflat"), (database("hnsw"), "hnsw")] {
        servers.create_database(&database);
        fill(&mut servers.cluster.client(&database), &file, kind);
    }
}

fn database(kind: &str) -> String {
    format!("bench_{kind}")
}

/// Stores the windows and makes the index. Returns the seconds that the index took.
fn fill(client: &mut Client, file: &Path, kind: &str) -> f64 {
    let copy = format!("COPY {INTO} FROM '{}' (FORMAT binary)", file.display());
    client.batch_execute(&copy).expect("the windows");
    client.batch_execute("SET maintenance_work_mem = '4GB'").expect("a setting");
    let rebuild = format!("SELECT btc_ingest.rebuild_embedding_index('{kind}')");
    let (row, seconds) = timed(|| client.query_one(&rebuild, &[]));
    client.batch_execute("VACUUM (ANALYZE) signals.btc_embeddings").expect("a vacuum");
    eprintln!("  {} in {}", row.get::<_, String>(0), duration(seconds));
    seconds
}

/// Writes the windows of each asset in the format of a binary COPY, labelled with what followed five minutes long.
fn write(file: &Path, each: usize) {
    let mut to = BufWriter::new(File::create(file).expect("a file"));
    let mut put = |bytes: &[u8]| to.write_all(bytes).expect("a file");
    put(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for (seed, asset) in ASSETS.iter().enumerate() {
        let mut made = Market::new(seed as u64 + 1).peekable();
        for number in 0..each {
            let (Some(window), Some(next)) = (made.next(), made.peek()) else { return };
            put(&row(time_us(START) + number as i64 * BUCKET_US, asset, &window, next));
        }
    }
    put(&(-1_i16).to_be_bytes());
    to.flush().expect("a file");
}

fn row(bucket: i64, asset: &str, made: &Made, next: &Made) -> Vec<u8> {
    let label = format!("{{\"5m\": {{\"return\": {}, \"realised_volatility\": {}}}}}", next.change, next.volatility);
    let mut vector = [(made.window.vector.len() as i16).to_be_bytes(), [0; 2]].concat();
    made.window.vector.iter().for_each(|number| vector.extend(number.to_be_bytes()));
    let time = |us: i64| (us - POSTGRES_EPOCH_US).to_be_bytes();
    let fields: [&[u8]; 7] = [
        &time(bucket),
        b"bench",
        asset.as_bytes(),
        &vector,
        FEATURE_VERSION.as_bytes(),
        // jsonb is sent as its version and a text.
        &[b"\x01", label.as_bytes()].concat(),
        &time(bucket + 2 * BUCKET_US),
    ];
    let mut row = (fields.len() as i16).to_be_bytes().to_vec();
    for field in fields {
        row.extend((field.len() as i32).to_be_bytes());
        row.extend(field);
    }
    row
}

/// Measures searches for the windows before one of the same asset: the median call, and how many of the nearest it
/// finds.
pub fn search(bench: &Bench, results: &mut Results) {
    let mut exact = bench.servers.cluster.client(&database("hnsw"));
    let wanted = asked(&mut exact);
    let (truth, seconds) = exact_search(&mut exact, &wanted);
    results.add("similar-exact", seconds, 0);
    for (key, kind) in [("similar-ivfflat", "ivfflat"), ("similar-hnsw", "hnsw")] {
        let mut client = bench.servers.cluster.client(&database(kind));
        let (recall, seconds, busy) = index_search(&mut client, &wanted, &truth);
        results.add(key, seconds, 0);
        results.note(key, format!("recall@{K} {recall:.3}; {} on a processor", duration(busy)));
    }
}

/// Returns the windows that are asked for: of both assets, in the last third of the time.
fn asked(client: &mut Client) -> Vec<(String, String)> {
    let sql = format!(
        "SELECT e.bucket::text, e.asset FROM signals.btc_embeddings e,
                (SELECT min(bucket) AS first, max(bucket) AS last FROM signals.btc_embeddings) r
          WHERE e.bucket > r.last - (r.last - r.first) / 3
          ORDER BY md5(e.bucket::text || e.asset) LIMIT {QUERIES}"
    );
    client.query(&sql, &[]).expect("windows").iter().map(|row| (row.get(0), row.get(1))).collect()
}

type Neighbours = Vec<Vec<String>>;

fn exact_search(client: &mut Client, asked: &[(String, String)]) -> (Neighbours, f64) {
    let sql = format!(
        "SELECT e.bucket::text FROM signals.btc_embeddings e
          WHERE e.asset = $2::text AND e.labelled_to <= $1::text::timestamptz
            AND e.feature_version = '{FEATURE_VERSION}' AND e.bucket <= $1::text::timestamptz - interval '1 hour'
          ORDER BY e.feature_vector <-> (SELECT o.feature_vector FROM signals.btc_embeddings o
                                          WHERE o.bucket = $1::text::timestamptz AND o.asset = $2::text) LIMIT {K}"
    );
    client.batch_execute("SET enable_indexscan = off; SET max_parallel_workers_per_gather = 0").expect("settings");
    neighbours(client, &sql, asked)
}

/// Returns which part of the nearest was found, the seconds of the median call, and the seconds that a call had a
/// processor on average: other programs do not lengthen them.
fn index_search(client: &mut Client, asked: &[(String, String)], truth: &Neighbours) -> (f64, f64, f64) {
    let sql = format!(
        "SELECT similar_bucket::text FROM btc_ingest.similar($1::text::timestamptz, $2::text, k => {K},
                before => $1::text::timestamptz, assets => ARRAY[$2::text])"
    );
    // The first call of a session loads libraries.
    neighbours(client, &sql, &asked[..1]);
    let pid = backend_pid(client);
    let before = processor_seconds(pid);
    let (found, seconds) = neighbours(client, &sql, asked);
    let busy = (processor_seconds(pid) - before) / asked.len() as f64;
    let hits = found.iter().zip(truth).map(|(found, truth)| found.iter().filter(|one| truth.contains(one)).count());
    (hits.sum::<usize>() as f64 / (asked.len() * K) as f64, seconds, busy)
}

/// Returns how long a process has had a processor.
fn processor_seconds(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("a process");
    text.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).expect("a number") / 1e9
}

/// Returns the neighbours of each window, and the seconds of the median call.
fn neighbours(client: &mut Client, sql: &str, asked: &[(String, String)]) -> (Neighbours, f64) {
    let mut times = Vec::new();
    let found = asked.iter().map(|(bucket, asset)| {
        let (rows, seconds) = timed(|| client.query(sql, &[bucket, asset]));
        times.push(seconds);
        assert_eq!(rows.len(), K, "{bucket} {asset}");
        rows.iter().map(|row| row.get(0)).collect()
    });
    let found = found.collect();
    (found, median(&times).expect("calls"))
}

/// Measures the same among a million windows with hnsw, with the time and the memory of the index's build.
pub fn million(bench: &Bench, results: &mut Results) {
    if !bench.options.names(MILLION) {
        results.note(MILLION, format!("skipped: it takes long; --only {MILLION}"));
        return;
    }
    let (file, name) = (bench.servers.file("million.copy"), database("million"));
    write(&file, 10 * WINDOWS / ASSETS.len());
    bench.servers.create_database(&name);
    let mut client = bench.servers.cluster.client(&name);
    let built = fill(&mut client, &file, "hnsw");
    let peak = peak_memory(backend_pid(&mut client));
    std::fs::remove_file(&file).expect("the file");
    let size = "SELECT pg_relation_size('signals.btc_embeddings_feature_vector_idx')";
    let size = client.query_one(size, &[]).expect("an index").get::<_, i64>(0) as u64;
    let wanted = asked(&mut client);
    let (truth, exact) = exact_search(&mut bench.servers.cluster.client(&name), &wanted);
    let (recall, seconds, busy) = index_search(&mut client, &wanted, &truth);
    results.add(MILLION, seconds, 0);
    results.note(
        MILLION,
        format!(
            "recall@{K} {recall:.3}; {} on a processor; exact {}; built in {}, an index of {} MB; its backend had \
             {} MB at most, shared buffers included",
            duration(busy),
            duration(exact),
            duration(built),
            megabytes(size),
            megabytes(peak)
        ),
    );
}

/// Returns the most memory that a process had at once, in bytes, shared memory included.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a number");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Measures how well the volatility of the next window is foretold: by the labels of similar windows that were known
/// then, by the window's own volatility, and by as many random windows of the same hour. The windows are the generated
/// ones, or those of another database.
pub fn helps(bench: &Bench, results: &mut Results) {
    let mut client = match &bench.options.windows {
        Some(connection) => Client::connect(connection, NoTls).expect("the database of --windows"),
        None => bench.servers.cluster.client(&database("hnsw")),
    };
    let sql = format!(
        "SELECT e.bucket::text, e.asset, ln((e.label_snapshot -> '5m' ->> 'realised_volatility')::float8),
                ln((p.label_snapshot -> '5m' ->> 'realised_volatility')::float8)
           FROM signals.btc_embeddings e
           JOIN signals.btc_embeddings p ON p.bucket = e.bucket - interval '5 minutes' AND p.asset = e.asset
            AND p.exchange = e.exchange
          CROSS JOIN (SELECT min(bucket) AS first, max(bucket) AS last FROM signals.btc_embeddings) r
          WHERE e.bucket > r.last - (r.last - r.first) / 3 AND e.feature_version = '{FEATURE_VERSION}'
            AND (e.label_snapshot -> '5m' ->> 'realised_volatility')::float8 > 0
            AND (p.label_snapshot -> '5m' ->> 'realised_volatility')::float8 > 0
          ORDER BY md5(e.bucket::text || e.asset) LIMIT {FORETOLD}"
    );
    let logarithm = "avg(ln(greatest((labels -> '5m' ->> 'realised_volatility')::float8, 1e-9)))";
    let similar = format!(
        "SELECT {logarithm} FROM btc_ingest.similar($1::text::timestamptz, $2::text, k => {NEIGHBOURS},
                before => $1::text::timestamptz, assets => ARRAY[$2::text]) WHERE labels ? '5m'"
    );
    let random = format!(
        "SELECT {logarithm} FROM (SELECT label_snapshot AS labels FROM signals.btc_embeddings
          WHERE asset = $2::text AND labelled_to <= $1::text::timestamptz AND label_snapshot ? '5m'
            AND extract(hour FROM bucket AT TIME ZONE 'UTC')
                = extract(hour FROM $1::text::timestamptz AT TIME ZONE 'UTC')
          ORDER BY hashtext(bucket::text || $1::text) LIMIT {NEIGHBOURS}) AS r"
    );
    let (mut truth, mut guesses, mut times) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()], Vec::new());
    for row in client.query(&sql, &[]).expect("labelled windows") {
        let (bucket, asset): (String, String) = (row.get(0), row.get(1));
        let (found, seconds) = timed(|| client.query_one(&similar, &[&bucket, &asset]));
        let (by_similar, by_hour): (Option<f64>, Option<f64>) =
            (found.get(0), client.query_one(&random, &[&bucket, &asset]).expect("windows").get(0));
        if let (Some(by_similar), Some(by_hour)) = (by_similar, by_hour) {
            truth.push(row.get::<_, f64>(2));
            for (guess, value) in guesses.iter_mut().zip([by_similar, row.get(3), by_hour]) {
                guess.push(value);
            }
            times.push(seconds);
        }
    }
    let [similar, persistence, hour] = guesses.map(|guess| explained(&truth, &guess));
    results.add(HELPS, median(&times).expect("labelled windows"), 0);
    results.note(
        HELPS,
        format!(
            "R² {similar:.2} by {NEIGHBOURS} similar windows, {persistence:.2} by the window's own volatility, \
             {hour:.2} by random windows of its hour; {} windows",
            grouped(truth.len() as u64)
        ),
    );
}

/// Returns which part of the variance of the truth a guess explains: R².
fn explained(truth: &[f64], guess: &[f64]) -> f64 {
    let mean = truth.iter().sum::<f64>() / truth.len() as f64;
    let all: f64 = truth.iter().map(|value| (value - mean).powi(2)).sum();
    1.0 - truth.iter().zip(guess).map(|(value, guess)| (value - guess).powi(2)).sum::<f64>() / all
}

#[cfg(test)]
mod tests {
    use super::explained;

    #[test]
    fn the_truth_explains_itself_and_its_mean_nothing() {
        let truth = [1.0, 2.0, 4.0, 5.0];
        assert_eq!((explained(&truth, &truth), explained(&truth, &[3.0; 4])), (1.0, 0.0));
        assert!(explained(&truth, &[5.0, 4.0, 2.0, 1.0]) < 0.0);
    }
}
