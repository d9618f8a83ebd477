//! What an operator and a producer see: doctor(), inspect_s3(), register_s3_slice() and the registry.

mod alarm;
mod backup;
mod doctor_fixture;
mod hints;
mod inspect;
mod registry;
mod settings;
mod speed;
mod tables;
mod workers;

use std::net::TcpListener;

use btc_ingest_kit::fixture::{ACCESS, BUCKET, Refusal, SECRET, loaded, refused, session};
use btc_ingest_kit::ticks::{Tick, time_text, time_us};
use btc_ingest_kit::{Cluster, FaultProxy, Generator, ParquetFile, S3Server, ServerFixture, TestDb, When};
use parquet::basic::Compression;
use postgres::{Client, Row};

use self::doctor_fixture::{doctor, failing};

const NOON: &str = "2024-08-08T12:00:00Z";

fn ticks(slices: usize) -> Vec<Tick> {
    Generator::new(1, "BTCUSDT", time_us(NOON), 1).per_second(2.0).next_slices(slices)
}

fn put(key: &str, file: ParquetFile, ticks: &[Tick]) -> String {
    ServerFixture::shared().put(&format!("doctor/{key}"), file.bytes(ticks))
}
