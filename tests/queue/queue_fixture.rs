//! What the tests of the queue share: an S3 server, and two clusters with btc_ingest preloaded, whose workers look for
//! work only when they are woken. A test has one of them at a time, with a database of its own.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use btc_ingest_kit::fixture::{BUCKET, cluster_of};
use btc_ingest_kit::rows::{START, moved, ticks_of};
pub use btc_ingest_kit::sql::{Session, number, text, wait_until_true};
use btc_ingest_kit::ticks::{BUCKET_US, time_text, time_us};
pub use btc_ingest_kit::wait::SOON;
use btc_ingest_kit::wait::{wait_for, wait_until};
use btc_ingest_kit::{Cluster, FaultProxy, ParquetFile, S3Server, TestDb, Tick, fixture};
use postgres::{Client, NoTls};

/// Attempts before quarantine.
pub const MOST_ATTEMPTS: i64 = 3;
/// Ticks of a slice.
pub const TICKS: usize = 20;
/// What every test begins with. Workers poll once an hour: a test fails if nothing wakes them.
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
pub struct QueueFixture {
    pub client: Client,
    pub db: TestDb<'static>,
    pub server: &'static Server,
    _turn: MutexGuard<'static, ()>,
}

impl Session for QueueFixture {
    fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl QueueFixture {
    /// Takes a turn with a database that has the extension.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// Does the same with further settings of `btc_ingest`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::in_turn(TestDb::with_extension, settings)
    }

    /// Does the same with S3 behind a proxy.
    pub fn through(proxy: &FaultProxy, settings: &[(&str, &str)]) -> Self {
        let endpoint = proxy.endpoint();
        let mut all = vec![("s3_endpoint", endpoint.as_str())];
        all.extend(settings);
        Self::with(&all)
    }

    /// Takes a turn with a database that lacks the extension.
    pub fn bare(settings: &[(&str, &str)]) -> Self {
        Self::in_turn(TestDb::new, settings)
    }

    fn in_turn(make: fn(&'static Cluster) -> TestDb<'static>, settings: &[(&str, &str)]) -> Self {
        let (server, turn) = Server::in_turn();
        let db = make(&server.cluster);
        let client = impatient(db.client());
        let mut queue = Self { client, db, server, _turn: turn };
        let name = queue.db.name().to_owned();
        queue.run("ALTER SYSTEM RESET ALL");
        let all = SETTINGS.iter().chain(settings).chain(&[("database", name.as_str())]).copied().collect::<Vec<_>>();
        queue.set(&all);
        queue
    }

    /// Changes settings of the server without a restart, and waits until they are in force.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            self.run(&format!("ALTER SYSTEM SET btc_ingest.{name} = '{value}'"));
        }
        let began = self.text("SELECT clock_timestamp()::text");
        self.run("SELECT pg_reload_conf()");
        let loaded = format!("SELECT (pg_conf_load_time() >= '{began}')::text");
        // A new session shows what the postmaster has read.
        wait_until("the settings", SOON, || text(&mut self.db.client(), &loaded) == "true");
    }

    /// Opens a further session in the database.
    pub fn session(&self) -> Client {
        impatient(self.db.client())
    }

    /// Stores the slice of the `n`th bucket: no two of them share an id.
    pub fn put(&self, asset: &str, n: i64) -> Slice {
        let ticks = slice_ticks(asset, n);
        let uri = self.put_bytes(&format!("{asset}/{n:05}.parquet"), ParquetFile::new().bytes(&ticks));
        Slice { uri, asset: asset.into(), bucket: bucket(n), ticks }
    }

    /// Stores bytes under this test's own prefix and returns the uri.
    pub fn put_bytes(&self, key: &str, bytes: impl Into<bytes::Bytes>) -> String {
        self.server.put(&format!("{}/{key}", self.db.name()), bytes)
    }

    /// Inserts a registry row as a producer does.
    pub fn register(&mut self, slice: &Slice) {
        register(&mut self.client, slice);
    }

    /// Stores the slices of several buckets and registers them.
    pub fn register_slices(&mut self, asset: &str, buckets: std::ops::Range<i64>) -> Vec<Slice> {
        let slices: Vec<Slice> = buckets.map(|n| self.put(asset, n)).collect();
        slices.iter().for_each(|slice| self.register(slice));
        slices
    }

    /// Inserts a registry row of any object.
    pub fn register_uri(&mut self, uri: &str, asset: &str, n: i64) {
        let sql = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ($1::text::timestamptz, $2, $3)";
        self.client.execute(sql, &[&bucket(n), &asset, &uri]).unwrap();
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

    /// Returns the status of an object, the status of its registry rows, and its attempts.
    #[track_caller]
    pub fn state(&mut self, uri: &str) -> String {
        self.text(&format!(
            "SELECT concat_ws(' ', o.status, (SELECT string_agg(DISTINCT b.status, ',') FROM landing.raw_blobs_5m b
                                               WHERE b.s3_uri = o.s3_uri), o.attempts)
               FROM ingestion.objects o WHERE o.s3_uri = '{uri}'"
        ))
    }

    /// Returns the outcomes of an object's attempts.
    #[track_caller]
    pub fn history(&mut self, uri: &str) -> String {
        self.text(&format!(
            "SELECT coalesce(string_agg(concat_ws(' ', outcome, sqlstate), ', ' ORDER BY id), '')
               FROM ingestion.load_history WHERE s3_uri = '{uri}'"
        ))
    }

    /// Checks that every slice is stored, each tick once with all of its values, and nothing else.
    #[track_caller]
    pub fn must_hold(&mut self, slices: &[Slice]) {
        btc_ingest_kit::rows::must_hold(&mut self.client, slices.iter().flat_map(|slice| &slice.ticks));
    }

    /// Returns the pids of this database's workers of one kind: `loader`, `scheduler`.
    pub fn pids(&mut self, kind: &str) -> Vec<i32> {
        let sql = "SELECT pid FROM pg_stat_activity
                    WHERE backend_type = 'btc_ingest ' || $1 AND datname = current_database() ORDER BY pid";
        self.client.query(sql, &[&kind]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Waits for the loader that loads an object and returns its pid.
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
        // The first change may be the end of a look that began earlier.
        for _ in 0..2 {
            let client = &mut self.client;
            last = wait_for("a loader that looks", SOON, || Some(text(client, sql)).filter(|now| *now > last));
        }
    }

    /// Waits until no claim and no lock on an object is held.
    #[track_caller]
    pub fn must_hold_no_claims(&mut self) {
        // Each loader holds one lock, on its number.
        let sql = "(SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                     WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted)
                   <= (SELECT count(*) FROM pg_stat_activity
                        WHERE backend_type = 'btc_ingest loader' AND datname = current_database())";
        self.wait_for("locks to go", sql);
    }
}

