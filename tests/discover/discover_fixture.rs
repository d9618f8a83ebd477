//! What the tests of discovery share: a cluster whose worker lists by itself, through a proxy, and a folder and a
//! symbol per test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use btc_ingest_kit::fixture::{BUCKET, cluster_of, stored_where};
use btc_ingest_kit::rows::START;
use btc_ingest_kit::ticks::{slice_key, time_us};
pub use btc_ingest_kit::wait::SOON;
use btc_ingest_kit::{Cluster, FaultProxy, Generator, ParquetFile, S3Server, Sums, Tick, fixture, wait_until};
use postgres::Client;

/// The database of the worker: it is there from the beginning.
pub const DATABASE: &str = "postgres";
/// How keys are named below a test's folder.
pub const PATTERN: &str = "{exchange}/{asset}/{yyyy}/{mm}/{dd}/{asset}_{yyyy}{mm}{dd}T{hh}{mi}Z.parquet";

/// A cluster with workers, and an S3 server behind a proxy.
pub struct DiscoveryFixture {
    pub cluster: Cluster,
    pub s3: S3Server,
    pub proxy: FaultProxy,
}

impl DiscoveryFixture {
    /// Returns the fixture of this test binary.
    pub fn shared() -> &'static DiscoveryFixture {
        static SHARED: OnceLock<DiscoveryFixture> = OnceLock::new();
        SHARED.get_or_init(|| DiscoveryFixture::start(&[]))
    }

    /// Starts a fixture of its own with further settings. It polls so rarely that only what is due happens.
    pub fn start(settings: &[(&str, &str)]) -> DiscoveryFixture {
        let s3 = fixture::server();
        let proxy = FaultProxy::before(&s3);
        let mut builder = cluster_of(&proxy.endpoint())
            .preload("btc_ingest")
            .setting("btc_ingest.database", DATABASE)
            .setting("btc_ingest.poll_interval", "10min");
        for (name, value) in settings {
            builder = builder.setting(name, value);
        }
        let cluster = builder.start();
        cluster.install_extension(DATABASE);
        DiscoveryFixture { cluster, s3, proxy }
    }

    pub fn client(&self) -> Client {
        self.cluster.client(DATABASE)
    }

    /// Returns a folder of its own.
    pub fn folder(&self) -> Folder<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let symbol = format!("SYM{number}");
        let generator = Generator::new(u64::from(number), &symbol, time_us(START), 1).per_second(0.3);
        Folder { fixture: self, name: format!("f{number}"), symbol, generator, client: self.client() }
    }

    /// Returns the process that lists.
    pub fn scheduler(&self) -> u32 {
        let mut client = self.client();
        let mut found = None;
        wait_until("the scheduler", SOON, || {
            let sql = "SELECT max(pid) FROM btc_ingest.workers() WHERE role = 'scheduler'";
            found = client.query_one(sql, &[]).unwrap().get::<_, Option<i32>>(0);
            found.is_some()
        });
        found.unwrap().unsigned_abs()
    }
}

/// The objects of one test.
pub struct Folder<'a> {
    pub fixture: &'a DiscoveryFixture,
    pub name: String,
    pub symbol: String,
    pub generator: Generator,
    pub client: Client,
}

impl Folder<'_> {
    /// Returns `s3://landing/<folder>/<text>`.
    pub fn prefix(&self, text: &str) -> String {
        format!("s3://{BUCKET}/{}/{text}", self.name)
    }

    /// Returns the pattern of the keys of [`Folder::put_next`].
    pub fn pattern(&self) -> String {
        self.prefix(PATTERN)
    }

    /// Returns the key of a bucket.
    pub fn key(&self, bucket_us: i64) -> String {
        slice_key(&format!("{}/Binance", self.name), &self.symbol, bucket_us)
    }

    /// Stores ticks at a key of the whole bucket, and returns the uri.
    pub fn put(&self, key: &str, ticks: &[Tick]) -> String {
        self.fixture.s3.put(BUCKET, key, ParquetFile::new().bytes(ticks))
    }

    /// Stores the next slice and returns its uri and ticks.
    pub fn put_next(&mut self) -> (String, Vec<Tick>) {
        let key = self.key(self.generator.next_bucket_us());
        let ticks = self.generator.next_slice();
        (self.put(&key, &ticks), ticks)
    }

    pub fn watch(&mut self, prefix: &str, options: &str) -> String {
        self.text("SELECT btc_ingest.watch($1, $2::text::jsonb)", &[&prefix, &options])
    }

    #[track_caller]
    pub fn text(&mut self, sql: &str, args: &[&(dyn postgres::types::ToSql + Sync)]) -> String {
        let row = self.client.query_one(sql, args).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".to_owned())
    }

    /// Returns columns of an object's row, separated by spaces.
    #[track_caller]
    pub fn object(&mut self, uri: &str, columns: &str) -> String {
        let sql = format!("SELECT concat_ws(' ', {columns}) FROM ingestion.objects WHERE s3_uri = $1");
        self.client.query_opt(&sql, &[&uri]).unwrap().map_or_else(|| "none".to_owned(), |row| row.get(0))
    }

    /// Waits until an object has this status.
    #[track_caller]
    pub fn wait_for(&mut self, uri: &str, status: &str) {
        self.wait_for_object(uri, "status", status);
    }

    #[track_caller]
    pub fn wait_for_object(&mut self, uri: &str, columns: &str, value: &str) {
        let what = format!("{columns} of {uri} to be {value}");
        wait_until(&what, SOON, || self.object(uri, columns) == value);
    }

    /// Returns columns of a watch, separated by spaces.
    #[track_caller]
    pub fn watched(&mut self, prefix: &str, columns: &str) -> String {
        let sql = format!("SELECT concat_ws(' ', {columns}) FROM btc_ingest.watches WHERE prefix = $1");
        self.client.query_opt(&sql, &[&prefix]).unwrap().map_or_else(|| "none".to_owned(), |row| row.get(0))
    }

    /// Waits until a watch has been listed so many more times, from beginning to end.
    #[track_caller]
    pub fn wait_for_listings(&mut self, prefix: &str, times: usize) {
        // The first listing may have begun earlier.
        for _ in 0..=times {
            let before = self.watched(prefix, "last_listed_at");
            wait_until(&format!("a listing of {prefix}"), SOON, || self.watched(prefix, "last_listed_at") != before);
        }
    }

    /// Calls discover() and returns its counts: listed, new, changed, known, passed over, skipped.
    #[track_caller]
    pub fn discover(&mut self, prefix: &str) -> String {
        let sql = "SELECT concat_ws(' ', listed, registered_new, changed, known, passed_over, skipped)
                     FROM btc_ingest.discover($1)";
        self.text(sql, &[&prefix])
    }

    /// Checks that exactly these ticks of the folder's symbol are stored.
    #[track_caller]
    pub fn must_hold(&mut self, ticks: &[Tick]) {
        let condition = format!("symbol = '{}'", self.symbol);
        stored_where(&mut self.client, &condition).must_be(&Sums::of(ticks), &self.name);
    }
}
