//! A cluster with durable settings, an S3 server and a directory for COPY's files: all rows are measured on these.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use btc_ingest_kit::fixture::stored;
use btc_ingest_kit::janitor::ScratchDir;
use btc_ingest_kit::{Cluster, ClusterBuilder, S3Server, Sums};
use postgres::{Client, Error};

/// The bucket of every object.
pub const BUCKET: &str = "landing";
/// The database in which everything but the full chunk is measured.
pub const DATABASE: &str = "bench";
/// The columns that every row of the bench fills; `ingested_at` always gets its default.
pub const COLUMNS: &str = "bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity, buyer_order_id, \
                           seller_order_id, is_market_maker";
const ACCESS: &str = "BENCHACCESSKEY";
const SECRET: &str = "bench-secret-key";

/// Settings for every row; the results state them. Settings that cost time on a real server are on here too. What would
/// slow some runs and not others (checkpoints, autovacuum) is off.
pub const SETTINGS: &[(&str, &str)] = &[
    ("wal_level", "replica"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    ("archive_mode", "on"),
    ("archive_command", "/bin/true"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "16GB"),
    ("min_wal_size", "4GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    ("jit", "off"),
    ("huge_pages", "off"),
];

/// Empties all tables that loads and backfills write.
const EMPTY: &str = "
    DO $empty$
    BEGIN
        EXECUTE (SELECT 'TRUNCATE ' || string_agg(c.oid::regclass::text, ', ')
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.relkind = 'r' AND n.nspname IN ('landing', 'market_data', 'ingestion')
                    AND c.relname NOT IN ('schema_version', 'control'));
    END
    $empty$";

/// Cluster, S3 server and files. They end with the process.
#[derive(Debug)]
pub struct Servers {
    /// The cluster.
    pub cluster: Cluster,
    /// The S3 server. It runs in this process, on the same processors as the database.
    pub s3: Arc<S3Server>,
    files: ScratchDir,
}

impl Servers {
    /// Starts both servers and installs the extension.
    pub fn start() -> Self {
        let s3 = S3Server::start(ACCESS, SECRET);
        s3.create_bucket(BUCKET);
        Self::make(Arc::new(s3), Cluster::builder(), &[])
    }

    /// Starts another cluster with the same S3 server. Its workers load the registered slices.
    pub fn with_workers(&self) -> Self {
        let builder = Cluster::builder().preload("btc_ingest").setting("btc_ingest.database", DATABASE);
        Self::make(self.s3.clone(), builder, &[])
    }

    /// Starts another cluster with the same S3 server, and with settings that take the place of [`SETTINGS`].
    pub fn with_settings(&self, settings: &[(&str, &str)]) -> Self {
        Self::make(self.s3.clone(), Cluster::builder(), settings)
    }

    fn make(s3: Arc<S3Server>, builder: ClusterBuilder, settings: &[(&str, &str)]) -> Self {
        let mut builder = builder.durable().aws_keys(ACCESS, SECRET);
        for (name, value) in SETTINGS.iter().chain(settings) {
            builder = builder.setting(name, value);
        }
        let cluster = builder
            .setting("btc_ingest.allowed_prefixes", &format!("s3://{BUCKET}"))
            .setting("btc_ingest.s3_endpoint", &s3.endpoint())
            .setting("btc_ingest.s3_region", "us-east-1")
            .setting("btc_ingest.s3_force_path_style", "on")
            .start();
        let files = ScratchDir::new("btc_ingest-bench-").expect("a temporary directory");
        // The server reads COPY's files as a user of its own.
        std::fs::set_permissions(files.path(), std::fs::Permissions::from_mode(0o755)).expect("our own directory");
        let servers = Self { cluster, s3, files };
        servers.create_database(DATABASE);
        servers
    }

    /// Creates a database with the extension.
    pub fn create_database(&self, name: &str) {
        self.cluster.create_database(name);
        self.cluster.install_extension(name);
    }

    /// Returns the path of a file for COPY.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Stores an object and returns its uri.
    pub fn put(&self, key: &str, bytes: impl Into<bytes::Bytes>) -> String {
        self.s3.put(BUCKET, key, bytes)
    }

    /// Stores an object in memory and returns its uri. The S3 server then takes less of the processors that it shares
    /// with the database.
    pub fn put_in_memory(&self, key: &str, bytes: impl Into<bytes::Bytes>) -> String {
        self.s3.put_copies(BUCKET, [key.to_owned()].into_iter(), bytes);
        format!("s3://{BUCKET}/{key}")
    }

    /// Opens a connection as the superuser. Each run has its own, so that none gains from another one's caches.
    pub fn session(&self) -> Client {
        self.cluster.client(DATABASE)
    }

    /// Empties all tables, so that the next run makes its own chunks, and does a checkpoint. Never timed.
    pub fn reset(&self) {
        self.session().batch_execute(EMPTY).expect("the extension's tables");
        self.checkpoint();
    }

    /// Does a checkpoint, so that no run writes the dirty pages of another.
    pub fn checkpoint(&self) {
        self.session().batch_execute("CHECKPOINT").expect("a checkpoint");
    }

    /// Compares what is stored with what must be stored, exactly. Never timed.
    #[track_caller]
    pub fn check(&self, sums: &Sums, what: &str) {
        stored(&mut self.session()).must_be(sums, what);
    }
}

/// Returns the statement that copies a file of the server into the hypertable.
pub fn copy_statement(file: &std::path::Path) -> String {
    format!("COPY market_data.btc_ticks ({COLUMNS}) FROM '{}' (FORMAT binary)", file.display())
}

/// Does some work; returns its result and the seconds that it took.
pub fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> (T, f64) {
    let start = Instant::now();
    let done = work();
    let seconds = start.elapsed().as_secs_f64();
    (done.unwrap_or_else(|e| panic!("{e:?}")), seconds)
}

/// Does some work as a transaction; returns its result, the seconds of all of it, and those of its COMMIT alone.
pub fn transaction<T>(client: &mut Client, work: impl FnOnce(&mut Client) -> Result<T, Error>) -> (T, f64, f64) {
    let ((done, commit), seconds) = timed(|| {
        client.batch_execute("BEGIN")?;
        let done = work(client)?;
        let start = Instant::now();
        client.batch_execute("COMMIT")?;
        Ok((done, start.elapsed().as_secs_f64()))
    });
    (done, seconds, commit)
}
