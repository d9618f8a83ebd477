//! The demo: a cluster and an S3 server that stay until they are taken down, loaded with two hours of generated trades.
//!
//! Everything lies in one directory: `$BTC_INGEST_DEMO_DIR`, or `btc_ingest-demo` in the temporary directory.

mod chart;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::{Duration, Instant};

use lexopt::Parser;
use lexopt::prelude::{Long, Short, Value};

use chart::Candle;

use crate::cluster::Cluster;
use crate::command::{library_dir, run, server_program};
use crate::parquet::ParquetFile;
use crate::process::{command_line, is_running};
use crate::s3::client::S3Client;
use crate::s3::program;
use crate::ticks::{Generator, Sums, Tick, slice_key, time_us};

/// The usage of the program.
pub const USAGE: &str = "usage: btc-ingest-demo up | down";
/// The subcommand by which the demo starts itself as its S3 server, so that building this one program is enough.
const SERVE: &str = "serve-s3";
const ACCESS: &str = "BTCINGESTDEMO";
const SECRET: &str = "only-for-the-demo-on-loopback";
const BUCKET: &str = "landing";
const DATABASE: &str = "market";
const PORT: u16 = 28815;
/// The file that marks a directory as the demo's own.
const MARKER: &str = "btc_ingest-demo";
const DEADLINE: Duration = Duration::from_secs(20);

/// What the demo is to do.
#[derive(Debug)]
pub enum Command {
    /// See [`up`].
    Up,
    /// See [`down`].
    Down,
    /// Serve S3, as `btc-ingest-s3` does.
    Serve(program::Arguments),
}

impl Command {
    /// Parses the command line. Returns `None` if it asks for the usage.
    pub fn parse(parser: &mut Parser) -> Result<Option<Self>, lexopt::Error> {
        let command = match parser.next()? {
            Some(Value(word)) if word == "up" => Command::Up,
            Some(Value(word)) if word == "down" => Command::Down,
            Some(Value(word)) if word == SERVE => return Ok(program::Arguments::parse(parser)?.map(Command::Serve)),
            Some(Long("help") | Short('h')) => return Ok(None),
            Some(other) => return Err(other.unexpected()),
            None => return Err("up or down is missing".into()),
        };
        parser.next()?.map_or(Ok(Some(command)), |extra| Err(extra.unexpected()))
    }

    /// Runs it to the end.
    pub fn run(self) -> Result<(), String> {
        match self {
            Command::Up => up(),
            Command::Down => down(),
            Command::Serve(arguments) => program::serve(&arguments),
        }
    }
}

/// Makes the demo anew and shows it; an error, after which nothing runs, when anything is not as it should be.
pub fn up() -> Result<(), String> {
    let start = Instant::now();
    if !library_dir().join("btc_ingest.so").exists() {
        return Err(format!("btc_ingest is not installed in {}: run \"make install\" first", library_dir().display()));
    }
    let dir = directory();
    if take_down(&dir)? {
        println!("A demo was there already: taken down, made anew.");
    }
    make_directory(&dir)?;
    let undo = Undo(Some(dir.clone()));

    let endpoint = start_s3(&dir)?;
    let cluster =
        Cluster::builder().preload("btc_ingest").port(PORT).aws_keys(ACCESS, SECRET).start_to_stay(&dir.join("pg"));
    println!("PostgreSQL on 127.0.0.1:{}, S3 on {endpoint}, all of it in {}.", cluster.port(), dir.display());
    configure(&cluster, &endpoint)?;

    let objects = upload(&endpoint)?;
    let ticks: usize = objects.iter().map(|object| object.ticks.len()).sum();
    println!("Uploaded {} objects with {ticks} ticks.\n", objects.len());

    for object in &objects {
        load(&cluster, &object.uri())?;
    }
    println!();
    show(
        &cluster,
        "SELECT bucket_5m, count(*) FILTER (WHERE symbol = 'BTCUSDT') AS btcusdt,
       count(*) FILTER (WHERE symbol = 'ETHUSDT') AS ethusdt, max(trade_id) AS last_trade_id
  FROM market_data.btc_ticks GROUP BY bucket_5m ORDER BY bucket_5m;",
    )?;
    show(
        &cluster,
        "SELECT event_time, symbol, trade_id, price, quantity, is_market_maker
  FROM market_data.btc_ticks ORDER BY event_time DESC, trade_id DESC LIMIT 10;",
    )?;
    println!("The same object again:");
    let outcome = load(&cluster, &objects[0].uri())?;
    if outcome != "already loaded" {
        return Err(format!("expected the outcome \"already loaded\", got \"{outcome}\""));
    }
    println!();
    show(&cluster, "SELECT * FROM btc_ingest.doctor();")?;
    compare(&cluster, &objects)?;
    println!();
    show_candles(&cluster)?;
    show_windows(&cluster)?;

    println!("\nUp after {:.1} s. Go on with:\n", start.elapsed().as_secs_f64());
    println!("    psql -h 127.0.0.1 -p {} -U postgres {DATABASE}\n    make demo-down", cluster.port());
    println!("\nQueries to try: docs/use/cookbook.md\nDashboards for Grafana: docs/use/dashboards.md");
    undo.not_needed();
    Ok(())
}

