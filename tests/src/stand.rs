//! What most tests of a load stand on: one cluster and one S3 server per test binary, and a database per test.

use std::path::PathBuf;
use std::sync::OnceLock;

use bytes::Bytes;
use postgres::{Client, Row};

use crate::cluster::{Cluster, TestDb};
use crate::s3::S3Server;
use crate::ticks::Sums;

/// The bucket of every object of a stand.
pub const BUCKET: &str = "landing";
/// The access key of every stand.
pub const ACCESS: &str = "STANDACCESSKEY";
/// Its secret, which nobody may ever see.
pub const SECRET: &str = "stand-secret-key";

/// A cluster that may read everything in one bucket of one S3 server.
#[derive(Debug)]
pub struct Stand {
    /// With btc_ingest's settings for the server.
    pub cluster: Cluster,
    /// With the bucket.
    pub s3: S3Server,
}

impl Stand {
    /// The one of this test binary, made by the first test that asks.
    pub fn shared() -> &'static Stand {
        static STAND: OnceLock<Stand> = OnceLock::new();
        STAND.get_or_init(Stand::start)
    }

    /// One of its own.
    pub fn start() -> Stand {
        let s3 = S3Server::start(ACCESS, SECRET);
        s3.create_bucket(BUCKET);
        let cluster = Cluster::builder()
            .aws_keys(ACCESS, SECRET)
            .setting("btc_ingest.allowed_prefixes", &format!("s3://{BUCKET}"))
            .setting("btc_ingest.s3_endpoint", &s3.endpoint())
            .setting("btc_ingest.s3_region", "us-east-1")
            .setting("btc_ingest.s3_force_path_style", "on")
            .start();
        // Roles belong to the whole cluster: they are made before two tests install the extension at once.
        drop(TestDb::with_extension(&cluster));
        Stand { cluster, s3 }
    }

    /// A database with btc_ingest installed.
    pub fn db(&self) -> TestDb<'_> {
        TestDb::with_extension(&self.cluster)
    }

    /// Stores an object and returns its uri. The bucket is shared by all tests: keys should begin with the test's own.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) -> String {
        self.s3.put(BUCKET, key, bytes)
    }
}

/// A superuser's session that reaches S3 at another endpoint, with further settings.
pub fn session(db: &TestDb<'_>, endpoint: &str, settings: &[(&str, &str)]) -> Client {
    let mut client = db.client();
    for (name, value) in [("btc_ingest.s3_endpoint", endpoint)].iter().chain(settings) {
        client.batch_execute(&format!("SET {name} = '{value}'")).expect("a setting");
    }
    client
}

/// Tables that a load writes and that hold rows, with how many; empty when nothing was ever stored.
pub fn traces(client: &mut Client) -> Vec<(String, i64)> {
    let tables = [
        "market_data.btc_ticks",
        "landing.raw_blobs_5m",
        "landing.rejected_ticks",
        "ingestion.objects",
        "ingestion.object_slices",
        "ingestion.load_history",
        "ingestion.stream_offsets",
    ];
    let count = |table: &str| {
        let row = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).expect("a table of the contract");
        (table.to_owned(), row.get(0))
    };
    tables.into_iter().map(count).filter(|(_, rows)| *rows > 0).collect()
}

/// The one value of a statement; "null" if it is none.
#[track_caller]
pub fn text(client: &mut Client, sql: &str) -> String {
    let row = client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".to_owned())
}

/// The one number of a statement.
#[track_caller]
pub fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// One row of `btc_ingest.load_report`.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The object.
    pub uri: String,
    /// Its version.
    pub etag: String,
    /// (bucket, asset) pairs that its ticks belong to.
    pub slices: i32,
    /// Rows in the file.
    pub read: i64,
    /// Ticks that were not there before.
    pub inserted: i64,
    /// Ticks that were there with the same values.
    pub duplicate: i64,
    /// Ticks that were there with other values, which were kept.
    pub conflicting: i64,
    /// Ticks that were there with other values, which were overwritten.
    pub replaced: i64,
    /// Rows that are no ticks.
    pub rejected: i64,
    /// Bytes fetched from S3.
    pub bytes: i64,
    /// Milliseconds from call to return.
    pub elapsed_ms: f64,
    /// `loaded` or `already loaded`.
    pub outcome: String,
}

impl Report {
    /// Rows read, inserted, duplicate, conflicting, replaced and rejected.
    pub fn counts(&self) -> [i64; 6] {
        [self.read, self.inserted, self.duplicate, self.conflicting, self.replaced, self.rejected]
    }
}

