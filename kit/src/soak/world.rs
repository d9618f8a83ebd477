//! What a soak stands on: a cluster with workers, an S3 server, and a proxy between the two that fails at random.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postgres::Client;

use super::objects::ASSETS;
use super::session::Session;
use crate::{Chaos, Cluster, FaultProxy, S3Server};

/// The bucket of every object.
pub const BUCKET: &str = "landing";
const DATABASE: &str = "soak";
const ACCESS: &str = "SOAKACCESSKEY";
const SECRET: &str = "soak-secret-key";
/// Loaders.
pub const WORKERS: usize = 2;
/// Of the requests are struck.
const STRUCK: f64 = 0.05;

/// All of it goes with this value.
pub struct World {
    pub cluster: Cluster,
    pub s3: S3Server,
    pub proxy: FaultProxy,
    dropped: AtomicUsize,
}

impl World {
    /// Starts all of it, with the extension installed, so many attempts of an object and further settings of the
    /// server.
    pub fn start(attempts: u64, settings: &[(&str, &str)]) -> World {
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
        World { cluster, s3, proxy, dropped: AtomicUsize::new(0) }
    }

    /// Stores an object and returns its uri.
    pub fn put(&self, key: &str, bytes: bytes::Bytes) -> String {
        self.s3.put(BUCKET, key, bytes)
    }

    /// How to get there.
    pub fn connection_string(&self) -> String {
        self.cluster.connection_string(DATABASE)
    }

    /// A session that comes back when the server does.
    pub fn session(&self) -> Session {
        Session::new(self.connection_string())
    }

    /// A session of a server that is not about to die any more.
    pub fn client(&self) -> Client {
        self.cluster.client(DATABASE)
    }

    /// From now on requests are struck.
    pub fn fail_at_random(&self, seed: u64) {
        self.proxy.at_random(Some(Chaos::usual(seed, STRUCK)));
    }

    /// No more.
    pub fn calm_down(&self) {
        self.proxy.at_random(None);
    }

    /// S3 is gone for a while: connections are refused, those that stand break at their next request. One asset is
    /// registered anew meanwhile, so that somebody wants it.
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

    /// Requests that an outage has broken.
    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}