/// Takes the demo down, if there is one, and says so.
pub fn down() -> Result<(), String> {
    let dir = directory();
    if take_down(&dir)? {
        println!("The demo is down: PostgreSQL and S3 are stopped, {} is removed.", dir.display());
    } else {
        println!("There is no demo to take down.");
    }
    Ok(())
}

fn directory() -> PathBuf {
    let set = std::env::var_os("BTC_INGEST_DEMO_DIR").filter(|dir| !dir.is_empty());
    let dir = set.map_or_else(|| std::env::temp_dir().join("btc_ingest-demo"), PathBuf::from);
    // The server runs in another directory, so the path must be absolute.
    std::path::absolute(&dir).unwrap_or(dir)
}

/// Takes the demo down when it is dropped, unless it was disarmed.
struct Undo(Option<PathBuf>);

impl Undo {
    fn not_needed(mut self) {
        self.0 = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take() {
            if let Ok(log) = std::fs::read_to_string(dir.join("pg/server.log")) {
                eprintln!("The server's last words:\n{}", crate::cluster::tail(&log, 15));
            }
            if let Err(message) = take_down(&dir) {
                eprintln!("{message}");
            }
        }
    }
}

fn make_directory(dir: &Path) -> Result<(), String> {
    let made = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(dir.join(MARKER), "Made by the demo.\n"));
    made.map_err(|e| format!("cannot use {}: {e}", dir.display()))
}

/// Stops what runs and removes the directory; whether there was one.
fn take_down(dir: &Path) -> Result<bool, String> {
    let mut entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(format!("cannot read {}: {e}", dir.display())),
    };
    if !dir.join(MARKER).exists() {
        let empty = entries.next().is_none();
        return if empty { Ok(false) } else { Err(format!("{} is not the demo's: left alone", dir.display())) };
    }
    let data = dir.join("pg/data");
    if data.join("postmaster.pid").exists() {
        let stopped = run(server_program("pg_ctl").arg("-D").arg(&data).args(["-s", "-m", "immediate", "-w", "stop"]));
        // A crashed server leaves its file behind; only a running one must be stopped.
        if let Err(message) = stopped
            && run(server_program("pg_ctl").arg("-D").arg(&data).arg("status")).is_ok()
        {
            return Err(format!("cannot stop the demo's server: {message}"));
        }
    }
    stop_s3(dir)?;
    std::fs::remove_dir_all(dir).map_err(|e| format!("cannot remove {}: {e}", dir.display()))?;
    Ok(true)
}

