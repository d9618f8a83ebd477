//! What registers slices and waits for the workers to load them.

use std::time::Duration;

use btc_ingest_kit::ticks::time_text;
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;

use crate::data::SYMBOL;
use crate::rig::Rig;

/// A slice that is not there by then will not come.
const LIMIT: Duration = Duration::from_secs(120);

/// A slice to be registered.
#[derive(Debug, Clone)]
pub struct Slice {
    /// The object.
    pub uri: String,
    /// Its bucket, in microseconds since 1970.
    pub bucket_us: i64,
    /// Its ticks.
    pub ticks: i64,
}

impl Slice {
    /// Its bucket as SQL and notifications write it.
    pub fn bucket(&self) -> String {
        time_text(self.bucket_us, "%Y-%m-%dT%H:%M:%SZ")
    }

    /// What a producer does: the columns of the contract and nothing else.
    pub fn register(&self, client: &mut Client) {
        let sql = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ($1::text::timestamptz, $2, $3)";
        client.execute(sql, &[&self.bucket(), &SYMBOL, &self.uri]).expect("a registry row");
    }
}

/// Sets what the workers heed at once, as `name = value`.
pub fn set(rig: &Rig, setting: &str) {
    let mut client = rig.session();
    // One by one: ALTER SYSTEM cannot run in a transaction with others. Who may set it is known where the library is loaded.
    for sql in ["LOAD 'btc_ingest'", &format!("ALTER SYSTEM SET {setting}"), "SELECT pg_reload_conf()"] {
        client.batch_execute(sql).expect("a setting");
    }
}

/// Another endpoint for the workers, as long as this lives.
pub struct Endpoint<'a>(&'a Rig);

impl<'a> Endpoint<'a> {
    /// From now on.
    pub fn set(rig: &'a Rig, endpoint: &str) -> Self {
        set(rig, &format!("btc_ingest.s3_endpoint = '{endpoint}'"));
        Self(rig)
    }
}

impl Drop for Endpoint<'_> {
    fn drop(&mut self) {
        set(self.0, &format!("btc_ingest.s3_endpoint = '{}'", self.0.s3.endpoint()));
    }
}

/// A session that is told of every slice that is loaded.
pub struct Listener(Client);

impl Listener {
    /// Hears what commits from now on.
    pub fn start(rig: &Rig) -> Self {
        let mut client = rig.session();
        client.batch_execute("LISTEN btc_ingest_loaded").expect("a listener");
        Self(client)
    }

    /// Waits for the next slice that is loaded, and says what was notified of it.
    #[track_caller]
    pub fn next(&mut self) -> String {
        let next = self.0.notifications().timeout_iter(LIMIT).next().expect("a connection");
        next.expect("a slice that a worker has loaded").payload().to_owned()
    }

    /// Waits until this slice is loaded.
    #[track_caller]
    pub fn wait_for(&mut self, slice: &Slice) {
        while !self.next().contains(&slice.bucket()) {}
    }

    /// How many ticks of the slice this session sees.
    pub fn count(&mut self, slice: &Slice) -> i64 {
        let sql = "SELECT count(*) FROM market_data.btc_ticks WHERE bucket_5m = $1::text::timestamptz";
        self.0.query_one(sql, &[&slice.bucket()]).expect("the ticks").get(0)
    }
}
