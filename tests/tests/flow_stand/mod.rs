//! What the tests of slices that flow by themselves share: a server with btc_ingest preloaded, whose workers look for nothing
//! that nobody has woken them for, and a database for each test in turn.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use btc_ingest_tests::command::run;
use btc_ingest_tests::rows::{START, moved, ticks_of};
use btc_ingest_tests::stand::{ACCESS, BUCKET, SECRET};
pub use btc_ingest_tests::stand::{number, text};
use btc_ingest_tests::ticks::{BUCKET_US, time_text, time_us};
use btc_ingest_tests::wait::{wait_for, wait_until};
use btc_ingest_tests::{Cluster, FaultProxy, ParquetFile, S3Server, Stand, TestDb, Tick};
use postgres::{Client, NoTls};

pub const SOON: Duration = Duration::from_secs(30);
/// Tries before quarantine.
pub const MOST_ATTEMPTS: i64 = 3;
/// Ticks of a slice.
pub const TICKS: usize = 20;
/// What every test begins with. Polling once an hour shows whatever is not woken.
const SETTINGS: [(&str, &str); 6] = [
    ("poll_interval", "1h"),
    ("retry_backoff", "50ms"),
    ("retry_backoff_max", "200ms"),
    ("max_attempts", "3"),
    // The client's own repetitions would hide faults.
    ("s3_max_attempts", "1"),
    ("workers", "2"),
];

/// A 5-minute slice that lies in S3.
#[derive(Debug, Clone)]
pub struct Slice {
    pub uri: String,
    pub asset: String,
    /// As PostgreSQL reads it.
    pub bucket: String,
    pub ticks: Vec<Tick>,
}

/// One test's turn: its database is the one that the workers work in.
pub struct Flow {
    pub client: Client,
    pub db: TestDb<'static>,
    pub stand: &'static Stand,
    _turn: MutexGuard<'static, ()>,
}

impl Flow {
    /// A database that flows.
    pub fn new() -> Flow {
        Self::with(&[])
    }

    /// The same with further settings of `btc_ingest`.
    pub fn with(settings: &[(&str, &str)]) -> Flow {
        Self::in_turn(TestDb::with_extension, settings)
    }

    /// The same whose S3 is reached through a proxy.
    pub fn through(proxy: &FaultProxy, settings: &[(&str, &str)]) -> Flow {
        let endpoint = proxy.endpoint();
        let mut all = vec![("s3_endpoint", endpoint.as_str())];
        all.extend(settings);
        Self::with(&all)
    }

    /// A database without the extension.
    pub fn bare(settings: &[(&str, &str)]) -> Flow {
        Self::in_turn(TestDb::new, settings)
    }