/// Starts this program again as the S3 server, in a session of its own so that it outlives the terminal.
fn start_s3(dir: &Path) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("cannot start the S3 server: {e}");
    let log = dir.join("s3.log");
    let file = File::create(&log).map_err(failed)?;
    let server = process::Command::new("setsid")
        .arg(std::env::current_exe().map_err(failed)?)
        .args([SERVE, "--access-key", ACCESS, "--secret-key", SECRET, "--root"])
        .arg(dir.join("s3"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(file.try_clone().map_err(failed)?)
        .stdout(file)
        .spawn()
        .map_err(failed)?;
    std::fs::write(dir.join("s3.pid"), server.id().to_string()).map_err(failed)?;
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    let start = Instant::now();
    while start.elapsed() < DEADLINE && is_running(server.id()) {
        if let Some(endpoint) = read().lines().find_map(|line| line.strip_prefix("listening on ")) {
            return Ok(endpoint.to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("the S3 server did not start: {}", read()))
}

fn stop_s3(dir: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(dir.join("s3.pid")).unwrap_or_default();
    let Ok(pid) = text.trim().parse::<u32>() else { return Ok(()) };
    // Another process may have the number by now.
    let ours = || is_running(pid) && command_line(pid).contains(SERVE);
    let start = Instant::now();
    let mut signal = "-TERM";
    while ours() {
        run(process::Command::new("sh").args(["-c", r#"kill "$1" "$2""#, "kill", signal, &pid.to_string()])).ok();
        if start.elapsed() > DEADLINE {
            return Err(format!("the demo's S3 server, process {pid}, cannot be stopped"));
        }
        if start.elapsed() > DEADLINE / 4 {
            signal = "-KILL";
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn configure(cluster: &Cluster, endpoint: &str) -> Result<(), String> {
    let settings = [
        ("allowed_prefixes", format!("s3://{BUCKET}")),
        ("s3_endpoint", endpoint.to_owned()),
        ("s3_region", "us-east-1".to_owned()),
        ("s3_force_path_style", "on".to_owned()),
    ];
    let mut sql = String::new();
    for (name, value) in settings {
        sql.push_str(&format!("ALTER SYSTEM SET btc_ingest.{name} = '{value}';\n"));
    }
    cluster.psql("postgres", &format!("{sql}SELECT pg_reload_conf();\nCREATE DATABASE {DATABASE};"))?;
    show(cluster, "CREATE EXTENSION btc_ingest CASCADE;")
}

/// One object of the demo.
pub struct Object {
    /// Its key in the bucket.
    pub key: String,
    /// What it holds.
    pub ticks: Vec<Tick>,
}

impl Object {
    fn uri(&self) -> String {
        format!("s3://{BUCKET}/{}", self.key)
    }
}

/// Generates an hour of slices, one object each, and one object with the hour after it and two symbols.
pub fn objects() -> Vec<Object> {
    let start = time_us("2024-08-08T12:00:00Z");
    let mut btc = Generator::new(2024, "BTCUSDT", start, 3_740_000_000).per_second(14.0).starting_at(57_300);
    let hour_later = start + 3_600_000_000;
    let mut eth = Generator::new(808, "ETHUSDT", hour_later, 1_530_000_000).per_second(6.0).starting_at(2_430);

    let mut objects = Vec::new();
    for _ in 0..12 {
        let key = slice_key("Binance", "BTCUSDT", btc.next_bucket_us());
        objects.push(Object { key, ticks: btc.next_slice() });
    }
    let mut hour = btc.next_slices(12);
    hour.extend(eth.next_slices(12));
    hour.sort_by_key(|tick| tick.event_time_us);
    objects.push(Object { key: "Binance/hourly/2024/08/08/20240808T1300Z.parquet".to_owned(), ticks: hour });
    objects
}

fn upload(endpoint: &str) -> Result<Vec<Object>, String> {
    let objects = objects();
    let client = S3Client::new(endpoint, ACCESS, SECRET, None);
    client.create_bucket(BUCKET)?;
    for object in &objects {
        client.put(BUCKET, &object.key, ParquetFile::new().bytes(&object.ticks))?;
    }
    Ok(objects)
}

/// Loads one object and returns the outcome; prints one line of the report.
fn load(cluster: &Cluster, uri: &str) -> Result<String, String> {
    // The hourly object's key names no asset, and so no exchange before it.
    let options = if uri.contains("/hourly/") { r#", options => '{"exchange": "binance"}'"# } else { "" };
    let sql = format!("SELECT * FROM btc_ingest.load_s3_slice('{uri}'{options});");
    println!("{DATABASE}=# {sql}");
    let output = cluster.psql_with(DATABASE, &["-A", "-F", "\t", "-P", "footer=off"], &sql)?;
    let mut lines = output.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let value = |name: &str| -> Result<String, String> {
        let found = names.iter().zip(&values).find(|(column, _)| **column == name);
        found.map(|(_, value)| (*value).to_owned()).ok_or(format!("no column {name} in:\n{output}"))
    };
    let elapsed: f64 = value("elapsed_ms")?.parse().map_err(|e| format!("elapsed_ms: {e}"))?;
    let outcome = value("outcome")?;
    println!(
        "          rows_read {}, rows_inserted {}, slices {}, elapsed_ms {elapsed:.0}: {outcome}",
        value("rows_read")?,
        value("rows_inserted")?,
        value("slices")?,
    );
    Ok(outcome)
}

/// Makes candles and draws them.
fn show_candles(cluster: &Cluster) -> Result<(), String> {
    show(cluster, "SELECT btc_ingest.create_candles('5 minutes');")?;
    let sql = "SELECT to_char(bucket AT TIME ZONE 'UTC', 'HH24:MI'), open, high, low, close
  FROM market_data.btc_ohlcv_5m WHERE symbol = 'BTCUSDT' ORDER BY bucket;";
    println!("{DATABASE}=# {sql}");
    let output = cluster.psql_with(DATABASE, &["-A", "-t", "-F", "|"], sql)?;
    let candle = |line: &str| {
        let mut fields = line.split('|');
        let label = fields.next().unwrap_or_default().to_owned();
        let prices: Vec<f64> = fields.map_while(|field| field.parse().ok()).collect();
        let prices = prices.try_into().map_err(|_| format!("no candle: {line}"))?;
        Ok(Candle { label, prices })
    };
    let candles = output.lines().map(candle).collect::<Result<Vec<_>, String>>()?;
    if candles.len() != 24 {
        return Err(format!("expected 24 candles, got {}", candles.len()));
    }
    print!("{}", chart::draw(&candles));
    Ok(())
}

/// Makes the vectors of all slices and shows the five windows that were most like the last one.
fn show_windows(cluster: &Cluster) -> Result<(), String> {
    show(
        cluster,
        "SELECT btc_ingest.embed('2024-08-08', '2024-08-09'), btc_ingest.label('2024-08-08', '2024-08-09');",
    )?;
    let sql = "SELECT to_char(similar_bucket AT TIME ZONE 'UTC', 'HH24:MI') AS window, similar_asset AS asset,
       round(distance::numeric, 3) AS distance,
       round(10000 * (labels -> '5m' ->> 'return')::numeric, 1) AS \"bp after 5 min\"
  FROM btc_ingest.similar('2024-08-08 13:55+00', k => 5, assets => '{BTCUSDT}', exclude => '10 minutes');";
    show(cluster, sql)
}

/// Runs a statement through psql and shows both.
fn show(cluster: &Cluster, sql: &str) -> Result<(), String> {
    println!("{DATABASE}=# {sql}");
    // psql writes notices to standard error; here they only come from CASCADE.
    let output = cluster.psql_with(DATABASE, &["-P", "footer=off"], sql)?;
    print!("{output}");
    Ok(())
}

/// Compares the table with what the generator made, exactly.
fn compare(cluster: &Cluster, objects: &[Object]) -> Result<(), String> {
    let sums = Sums::of(objects.iter().flat_map(|object| &object.ticks));
    let sql = "SELECT count(*), sum(price * quantity)::text FROM market_data.btc_ticks;";
    let found = cluster.psql(DATABASE, sql)?;
    let made = format!("{}|{}", sums.rows, sums.amount_text());
    if found.trim() != made {
        return Err(format!("not exact: generated {made}, found {}", found.trim()));
    }
    println!("exact: {} ticks, sum(price * quantity) = {}, as generated", sums.rows, sums.amount_text());
    Ok(())
}
