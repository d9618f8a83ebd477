//! Registers slices and waits until the workers have loaded them.

use std::time::Duration;

use btc_ingest_kit::ticks::time_text;
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;

use crate::data::SYMBOL;
use crate::servers::Servers;

/// A slice that is not loaded after this time is taken as lost.
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
    /// Returns the bucket as SQL and notifications write it.
    pub fn bucket(&self) -> String {
        time_text(self.bucket_us, "%Y-%m-%dT%H:%M:%SZ")
    }

    /// Inserts the registry row as a producer does, with the columns of the contract only.
    pub fn register(&self, client: &mut Client) {
        let sql = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ($1::text::timestamptz, $2, $3)";
        client.execute(sql, &[&self.bucket(), &SYMBOL, &self.uri]).expect("a registry row");
    }
}

/// Changes a setting for all sessions and workers; `setting` is `name = value`.
pub fn set(servers: &Servers, setting: &str) {
    alter_system(servers, &format!("SET {setting}"));
}

/// Gives a setting its default again.
pub fn reset(servers: &Servers, name: &str) {
    alter_system(servers, &format!("RESET {name}"));
}

fn alter_system(servers: &Servers, change: &str) {
    let mut client = servers.session();
    // One statement at a time: ALTER SYSTEM cannot run in a transaction block. The library is loaded first because it
    // defines the setting.
    for sql in ["LOAD 'btc_ingest'", &format!("ALTER SYSTEM {change}"), "SELECT pg_reload_conf()"] {
        client.batch_execute(sql).expect("a setting");
    }
}

/// Sets another S3 endpoint for the workers until it is dropped.
pub struct Endpoint<'a>(&'a Servers);

impl<'a> Endpoint<'a> {
    /// Sets it.
    pub fn set(servers: &'a Servers, endpoint: &str) -> Self {
        set(servers, &format!("btc_ingest.s3_endpoint = '{endpoint}'"));
        Self(servers)
    }
}

impl Drop for Endpoint<'_> {
    fn drop(&mut self) {
        set(self.0, &format!("btc_ingest.s3_endpoint = '{}'", self.0.s3.endpoint()));
    }
}

/// A session that is notified of every loaded slice.
pub struct Listener(Client);

impl Listener {
    /// Opens the session and listens.
    pub fn start(servers: &Servers) -> Self {
        let mut client = servers.session();
        client.batch_execute("LISTEN btc_ingest_loaded").expect("a listener");
        Self(client)
    }

    /// Waits for the next loaded slice and returns the payload of its notification.
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

    /// Returns how many ticks of the slice this session sees.
    pub fn count(&mut self, slice: &Slice) -> i64 {
        let sql = "SELECT count(*) FROM market_data.btc_ticks WHERE bucket_5m = $1::text::timestamptz";
        self.0.query_one(sql, &[&slice.bucket()]).expect("the ticks").get(0)
    }
}