    fn in_turn(make: fn(&'static Cluster) -> TestDb<'static>, settings: &[(&str, &str)]) -> Flow {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let stand = stand();
        let db = make(&stand.cluster);
        let client = patient(db.client());
        let mut flow = Flow { client, db, stand, _turn: turn };
        let name = flow.db.name().to_owned();
        flow.run("ALTER SYSTEM RESET ALL");
        let all = SETTINGS.iter().chain(settings).chain(&[("database", name.as_str())]).copied().collect::<Vec<_>>();
        flow.set(&all);
        flow
    }

    /// Changes settings of the server, without a restart, and waits until its processes have been told.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            self.run(&format!("ALTER SYSTEM SET btc_ingest.{name} = '{value}'"));
        }
        let began = self.text("SELECT clock_timestamp()::text");
        self.run("SELECT pg_reload_conf()");
        let loaded = format!("SELECT (pg_conf_load_time() >= '{began}')::text");
        // What a session begins with is what the postmaster knows.
        wait_until("the settings", SOON, || text(&mut self.db.client(), &loaded) == "true");
    }

    /// A further session in the database.
    pub fn session(&self) -> Client {
        patient(self.db.client())
    }

    /// Stores the slice of the `n`th bucket: no two of them share an id.
    pub fn put(&self, asset: &str, n: i64) -> Slice {
        let ticks = slice_ticks(asset, n);
        let uri = self.put_bytes(&format!("{asset}/{n:05}.parquet"), ParquetFile::new().bytes(&ticks));
        Slice { uri, asset: asset.into(), bucket: bucket(n), ticks }
    }

    /// Stores whatever under this test's own prefix.
    pub fn put_bytes(&self, key: &str, bytes: impl Into<bytes::Bytes>) -> String {
        self.stand.put(&format!("{}/{key}", self.db.name()), bytes)
    }

    /// Acts as a producer: a row of nothing but the documented columns.
    pub fn register(&mut self, slice: &Slice) {
        register(&mut self.client, slice);
    }

    /// Stores the slices of several buckets and registers them.
    pub fn flow(&mut self, asset: &str, buckets: std::ops::Range<i64>) -> Vec<Slice> {
        let slices: Vec<Slice> = buckets.map(|n| self.put(asset, n)).collect();
        slices.iter().for_each(|slice| self.register(slice));
        slices
    }

    /// A registry row of any object.
    pub fn register_uri(&mut self, uri: &str, asset: &str, n: i64) {
        let sql = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ($1::text::timestamptz, $2, $3)";
        self.client.execute(sql, &[&bucket(n), &asset, &uri]).unwrap();
    }

    #[track_caller]
    pub fn text(&mut self, sql: &str) -> String {
        text(&mut self.client, sql)
    }

    #[track_caller]
    pub fn number(&mut self, sql: &str) -> i64 {
        number(&mut self.client, sql)
    }

    #[track_caller]
    pub fn run(&mut self, sql: &str) {
        self.client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Waits until a question has the answer true.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, sql: &str) {
        wait_until_true(&mut self.client, what, sql);
    }

    /// Waits until objects are loaded.
    #[track_caller]
    pub fn wait_loaded(&mut self, slices: &[Slice]) {
        for slice in slices {
            self.wait_status(&slice.uri, "loaded");
        }
    }

    /// Waits until an object has a status.
    #[track_caller]
    pub fn wait_status(&mut self, uri: &str, status: &str) {
        let sql =
            format!("coalesce((SELECT status = '{status}' FROM ingestion.objects WHERE s3_uri = '{uri}'), false)");
        self.wait_for(&format!("{uri} {status}"), &sql);
    }

    /// What is registered of an object: status of object and registry row, attempts.
    #[track_caller]
    pub fn state(&mut self, uri: &str) -> String {
        self.text(&format!(
            "SELECT concat_ws(' ', o.status, (SELECT string_agg(DISTINCT b.status, ',') FROM landing.raw_blobs_5m b WHERE b.s3_uri = o.s3_uri), o.attempts)
               FROM ingestion.objects o WHERE o.s3_uri = '{uri}'"
        ))
    }

    /// Outcomes of an object's attempts.
    #[track_caller]
    pub fn history(&mut self, uri: &str) -> String {
        self.text(&format!(
            "SELECT coalesce(string_agg(concat_ws(' ', outcome, sqlstate), ', ' ORDER BY id), '') FROM ingestion.load_history WHERE s3_uri = '{uri}'"
        ))
    }

    /// Every slice is stored, each tick once with all of its values, and nothing else.
    #[track_caller]
    pub fn must_hold(&mut self, slices: &[Slice]) {
        btc_ingest_tests::rows::must_hold(&mut self.client, slices.iter().flat_map(|slice| &slice.ticks));
    }

    /// Pids of this database's workers of one kind: `loader`, `scheduler`.
    pub fn pids(&mut self, kind: &str) -> Vec<i32> {
        let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'btc_ingest ' || $1 AND datname = current_database() ORDER BY pid";
        self.client.query(sql, &[&kind]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// The loader that is at an object.
    #[track_caller]
    pub fn loader_of(&mut self, uri: &str) -> i32 {
        let client = &mut self.client;
        let sql = "SELECT pid FROM pg_stat_activity
                    WHERE backend_type = 'btc_ingest loader' AND state = 'active' AND query = 'loading ' || $1";
        wait_for("its loader", SOON, || client.query_opt(sql, &[&uri]).unwrap().map(|row| row.get(0)))
    }

    /// Waits until an idle loader has looked for work at least once from now on. It must poll.
    #[track_caller]
    pub fn wait_looked(&mut self) {
        let sql = "SELECT coalesce(max(state_change)::text, '') FROM pg_stat_activity
                    WHERE backend_type = 'btc_ingest loader' AND datname = current_database() AND state = 'idle'";
        let mut last = self.text(sql);
        // The first change may be the end of a look that began before.
        for _ in 0..2 {
            let client = &mut self.client;
            last = wait_for("a loader that looks", SOON, || Some(text(client, sql)).filter(|now| *now > last));
        }
    }

    /// Nobody holds a claim or an object.
    #[track_caller]
    pub fn must_hold_no_claims(&mut self) {
        // Loaders hold one lock each, on their number.
        let sql = "(SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                     WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted)
                   <= (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'btc_ingest loader' AND datname = current_database())";
        self.wait_for("locks to go", sql);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // The server may be down, or its database gone: then there is nothing to be done.
        if let Ok(mut client) = Client::connect(&self.stand.cluster.connection_string("postgres"), NoTls) {
            let _ = client.batch_execute("ALTER SYSTEM RESET ALL");
            let _ = client.batch_execute("SELECT pg_reload_conf()");
        }
    }
}

/// The stand of this test binary.
pub fn stand() -> &'static Stand {
    static STAND: OnceLock<Stand> = OnceLock::new();
    STAND.get_or_init(|| {
        let s3 = S3Server::start(ACCESS, SECRET);
        s3.create_bucket(BUCKET);
        let cluster = Cluster::builder()
            .preload("btc_ingest")
            .aws_keys(ACCESS, SECRET)
            .setting("btc_ingest.allowed_prefixes", &format!("s3://{BUCKET}"))
            .setting("btc_ingest.s3_endpoint", &s3.endpoint())
            .setting("btc_ingest.s3_region", "us-east-1")
            .setting("btc_ingest.s3_force_path_style", "on")
            .start();
        Stand { cluster, s3 }
    })
}

