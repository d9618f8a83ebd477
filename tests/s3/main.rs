//! S3 as it fails and as it answers: every failure has its own SQLSTATE and leaves nothing, and no request is made in
//! vain.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod credentials;
mod hostile;
mod hostile_fixture;
mod network;
mod refused;
mod requests;
mod slow;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use btc_ingest_kit::fixture::{ACCESS, BUCKET, Refusal, SECRET, loaded, refused, session, stored, traces};
use btc_ingest_kit::ticks::time_us;
use btc_ingest_kit::{
    Cluster, FakeImds, Fault, FaultProxy, Generator, ParquetFile, S3Server, ServerFixture, SilentEndpoint, Sums,
    TestDb, Tick, When,
};
use bytes::Bytes;
use parquet::basic::Compression;
use postgres::Client;

/// Small, so that an object of more than a megabyte is read by ranges, as larger ones are.
const SMALL_MEMORY: (&str, &str) = ("btc_ingest.memory_limit", "8MB");

/// A database, and a proxy between it and the shared S3 server.
struct S3Fixture {
    db: TestDb<'static>,
    proxy: FaultProxy,
}

impl S3Fixture {
    fn new() -> S3Fixture {
        S3Fixture { db: ServerFixture::shared().db(), proxy: FaultProxy::before(&ServerFixture::shared().s3) }
    }

    fn session(&self, settings: &[(&str, &str)]) -> Client {
        session(&self.db, &self.proxy.endpoint(), settings)
    }

    /// Checks that a load fails with this SQLSTATE, names the object, has a hint, and leaves no row and no secret.
    #[track_caller]
    fn refuses(&self, settings: &[(&str, &str)], uri: &str, sqlstate: &str) -> Refusal {
        let mut client = self.session(settings);
        let refusal = refused(&mut client, uri, "", sqlstate);
        self.must_be_clean(&refusal, uri);
        assert_eq!(traces(&mut client), [], "{refusal:?}");
        refusal
    }

    #[track_caller]
    fn must_be_clean(&self, refusal: &Refusal, uri: &str) {
        assert!(refusal.message.contains(uri), "{refusal:?}");
        assert!(refusal.hint.ends_with(['.', ';']), "{refusal:?}");
        for text in [&refusal.message, &refusal.detail, &refusal.hint, &self.db.log()] {
            assert!(!text.contains(SECRET), "{text}");
        }
    }
}

fn ticks(seed: u64, slices: usize) -> Vec<Tick> {
    Generator::new(seed, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).next_slices(slices)
}

/// Makes a slice of well below a megabyte.
fn small(seed: u64) -> (Bytes, Sums) {
    let ticks = ticks(seed, 1);
    (ParquetFile::new().bytes(&ticks), Sums::of(&ticks))
}

/// Makes an object of several megabytes.
fn large(seed: u64) -> (Bytes, Sums) {
    let ticks = ticks(seed, 4);
    let bytes = ParquetFile::new().plain().codec(Compression::UNCOMPRESSED).bytes(&ticks);
    assert!(bytes.len() > 2 << 20, "{}", bytes.len());
    (bytes, Sums::of(&ticks))
}