impl Drop for QueueFixture {
    fn drop(&mut self) {
        // The server may be down, or its database gone: then there is nothing to reset.
        if let Ok(mut client) = Client::connect(&self.server.cluster.connection_string("postgres"), NoTls) {
            let _ = client.batch_execute("ALTER SYSTEM RESET ALL");
            let _ = client.batch_execute("SELECT pg_reload_conf()");
        }
    }
}

/// A cluster with btc_ingest preloaded, and the S3 server of this test binary.
pub struct Server {
    pub cluster: Cluster,
    pub s3: &'static S3Server,
}

impl Server {
    /// Returns a cluster that no other test has, as long as the guard lives.
    fn in_turn() -> (&'static Server, MutexGuard<'static, ()>) {
        static SERVERS: [OnceLock<Server>; 2] = [const { OnceLock::new() }; 2];
        static TURNS: [Mutex<()>; 2] = [const { Mutex::new(()) }; 2];
        let get = |place: usize| SERVERS[place].get_or_init(Server::start);
        for (place, turn) in TURNS.iter().enumerate() {
            match turn.try_lock() {
                Ok(turn) => return (get(place), turn),
                Err(TryLockError::Poisoned(turn)) => return (get(place), turn.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let turn = TURNS[0].lock().unwrap_or_else(PoisonError::into_inner);
        (get(0), turn)
    }

    fn start() -> Server {
        let cluster = cluster_of(&s3().endpoint()).preload("btc_ingest").start();
        Server { cluster, s3: s3() }
    }

    /// Stores an object and returns its uri. All tests share the bucket: a key begins with the test's own name.
    pub fn put(&self, key: &str, bytes: impl Into<bytes::Bytes>) -> String {
        self.s3.put(BUCKET, key, bytes)
    }
}

/// Returns the S3 server of this test binary.
pub fn s3() -> &'static S3Server {
    static SHARED: OnceLock<S3Server> = OnceLock::new();
    SHARED.get_or_init(fixture::server)
}

/// Limits the time that a statement of a session may take.
fn impatient(mut client: Client) -> Client {
    client.batch_execute("SET statement_timeout = '60s'").unwrap();
    client
}

/// Generates the ticks of a slice.
pub fn slice_ticks(asset: &str, n: i64) -> Vec<Tick> {
    ticks_of(asset, 1 + n * TICKS as i64, TICKS).iter().map(|tick| moved(tick, n)).collect()
}

/// Returns the `n`th bucket as PostgreSQL reads it.
pub fn bucket(n: i64) -> String {
    time_text(time_us(START) + n * BUCKET_US, "%Y-%m-%dT%H:%M:%SZ")
}

/// Inserts a registry row as the requirements' producer does.
pub fn register(client: &mut Client, slice: &Slice) {
    client.execute(PRODUCE, &[&slice.bucket, &slice.asset, &slice.uri]).unwrap();
}

/// Inserts a registry row in a session of its own. Returns false if that fails.
pub fn try_register(connection: &str, slice: &Slice) -> bool {
    let client = Client::connect(connection, NoTls);
    client.is_ok_and(|mut client| client.execute(PRODUCE, &[&slice.bucket, &slice.asset, &slice.uri]).is_ok())
}

const PRODUCE: &str = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
                       VALUES ($1::text::timestamptz, $2, $3, '{\"writer\": \"producer\"}')";
