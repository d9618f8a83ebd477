//! The fuzzer of the SQL surface: it calls every function and procedure, reads every view and writes the tables that
//! roles may write, as every role, with values that hurt. No statement may give XX000, end its backend, or take longer
//! than its `statement_timeout` by much.
//!
//! In reading order: [`Options`] says for how long; `surface` is what there is to call; `values` are the arguments.

mod options;
mod surface;
mod values;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

pub use options::{Options, USAGE};
use postgres::Client;
use surface::Surface;

use crate::cluster::client_again;
use crate::fixture::{BUCKET, cluster_of, server};
use crate::rows::ticks;
use crate::ticks::Random;
use crate::{Cluster, ParquetFile, S3Server};

const DATABASE: &str = "fuzz";
/// How long a statement may take, as its session says, and in truth.
const TIMEOUT: &str = "1s";
const LONGEST: Duration = Duration::from_secs(30);
/// After so many statements the tables are emptied.
const CLEAN_AFTER: u64 = 300;
/// Different findings that are listed.
const LISTED: usize = 20;

/// What the run has found, and what it has done.
#[derive(Default)]
struct Tally {
    statements: u64,
    sqlstates: BTreeMap<String, u64>,
    /// The first statement of each kind of finding.
    findings: BTreeMap<String, String>,
    slowest: (Duration, String),
}

/// Runs to the end. Returns what was done, or what was found.
pub fn run(options: &Options) -> Result<String, String> {
    let s3 = server();
    put_objects(&s3);
    let cluster = start(&s3);
    let mut roles = make_roles(&cluster);
    let surface = Surface::read(&mut cluster.client(DATABASE));
    let mut tally = Tally::default();
    let log_start = cluster.log().len();
    let began = Instant::now();
    for number in 0..options.most {
        if began.elapsed() > options.time {
            break;
        }
        if number % CLEAN_AFTER == CLEAN_AFTER - 1 {
            clean(&cluster);
        }
        let seed = options.seed.wrapping_add(number);
        let mut random = Random(seed);
        let at = role_of(&mut random, &roles);
        let statement = surface.statement(&mut random);
        let statement = wrapped(&mut random, statement);
        if !attempt(&cluster, &mut roles[at], seed, &statement, &mut tally) {
            break;
        }
    }
    judge_log(&cluster.log()[log_start..], &mut tally);
    let (routines, views, tables) = surface.size();
    let mut text = format!("{routines} routines, {views} views, {tables} tables as {} roles\n", roles.len());
    let _ = writeln!(text, "seed         {}; {} statements in {:.0?}", options.seed, tally.statements, began.elapsed());
    let _ = writeln!(text, "slowest      {:.1?}: {}", tally.slowest.0, tally.slowest.1);
    let outcomes: Vec<String> = tally.sqlstates.iter().map(|(sqlstate, count)| format!("{count} {sqlstate}")).collect();
    let _ = writeln!(text, "outcomes     {}", outcomes.join(", "));
    if tally.findings.is_empty() {
        return Ok(format!("{text}Nothing was found."));
    }
    let list = |(what, statement): (&String, &String)| format!("- {what}\n  {statement}");
    let findings: Vec<String> = tally.findings.iter().take(LISTED).map(list).collect();
    Err(format!("{text}{} findings:\n{}", tally.findings.len(), findings.join("\n")))
}

fn put_objects(s3: &S3Server) {
    let good = ParquetFile::new().bytes(&ticks(1, 50));
    let mut damaged = good.to_vec();
    damaged.truncate(good.len() / 2);
    s3.put(BUCKET, "fuzz/Binance/BTCUSDT/2024/08/08/BTCUSDT_20240808T1200Z.parquet", good);
    s3.put(BUCKET, "fuzz/damaged.parquet", damaged);
}

fn start(s3: &S3Server) -> Cluster {
    let cluster = cluster_of(&s3.endpoint())
        .preload("btc_ingest")
        .setting("btc_ingest.database", DATABASE)
        .setting("btc_ingest.retry_backoff", "100ms")
        .setting("log_line_prefix", "%m [%p] %b %e ")
        .start();
    cluster.create_database(DATABASE);
    cluster.install_extension(DATABASE);
    cluster
}

/// A role and its session.
struct Role {
    name: String,
    client: Client,
}

impl Role {
    fn open(cluster: &Cluster, name: &str) -> Role {
        let mut client = client_again(&cluster.connection_string_as(DATABASE, name));
        client.batch_execute(&format!("SET statement_timeout = '{TIMEOUT}'")).expect("a timeout");
        Role { name: name.to_owned(), client }
    }
}

/// Makes a user for each role of the extension, and one without any.
fn make_roles(cluster: &Cluster) -> Vec<Role> {
    let mut client = cluster.client(DATABASE);
    let sql = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'btc\\_ingest\\_%' ORDER BY 1";
    let mut names = vec!["postgres".to_owned(), "outsider".to_owned()];
    client.batch_execute("CREATE ROLE outsider LOGIN").expect("a role");
    for row in client.query(sql, &[]).expect("the roles") {
        let role: String = row.get(0);
        let name = role.replace("btc_ingest", "fuzz");
        client.batch_execute(&format!("CREATE ROLE {name} LOGIN IN ROLE {role}")).expect("a role");
        names.push(name);
    }
    names.iter().map(|name| Role::open(cluster, name)).collect()
}

