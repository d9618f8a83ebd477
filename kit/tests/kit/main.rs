//! The test kit proves itself here: what the other tests rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod faults;
mod listings;
mod s3;
mod ticks;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, TimeUnit};
use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::parquet::{Id, Number, Time};
use btc_ingest_kit::process::{MemoryWatch, children, descriptors, is_running, memory, threads};
use btc_ingest_kit::s3::client::{Head, Listing, S3Client};
use btc_ingest_kit::ticks::time_us;
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{Cluster, FakeImds, Fault, FaultProxy, Generator, ParquetFile, S3Server, Sums, TestDb, When};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;

const SOON: Duration = Duration::from_secs(10);

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::builder().setting("work_mem", "7MB").env("KIT_TEST", "1").start())
}

fn server() -> S3Server {
    let server = S3Server::start("ACCESS", "secret");
    server.create_bucket("landing");
    server
}

fn user(endpoint: &str) -> S3Client {
    S3Client::new(endpoint, "ACCESS", "secret", None)
}
