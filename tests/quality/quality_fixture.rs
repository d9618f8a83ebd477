//! One test's objects and database.

use btc_ingest_kit::fixture::{Refusal, Report, loaded};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{ParquetFile, ServerFixture, TestDb, Tick};
use postgres::Client;

pub struct QualityFixture {
    pub server: &'static ServerFixture,
    pub db: TestDb<'static>,
    pub client: Client,
}

impl Session for QualityFixture {
    fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl QualityFixture {
    pub fn new() -> QualityFixture {
        let server = ServerFixture::shared();
        let db = server.db();
        let client = db.client();
        QualityFixture { server, db, client }
    }

    /// Returns a key of this test's own.
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}.parquet", self.db.name())
    }

    /// Stores ticks under a key of this test's own, and returns the uri.
    pub fn put(&self, name: &str, ticks: &[Tick]) -> String {
        self.server.put(&self.key(name), ParquetFile::new().bytes(ticks))
    }

    /// Stores ticks and loads them.
    #[track_caller]
    pub fn load(&mut self, name: &str, ticks: &[Tick]) -> Report {
        let uri = self.put(name, ticks);
        loaded(&mut self.client, &uri, "")
    }

    /// Returns a line per slice of an asset: what `verify_range` says.
    #[track_caller]
    pub fn verify_range(&mut self, asset: &str) -> Vec<String> {
        let sql = format!("{VERIFIED} FROM btc_ingest.verify_range('{asset}', '-infinity', 'infinity')");
        self.texts(&sql)
    }

    /// Returns a line per slice of an object: what `verify` says.
    #[track_caller]
    pub fn verify(&mut self, uri: &str) -> Vec<String> {
        let sql = format!("{VERIFIED} FROM btc_ingest.verify('{uri}')");
        self.texts(&sql)
    }

    /// Runs a statement that must fail, and returns the error.
    #[track_caller]
    pub fn refused(&mut self, sql: &str) -> Refusal {
        match self.client.batch_execute(sql) {
            Ok(()) => panic!("{sql} should fail"),
            Err(error) => Refusal::from(error),
        }
    }
}

const VERIFIED: &str = "SELECT concat_ws(' ', asset, to_char(bucket_5m AT TIME ZONE 'UTC', 'HH24:MI'), outcome,
    'rows', object_rows, table_rows,
    CASE WHEN object_digest = table_digest THEN 'same digest' ELSE 'other digest' END,
    'missing ' || missing || missing_ids::text, 'extra ' || extra || extra_ids::text,
    'differing ' || differing || differing_ids::text, problem)";