/// Picks a role. Those that may call much come more often.
fn role_of(random: &mut Random, roles: &[Role]) -> usize {
    let often = ["postgres", "fuzz_admin", "fuzz_loader"][random.below(3) as usize];
    let any = random.below(roles.len() as u64) as usize;
    if random.below(4) == 0 { any } else { roles.iter().position(|role| role.name == often).unwrap_or(any) }
}

/// Runs a statement by itself, or within a transaction that is rolled back.
fn wrapped(random: &mut Random, statement: String) -> String {
    match random.below(12) {
        0 => format!("BEGIN; {statement}; ROLLBACK"),
        1 => format!("BEGIN READ ONLY; {statement}; ROLLBACK"),
        2 => format!("BEGIN ISOLATION LEVEL SERIALIZABLE; {statement}; ROLLBACK"),
        _ => statement,
    }
}

/// Runs a statement as a role, and notes what is wrong with its result. Returns `false` if it does not end.
fn attempt(cluster: &Cluster, role: &mut Role, seed: u64, statement: &str, tally: &mut Tally) -> bool {
    let (done, began) = (watchdog(cluster, role, seed, statement), Instant::now());
    let result = role.client.batch_execute(statement);
    let took = began.elapsed();
    drop(done);
    tally.statements += 1;
    if took > tally.slowest.0 {
        tally.slowest = (took, statement.to_owned());
    }
    let sqlstate = match &result {
        Ok(()) => "00000".to_owned(),
        Err(error) => error.code().map_or("no answer", |code| code.code()).to_owned(),
    };
    if sqlstate.starts_with("XX") || sqlstate == "no answer" {
        let said = result.err().and_then(|error| error.as_db_error().map(|error| error.message().to_owned()));
        let what: String = format!("{sqlstate} {}", said.unwrap_or_default()).chars().take(120).collect();
        tally.findings.entry(what).or_insert_with(|| format!("seed {seed}, {}: {statement}", role.name));
    }
    if took > LONGEST {
        let what = format!("a statement took {took:.0?}");
        tally.findings.entry(what).or_insert_with(|| format!("seed {seed}, {}: {statement}", role.name));
        return false;
    }
    *tally.sqlstates.entry(sqlstate).or_default() += 1;
    if role.client.is_closed() {
        *role = Role::open(cluster, &role.name);
    } else {
        // A statement that fails leaves a transaction that it has begun.
        let _ = role.client.batch_execute("ROLLBACK; RESET ALL");
        let _ = role.client.batch_execute(&format!("SET statement_timeout = '{TIMEOUT}'"));
    }
    true
}

/// Ends the backend of a statement that takes far too long. Dropping the sender says that the statement has ended.
fn watchdog(cluster: &Cluster, role: &Role, seed: u64, statement: &str) -> Sender<()> {
    let (sender, receiver) = channel::<()>();
    let connection = cluster.connection_string(DATABASE);
    let what = format!("seed {seed}, {}: {statement}", role.name);
    std::thread::spawn(move || {
        if receiver.recv_timeout(LONGEST) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("it does not end: {what}");
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
            let _ = client_again(&connection).batch_execute(sql);
        }
    });
    sender
}

/// Empties the tables and ends backfills, so that statements stay fast. Workers may hold locks; the next time comes.
fn clean(cluster: &Cluster) {
    let mut client = client_again(&cluster.connection_string(DATABASE));
    let _ = client.batch_execute("SET lock_timeout = '5s'; SET statement_timeout = '20s'");
    for statement in [
        "SELECT btc_ingest.resume_ingest()",
        "UPDATE ingestion.backfills SET status = 'cancelled' WHERE status NOT IN ('done', 'cancelled')",
        "DELETE FROM ingestion.backfill_workers",
        "DELETE FROM ingestion.stream_offsets",
        "DELETE FROM landing.raw_blobs_5m",
        "DELETE FROM landing.rejected_ticks",
        "DELETE FROM ingestion.objects",
        "DELETE FROM ingestion.object_slices",
        "DELETE FROM signals.btc_embeddings",
        "DELETE FROM ops.retention_jobs",
        "SELECT drop_chunks('market_data.btc_ticks', older_than => 'infinity'::timestamptz)",
    ] {
        let _ = client.batch_execute(statement);
    }
}

/// Notes what the server's log says of crashes, and of workers that met an internal error.
fn judge_log(log: &str, tally: &mut Tally) {
    let is_wrong = |line: &&str| {
        let is_of_worker = line.contains("btc_ingest ") && (line.contains(" XX0") || line.contains("(XX0"));
        is_of_worker || line.contains("panicked at") || line.contains("terminated by signal") || line.contains("PANIC:")
    };
    for line in log.lines().filter(is_wrong).take(1000) {
        // Without time and pid.
        let what: String = line.split_once("] ").map_or(line, |(_, rest)| rest).chars().take(120).collect();
        tally.findings.entry(format!("log: {what}")).or_insert_with(|| line.chars().take(400).collect());
    }
}
