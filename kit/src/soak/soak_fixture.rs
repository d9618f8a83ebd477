//! What the soak and the crowd use: a cluster with workers, an S3 server, and a proxy between the two that fails at
//! random.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postgres::Client;

use super::session::Session;
use crate::{Chaos, Cluster, FaultProxy, S3Server};

/// The assets that are traded.
pub const ASSETS: [&str; 3] = ["BTCUSDT", "ETHUSDT", "SOLUSDT"];
/// The bucket of every object.
pub const BUCKET: &str = "landing";
const DATABASE: &str = "soak";
const ACCESS: &str = "SOAKACCESSKEY";
const SECRET: &str = "soak-secret-key";
/// How many loaders the cluster has.
pub const WORKERS: usize = 2;
/// The part of the requests that a fault strikes.
const STRUCK: f64 = 0.05;

/// The cluster, the S3 server and the proxy. All of them end with this value.
pub struct SoakFixture {
    pub cluster: Cluster,
    pub s3: S3Server,
    pub proxy: FaultProxy,
    dropped: AtomicUsize,
}

impl SoakFixture {
    /// Starts all of them and installs the extension. `attempts` limits the attempts of an object.
    pub fn start(attempts: u64, settings: &[(&str, &str)]) -> SoakFixture {
        let s3 = S3Server::start(ACCESS, SECRET);
        s3.create_bucket(BUCKET);
        let proxy = FaultProxy::before(&s3);
        let builder = Cluster::builder()
            .preload("btc_ingest")
            .aws_keys(ACCESS, SECRET)
            .setting("btc_ingest.database", DATABASE)
            .setting("btc_ingest.workers", &WORKERS.to_string())
            .reading_s3(BUCKET, &proxy.endpoint())
            .setting("btc_ingest.retry_backoff", "100ms")
            .setting("btc_ingest.retry_backoff_max", "2s")
            .setting("btc_ingest.max_attempts", &attempts.min(1000).to_string());
        let cluster = settings.iter().fold(builder, |builder, (name, value)| builder.setting(name, value)).start();
        cluster.create_database(DATABASE);
        cluster.install_extension(DATABASE);
        SoakFixture { cluster, s3, proxy, dropped: AtomicUsize::new(0) }
    }

    /// Stores an object and returns its uri.
    pub fn put(&self, key: &str, bytes: bytes::Bytes) -> String {
        self.s3.put(BUCKET, key, bytes)
    }

    /// Returns the connection string of the database.
    pub fn connection_string(&self) -> String {
        self.cluster.connection_string(DATABASE)
    }

    /// Returns a session that connects again after the server has restarted.
    pub fn session(&self) -> Session {
        Session::new(self.connection_string())
    }

    /// Opens a session in a server that no test kills any more.
    pub fn client(&self) -> Client {
        self.cluster.client(DATABASE)
    }

    /// Lets faults strike requests by chance from now on.
    pub fn fail_at_random(&self, seed: u64) {
        self.proxy.at_random(Some(Chaos::usual(seed, STRUCK)));
    }

    /// Ends the faults by chance.
    pub fn calm_down(&self) {
        self.proxy.at_random(None);
    }

    /// Makes S3 unreachable for a while: new connections are refused, open ones break at their next request. One
    /// asset is registered again meanwhile, so that the workers have objects to load.
    pub fn outage(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let gone = self.proxy.on(crate::When::any(), crate::Fault::Drop);
        self.proxy.refuse_connections(true);
        let again = format!(
            "UPDATE landing.raw_blobs_5m SET s3_uri = s3_uri WHERE asset = '{}' AND status = 'loaded'",
            ASSETS[1]
        );
        self.client().batch_execute(&again).expect("rows of the registry");
        let began = Instant::now();
        while began.elapsed() < time {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.proxy.refuse_connections(false);
        self.dropped.fetch_add(self.proxy.acted(gone) as usize, Ordering::SeqCst);
        self.proxy.remove(gone);
    }

    /// Returns how many requests an outage has broken.
    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}