impl From<Row> for Report {
    fn from(row: Row) -> Self {
        Report {
            uri: row.get("uri"),
            etag: row.get("etag"),
            slices: row.get("slices"),
            read: row.get("rows_read"),
            inserted: row.get("rows_inserted"),
            duplicate: row.get("rows_duplicate"),
            conflicting: row.get("rows_conflicting"),
            replaced: row.get("rows_replaced"),
            rejected: row.get("rows_rejected"),
            bytes: row.get("bytes"),
            elapsed_ms: row.get("elapsed_ms"),
            outcome: row.get("outcome"),
        }
    }
}

/// Calls `load_s3_slice` with further arguments as SQL, e.g. `force => true`, or none.
pub fn load(client: &mut Client, uri: &str, args: &str) -> Result<Report, postgres::Error> {
    let comma = if args.is_empty() { "" } else { ", " };
    let sql = format!("SELECT * FROM btc_ingest.load_s3_slice($1{comma}{args})");
    client.query_one(&sql, &[&uri]).map(Report::from)
}

/// The same, where it must succeed.
#[track_caller]
pub fn loaded(client: &mut Client, uri: &str, args: &str) -> Report {
    load(client, uri, args).unwrap_or_else(|error| panic!("{uri} ({args}): {:?}", Refusal::from(error)))
}

/// The same, where it must fail, and with this SQLSTATE.
#[track_caller]
pub fn refused(client: &mut Client, uri: &str, args: &str, sqlstate: &str) -> Refusal {
    match load(client, uri, args) {
        Ok(report) => panic!("{uri} ({args}) should fail with {sqlstate}: {report:?}"),
        Err(error) => {
            let refusal = Refusal::from(error);
            assert_eq!(refusal.sqlstate, sqlstate, "{uri} ({args}): {refusal:?}");
            refusal
        }
    }
}

/// What a client sees of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The five characters.
    pub sqlstate: String,
    /// The message.
    pub message: String,
    /// The detail, or nothing.
    pub detail: String,
    /// The hint, or nothing.
    pub hint: String,
}

impl From<postgres::Error> for Refusal {
    fn from(error: postgres::Error) -> Self {
        // Anything else than an error of the server, e.g. a broken connection, is never what a test is about.
        let error = error.as_db_error().unwrap_or_else(|| panic!("not an error of the server: {error:?}"));
        Refusal {
            sqlstate: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().unwrap_or_default().to_owned(),
            hint: error.hint().unwrap_or_default().to_owned(),
        }
    }
}

/// What all ticks in the table come to, computed by PostgreSQL.
pub fn stored(client: &mut Client) -> Stored {
    stored_where(client, "true")
}

/// The same of the ticks that a condition picks.
pub fn stored_where(client: &mut Client, condition: &str) -> Stored {
    let sql = format!(
        "SELECT count(*), min(trade_id), max(trade_id), coalesce(sum(quantity), 0)::text,
                coalesce(sum(price * quantity), 0)::text, count(*) FILTER (WHERE is_market_maker)
           FROM market_data.btc_ticks WHERE {condition}"
    );
    let row = client.query_one(&sql, &[]).expect("the ticks");
    Stored {
        rows: row.get(0),
        first_id: row.get(1),
        last_id: row.get(2),
        quantity: plain(row.get(3)),
        amount: plain(row.get(4)),
        makers: row.get(5),
    }
}

/// Counts, range and exact sums of stored ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// How many.
    pub rows: i64,
    /// The smallest trade id.
    pub first_id: Option<i64>,
    /// The largest trade id.
    pub last_id: Option<i64>,
    /// Σ quantity, without zeros at its end.
    pub quantity: String,
    /// Σ price · quantity, without zeros at its end.
    pub amount: String,
    /// How many times the buyer was the maker.
    pub makers: i64,
}

impl Stored {
    /// Whether this is what a generator's ticks come to.
    #[track_caller]
    pub fn must_be(&self, sums: &Sums, what: &str) {
        assert_eq!(self.rows as u64, sums.rows, "{what}: rows");
        assert_eq!((self.first_id, self.last_id), (sums.first_id, sums.last_id), "{what}: ids");
        assert_eq!(self.amount, plain(&sums.amount_text()), "{what}: sum(price * quantity)");
    }
}

/// A decimal without the zeros at the end of its fraction, so that texts of different scales compare.
pub fn plain(number: &str) -> String {
    if !number.contains('.') {
        return number.to_owned();
    }
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The folder of real data, `$BTC_INGEST_TEST_DATA`; without it one line says that the test is skipped.
pub fn test_data() -> Option<PathBuf> {
    let dir = std::env::var_os("BTC_INGEST_TEST_DATA").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: BTC_INGEST_TEST_DATA is not set");
    }
    dir
}
