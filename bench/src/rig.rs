//! What everything is measured on: one cluster with durable settings, one S3 server, a directory for COPY's files.

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
/// The database in which all but the full chunk is measured.
pub const DATABASE: &str = "bench";
/// The columns that every way fills; `ingested_at` gets its default from all of them.
pub const COLUMNS: &str = "bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity, buyer_order_id, \
                           seller_order_id, is_market_maker";
const ACCESS: &str = "BENCHACCESSKEY";
const SECRET: &str = "bench-secret-key";

/// The same for every row, and stated with the results. Nothing that costs time and that a real server has is left out;
/// what would strike some runs and spare others (checkpoints, autovacuum) is kept out of all of them.
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
];

/// Empties whatever loads and backfills write, however many tables that is.
const EMPTY: &str = "
    DO $empty$
    BEGIN
        EXECUTE (SELECT 'TRUNCATE ' || string_agg(c.oid::regclass::text, ', ')
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.relkind = 'r' AND n.nspname IN ('landing', 'market_data', 'ingestion')
                    AND c.relname NOT IN ('schema_version', 'control'));
    END
    $empty$";

/// Cluster, server and files; all of it goes with the process.
#[derive(Debug)]
pub struct Rig {
    /// The cluster.
    pub cluster: Cluster,
    /// The server of the objects, in this process, on the same processors as the database.
    pub s3: Arc<S3Server>,
    files: ScratchDir,
}

impl Rig {
    /// Starts all of it and installs the extension.
    pub fn start() -> Self {
        let s3 = S3Server::start(ACCESS, SECRET);
        s3.create_bucket(BUCKET);
        Self::make(Arc::new(s3), Cluster::builder())
    }

    /// Another cluster before the same server of objects, whose workers load what is registered.
    pub fn with_workers(&self) -> Self {
        let builder = Cluster::builder().preload("btc_ingest").setting("btc_ingest.database", DATABASE);
        Self::make(self.s3.clone(), builder)
    }

    fn make(s3: Arc<S3Server>, builder: ClusterBuilder) -> Self {
        let mut builder = builder.durable().aws_keys(ACCESS, SECRET);
        for (name, value) in SETTINGS {
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
        let rig = Self { cluster, s3, files };
        rig.create_database(DATABASE);
        rig
    }

    /// A database with the extension.
    pub fn create_database(&self, name: &str) {
        self.cluster.create_database(name);
        self.cluster.install_extension(name);
    }

    /// The path of one of COPY's files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Stores an object and returns its uri.
    pub fn put(&self, key: &str, bytes: impl Into<bytes::Bytes>) -> String {
        self.s3.put(BUCKET, key, bytes)
    }

    /// The same without a file: its server takes as little as it can of the processors that it shares with the database.
    pub fn put_in_memory(&self, key: &str, bytes: impl Into<bytes::Bytes>) -> String {
        self.s3.put_copies(BUCKET, [key.to_owned()].into_iter(), bytes);
        format!("s3://{BUCKET}/{key}")
    }

    /// A fresh connection as the superuser: no run gains from what another left in its backend.
    pub fn session(&self) -> Client {
        self.cluster.client(DATABASE)
    }

    /// Empties all tables, so that the next run makes its own chunks, and writes out what is dirty. Never timed.
    pub fn reset(&self) {
        self.session().batch_execute(EMPTY).expect("the extension's tables");
        self.checkpoint();
    }

    /// So that no run pays for the dirty pages of another.
    pub fn checkpoint(&self) {
        self.session().batch_execute("CHECKPOINT").expect("a checkpoint");
    }

    /// All ways must bring the same ticks: compares what is stored, exactly. Never timed.
    #[track_caller]
    pub fn check(&self, sums: &Sums, what: &str) {
        stored(&mut self.session()).must_be(sums, what);
    }
}

/// A server-side COPY of a file into the hypertable.
pub fn copy_statement(file: &std::path::Path) -> String {
    format!("COPY market_data.btc_ticks ({COLUMNS}) FROM '{}' (FORMAT binary)", file.display())
}

/// Seconds that some work takes.
pub fn timed<T>(work: impl FnOnce() -> Result<T, Error>) -> (T, f64) {
    let start = Instant::now();
    let done = work();
    let seconds = start.elapsed().as_secs_f64();
    (done.unwrap_or_else(|e| panic!("{e:?}")), seconds)
}

/// Seconds that some work takes as a transaction, and of its COMMIT alone.
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
