//! One test's objects and database: weeks of ticks, each in a chunk of its own.

use btc_ingest_kit::fixture::chunks::{some_ticks, week};
use btc_ingest_kit::fixture::{Refusal, loaded};
use btc_ingest_kit::sql::{Session, texts};
use btc_ingest_kit::{ParquetFile, ServerFixture, TestDb, Tick};
use postgres::Client;

/// What is held back, with the date of its chunk.
pub const HELD: &str = "SELECT to_char(range_from AT TIME ZONE 'UTC', 'YYYY-MM-DD') || ' ' || reason
                          FROM btc_ingest.retention WHERE state = 'held back' ORDER BY range_from";
/// The weeks that are dropped, with their ticks.
pub const DROPPED: &str = "SELECT concat_ws(' ', to_char(range_from AT TIME ZONE 'UTC', 'YYYY-MM-DD'), asset, ticks,
                                            objects)
                             FROM btc_ingest.retention WHERE state = 'dropped' ORDER BY range_from, asset";
pub const RUN: &str = "CALL btc_ingest.run_retention()";

pub struct RetentionFixture {
    pub server: &'static ServerFixture,
    pub db: TestDb<'static>,
    pub client: Client,
}

impl Session for RetentionFixture {
    fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl RetentionFixture {
    pub fn new() -> Self {
        Self::of(ServerFixture::shared())
    }

    pub fn of(server: &'static ServerFixture) -> Self {
        let db = server.db();
        let client = db.client();
        Self { server, db, client }
    }

    /// Makes a database if TimescaleDB has jobs, compression and continuous aggregates.
    pub fn of_community() -> Option<Self> {
        let mut fixture = Self::new();
        if fixture.is_community() {
            return Some(fixture);
        }
        println!("skipped: needs the Community edition");
        None
    }

    pub fn is_community(&mut self) -> bool {
        self.text("SHOW timescaledb.license") == "timescale"
    }

    /// Stores ticks under a key of this test's own, and returns the uri.
    pub fn put(&self, name: &str, ticks: &[Tick]) -> String {
        self.server.put(&self.key(name), ParquetFile::new().bytes(ticks))
    }

    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}.parquet", self.db.name())
    }

    pub fn uri(&self, name: &str) -> String {
        format!("s3://landing/{}", self.key(name))
    }

    /// Loads weeks of ticks, an object each, and returns their ticks.
    pub fn load_weeks(&mut self, weeks: std::ops::Range<i64>) -> Vec<Vec<Tick>> {
        let load = |number| {
            let ticks = some_ticks("BTCUSDT", week(number), 2);
            let uri = self.put(&format!("week{number}"), &ticks);
            loaded(&mut self.client, &uri, "");
            ticks
        };
        weeks.map(load).collect()
    }

    /// Lets ticks be dropped that are older than the beginning of a week. (A minute more makes up for rounding.) The
    /// job of the row waits, so that nothing is dropped but by the test.
    pub fn drop_before(&mut self, number: i64) {
        let at = week(number);
        self.run(&format!(
            "UPDATE ops.retention_jobs
                SET enabled = true, policy = jsonb_build_object('drop_after', format('%s seconds',
                        floor(extract(epoch FROM clock_timestamp()) - {at} / 1000000 - 60)))
              WHERE job_name = 'drop ticks';
             SELECT alter_job(job_id, next_start => now() + interval '1 year')
               FROM timescaledb_information.jobs WHERE proc_name = 'run_retention'"
        ));
    }

    /// Returns the starts of all chunks.
    pub fn chunks(&mut self) -> Vec<String> {
        let sql = "SELECT to_char(range_start AT TIME ZONE 'UTC', 'YYYY-MM-DD')
                     FROM timescaledb_information.chunks WHERE hypertable_name = 'btc_ticks' ORDER BY range_start";
        texts(&mut self.client, sql)
    }

    pub fn lines(&mut self, sql: &str) -> Vec<String> {
        texts(&mut self.client, sql)
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

    /// Returns the lines of doctor() about retention: whether it is fine, what, and the hint.
    pub fn doctor(&mut self) -> Vec<(bool, String, String)> {
        let sql = "SELECT ok, detail, coalesce(hint, '') FROM btc_ingest.doctor() WHERE name = 'retention'";
        let rows = self.client.query(sql, &[]).expect("doctor()");
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}
