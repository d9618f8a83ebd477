//! One test's objects and database.

use btc_ingest_kit::fixture::{Refusal, Report, loaded};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::time_us;
use btc_ingest_kit::{Generator, ParquetFile, ServerFixture, TestDb, Tick};
use postgres::Client;

/// When [`generated`] ticks begin.
pub const NOON: &str = "2024-08-08T12:00:00Z";

pub struct AnswersFixture {
    pub server: &'static ServerFixture,
    pub db: TestDb<'static>,
    pub client: Client,
}

impl Session for AnswersFixture {
    fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl AnswersFixture {
    pub fn new() -> Self {
        let server = ServerFixture::shared();
        let db = server.db();
        let client = db.client();
        AnswersFixture { server, db, client }
    }

    /// Stores ticks under a key of this test's own, and returns the uri.
    pub fn put(&self, name: &str, ticks: &[Tick]) -> String {
        self.server.put(&format!("{}/{name}.parquet", self.db.name()), ParquetFile::new().bytes(ticks))
    }

    /// Stores ticks and loads them.
    #[track_caller]
    pub fn load(&mut self, name: &str, ticks: &[Tick]) -> Report {
        let uri = self.put(name, ticks);
        loaded(&mut self.client, &uri, "")
    }

    /// Runs a statement that must fail with this SQLSTATE, and returns the error.
    #[track_caller]
    pub fn refused(&mut self, sql: &str, sqlstate: &str) -> Refusal {
        match self.client.batch_execute(sql) {
            Ok(()) => panic!("{sql} should fail"),
            Err(error) => {
                let refusal = Refusal::from(error);
                assert_eq!(refusal.sqlstate, sqlstate, "{sql}: {refusal:?}");
                refusal
            }
        }
    }
}

/// Generates some buckets of a symbol's ticks from [`NOON`] on. Ids of different symbols are independent.
pub fn generated(symbol: &str, seed: u64, buckets: usize) -> Vec<Tick> {
    Generator::new(seed, symbol, time_us(NOON), 1000).per_second(4.0).next_slices(buckets)
}