/// A session that waits no longer than a test may.
fn patient(mut client: Client) -> Client {
    client.batch_execute("SET statement_timeout = '60s'").unwrap();
    client
}

/// The ticks of a slice.
pub fn slice_ticks(asset: &str, n: i64) -> Vec<Tick> {
    ticks_of(asset, 1 + n * TICKS as i64, TICKS).iter().map(|tick| moved(tick, n)).collect()
}

/// The `n`th bucket as PostgreSQL reads it.
pub fn bucket(n: i64) -> String {
    time_text(time_us(START) + n * BUCKET_US, "%Y-%m-%dT%H:%M:%SZ")
}

/// Inserts a registry row as the requirements' producer does.
pub fn register(client: &mut Client, slice: &Slice) {
    client.execute(PRODUCE, &[&slice.bucket, &slice.asset, &slice.uri]).unwrap();
}

/// The same by a session of its own, which may fail.
pub fn try_register(connection: &str, slice: &Slice) -> bool {
    let client = Client::connect(connection, NoTls);
    client.is_ok_and(|mut client| client.execute(PRODUCE, &[&slice.bucket, &slice.asset, &slice.uri]).is_ok())
}

const PRODUCE: &str = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
                       VALUES ($1::text::timestamptz, $2, $3, '{\"writer\": \"producer\"}')";

#[track_caller]
pub fn wait_until_true(client: &mut Client, what: &str, sql: &str) {
    wait_until(what, SOON, || text(client, &format!("SELECT ({sql})::text")) == "true");
}

/// Sends SIGKILL.
pub fn kill(pid: i32) {
    run(Command::new("kill").args(["-9", &pid.to_string()])).unwrap();
}

/// A session, as soon as the server answers.
#[track_caller]
pub fn client_again(connection: &str) -> Client {
    wait_for("the server", SOON, || Client::connect(connection, NoTls).ok())
}
