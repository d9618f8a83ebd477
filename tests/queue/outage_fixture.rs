//! What the tests of outages share: a cluster of their own whose workers load what is registered.

use std::time::Duration;

use btc_ingest_kit::cluster::client_again;
use btc_ingest_kit::fixture::{BUCKET, cluster_of, must_hold_sums};
use btc_ingest_kit::sql::number;
use btc_ingest_kit::ticks::{slice_key, time_text, time_us};
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{Cluster, ClusterBuilder, Generator, ParquetFile, S3Server, Tick};
use postgres::Client;

/// Sixty seconds, because a whole outage or promotion fits into it.
pub const SOON: Duration = Duration::from_secs(60);
pub const DATABASE: &str = "flow";

/// Returns the builder of a cluster with two workers that load from there and try again at once.
pub fn builder(endpoint: &str) -> ClusterBuilder {
    cluster_of(endpoint)
        .preload("btc_ingest")
        .setting("btc_ingest.database", DATABASE)
        .setting("btc_ingest.workers", "2")
        .setting("btc_ingest.retry_backoff", "100ms")
        .setting("btc_ingest.retry_backoff_max", "500ms")
}

/// Starts a cluster with the extension installed where the workers look.
pub fn start(builder: ClusterBuilder) -> Cluster {
    let cluster = builder.start();
    cluster.create_database(DATABASE);
    cluster.install_extension(DATABASE);
    cluster
}

/// Opens a session as soon as the server answers.
pub fn client(cluster: &Cluster) -> Client {
    client_again(&cluster.connection_string(DATABASE))
}

/// A slice that a producer has written and not yet registered.
pub struct Slice {
    pub uri: String,
    pub bucket_us: i64,
    pub ticks: Vec<Tick>,
}

/// Stores small slices of BTCUSDT, one after another.
pub fn put_slices(s3: &S3Server, count: usize) -> Vec<Slice> {
    let mut generator = Generator::new(5, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).per_second(0.4);
    let mut slice = || {
        let bucket_us = generator.next_bucket_us();
        let ticks = generator.next_slice();
        let key = slice_key("flow", "BTCUSDT", bucket_us);
        Slice { uri: s3.put(BUCKET, &key, ParquetFile::new().bytes(&ticks)), bucket_us, ticks }
    };
    (0..count).map(|_| slice()).collect()
}

/// Registers them in one transaction, as a producer does.
pub fn register(client: &mut Client, slices: &[Slice]) {
    let mut transaction = client.transaction().unwrap();
    for slice in slices {
        upsert(&mut transaction, slice.bucket_us, "BTCUSDT", &slice.uri);
    }
    transaction.commit().unwrap();
}

/// Inserts a registry row of the documented columns, or replaces the row of an earlier object whose last ticks belong
/// to this bucket.
pub fn upsert(client: &mut impl postgres::GenericClient, bucket_us: i64, asset: &str, uri: &str) {
    let sql = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ($1::text::timestamptz, $2, $3)
               ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri";
    client.execute(sql, &[&time_text(bucket_us, "%Y-%m-%d %H:%M:%S+00"), &asset, &uri]).unwrap();
}

/// Counts the objects of this status.
pub fn count(client: &mut Client, status: &str) -> i64 {
    number(client, &format!("SELECT count(*) FROM ingestion.objects WHERE status = '{status}'"))
}

/// Waits until there is nothing left to be loaded.
#[track_caller]
pub fn wait_until_loaded(client: &mut Client, objects: usize) {
    wait_until("the last slice", SOON, || {
        let sql = "SELECT count(*) FROM landing.raw_blobs_5m WHERE status NOT IN ('loaded', 'empty')";
        count(client, "loaded") == objects as i64 && number(client, sql) == 0
    });
}

/// Checks that exactly these slices are stored.
#[track_caller]
pub fn must_hold(client: &mut Client, slices: &[Slice]) {
    must_hold_sums(client, slices.iter().flat_map(|slice| &slice.ticks));
}
