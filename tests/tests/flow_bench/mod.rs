//! What the tests of slices that flow by themselves share: a cluster whose workers load what is registered.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::time::Duration;

use btc_ingest_tests::stand::{ACCESS, BUCKET, SECRET, plain, stored};
use btc_ingest_tests::ticks::{decimal_text, slice_key, time_text, time_us};
use btc_ingest_tests::wait::{wait_for, wait_until};
use btc_ingest_tests::{Cluster, ClusterBuilder, Generator, ParquetFile, S3Server, Sums, Tick};
use postgres::{Client, NoTls};

pub const SOON: Duration = Duration::from_secs(60);
pub const DATABASE: &str = "flow";

/// A server over the bucket.
pub fn s3() -> S3Server {
    let s3 = S3Server::start(ACCESS, SECRET);
    s3.create_bucket(BUCKET);
    s3
}

/// A cluster to be, with two workers that load from there and try again at once.
pub fn builder(endpoint: &str) -> ClusterBuilder {
    Cluster::builder()
        .preload("btc_ingest")
        .aws_keys(ACCESS, SECRET)
        .setting("btc_ingest.database", DATABASE)
        .setting("btc_ingest.workers", "2")
        .setting("btc_ingest.allowed_prefixes", &format!("s3://{BUCKET}"))
        .setting("btc_ingest.s3_endpoint", endpoint)
        .setting("btc_ingest.s3_region", "us-east-1")
        .setting("btc_ingest.s3_force_path_style", "on")
        .setting("btc_ingest.retry_backoff", "100ms")
        .setting("btc_ingest.retry_backoff_max", "500ms")
}

/// With the extension installed where the workers look.
pub fn start(builder: ClusterBuilder) -> Cluster {
    let cluster = builder.start();
    cluster.create_database(DATABASE);
    cluster.install_extension(DATABASE);
    cluster
}

/// A session, as soon as the server answers.
pub fn client(cluster: &Cluster) -> Client {
    let connection = cluster.connection_string(DATABASE);
    wait_for("the server", SOON, || Client::connect(&connection, NoTls).ok())
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

/// One row of the registry: the documented columns, and nothing else. There may be one already: of an object before it,
/// the last ticks of which belong to this bucket.
pub fn upsert(client: &mut impl postgres::GenericClient, bucket_us: i64, asset: &str, uri: &str) {
    let sql = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ($1::text::timestamptz, $2, $3)
               ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri";
    client.execute(sql, &[&time_text(bucket_us, "%Y-%m-%d %H:%M:%S+00"), &asset, &uri]).unwrap();
}

/// How many objects have this status.
pub fn count(client: &mut Client, status: &str) -> i64 {
    let sql = "SELECT count(*) FROM ingestion.objects WHERE status = $1";
    client.query_one(sql, &[&status]).unwrap().get(0)
}

/// Waits until there is nothing left to be loaded.
#[track_caller]
pub fn wait_until_loaded(client: &mut Client, objects: usize) {
    wait_until("the last slice", SOON, || {
        let sql = "SELECT count(*) FROM landing.raw_blobs_5m WHERE status <> 'loaded'";
        count(client, "loaded") == objects as i64 && client.query_one(sql, &[]).unwrap().get::<_, i64>(0) == 0
    });
}

/// What is stored is exactly this.
#[track_caller]
pub fn must_hold(client: &mut Client, slices: &[Slice]) {
    let ticks: Vec<&Tick> = slices.iter().flat_map(|slice| &slice.ticks).collect();
    let found = stored(client);
    found.must_be(&Sums::of(ticks.iter().copied()), "all slices");
    let quantity: i128 = ticks.iter().map(|tick| tick.quantity).sum();
    assert_eq!(found.quantity, plain(&decimal_text(quantity, 12, 12)), "sum(quantity)");
}
