//! What the tests of index filling share: a database whose loads fill indexes in one way, and objects in S3.

use btc_ingest_kit::cluster::ClusterBuilder;
use btc_ingest_kit::fixture::{BUCKET, Report, cluster_of, load, loaded, server};
use btc_ingest_kit::sql::{execute, text, texts};
use btc_ingest_kit::{Cluster, ParquetFile, S3Server, ServerFixture, TestDb, Tick};
use postgres::Client;

/// The setting.
const INDEX_FILL: &str = "btc_ingest.index_fill";
/// The database of a cluster of its own.
pub const DATABASE: &str = "fill";

/// A database whose sessions fill indexes in one way.
pub enum FillDatabase {
    /// In the cluster of this test binary.
    Shared(TestDb<'static>),
    /// In a cluster of its own, which the test may end.
    Alone(Box<(Cluster, S3Server)>),
}

/// Such a database, and a session of it.
pub struct FillFixture {
    pub db: FillDatabase,
    pub client: Client,
    objects: usize,
}

impl FillDatabase {
    /// Returns the cluster.
    pub fn cluster(&self) -> &Cluster {
        match self {
            FillDatabase::Shared(db) => db.cluster(),
            FillDatabase::Alone(alone) => &alone.0,
        }
    }

    /// Returns the superuser's connection string.
    pub fn connection_string(&self) -> String {
        match self {
            FillDatabase::Shared(db) => db.connection_string(),
            FillDatabase::Alone(alone) => alone.0.connection_string(DATABASE),
        }
    }

    /// Opens another session.
    pub fn session(&self) -> Client {
        match self {
            FillDatabase::Shared(db) => db.client(),
            FillDatabase::Alone(alone) => alone.0.client(DATABASE),
        }
    }

    /// Stores an object under a key of this database and returns its uri.
    pub fn put_as(&self, key: &str, ticks: &[Tick]) -> String {
        let bytes = ParquetFile::new().bytes(ticks);
        match self {
            FillDatabase::Shared(db) => ServerFixture::shared().put(&format!("{}/{key}", db.name()), bytes),
            FillDatabase::Alone(alone) => alone.1.put(BUCKET, key, bytes),
        }
    }
}

impl FillFixture {
    /// Makes a database in the cluster of this test binary.
    pub fn new(fill: &str) -> FillFixture {
        let db = ServerFixture::shared().db();
        let sql = format!("LOAD 'btc_ingest'; ALTER DATABASE {} SET {INDEX_FILL} = '{fill}'", db.name());
        execute(&mut db.client(), &sql);
        let client = db.client();
        let mut fixture = FillFixture { db: FillDatabase::Shared(db), client, objects: 0 };
        fixture.must_fill(fill);
        fixture
    }

    /// Makes a cluster of its own, with further settings.
    pub fn alone(fill: &str, settings: &[(&str, &str)]) -> FillFixture {
        let s3 = server();
        let builder = cluster_of(&s3.endpoint()).setting(INDEX_FILL, fill);
        let cluster =
            settings.iter().fold(builder, |builder: ClusterBuilder, (name, value)| builder.setting(name, value));
        let cluster = cluster.start();
        cluster.create_database(DATABASE);
        cluster.install_extension(DATABASE);
        let client = cluster.client(DATABASE);
        let mut fixture = FillFixture { db: FillDatabase::Alone(Box::new((cluster, s3))), client, objects: 0 };
        fixture.must_fill(fill);
        fixture
    }

    fn must_fill(&mut self, fill: &str) {
        execute(&mut self.client, "LOAD 'btc_ingest'");
        assert_eq!(text(&mut self.client, &format!("SHOW {INDEX_FILL}")), fill);
    }

    /// Goes on in another cluster that holds the same database, with the same S3 server.
    pub fn move_to(&mut self, cluster: Cluster) {
        let FillDatabase::Alone(alone) = &mut self.db else { panic!("the shared cluster does not move") };
        self.client = cluster.client(DATABASE);
        alone.0 = cluster;
    }

    /// Starts a cluster of its own that was stopped, and opens the session anew.
    pub fn start_again(&mut self) {
        self.db.cluster().start();
        self.client = self.db.session();
    }

    /// Stores an object and returns its uri.
    pub fn put(&mut self, ticks: &[Tick]) -> String {
        self.objects += 1;
        self.db.put_as(&format!("{}.parquet", self.objects), ticks)
    }

    /// Stores an object and loads it. Returns how many ticks were inserted.
    #[track_caller]
    pub fn load(&mut self, ticks: &[Tick]) -> i64 {
        let uri = self.put(ticks);
        loaded(&mut self.client, &uri, "").inserted
    }
}

/// Returns the tables of the hypertable's chunks, in the order of their times.
pub fn chunks(client: &mut Client) -> Vec<String> {
    let sql = "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
                WHERE hypertable_schema = 'market_data' AND hypertable_name = 'btc_ticks' ORDER BY range_start";
    texts(client, sql)
}

/// Returns the table of the only chunk.
#[track_caller]
pub fn chunk(client: &mut Client) -> String {
    let mut all = chunks(client);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// The columns of the three indexes of a chunk.
pub const COLUMNS: [&str; 3] = ["(bucket_5m, symbol, trade_id)", "(symbol, event_time DESC)", "(bucket_5m)"];

/// Returns the index of a chunk that has these columns.
#[track_caller]
pub fn index(client: &mut Client, chunk: &str, columns: &str) -> String {
    let sql = format!(
        "SELECT indexrelid::regclass::text FROM pg_index
          WHERE indrelid = '{chunk}'::regclass AND pg_get_indexdef(indexrelid) LIKE '% USING btree {columns}'"
    );
    text(client, &sql)
}

/// Repeats a load after a conflict with another session, as every client of a database must.
#[track_caller]
pub fn load_until_it_succeeds(client: &mut Client, uri: &str) -> Report {
    for _ in 0..50 {
        match load(client, uri, "") {
            Ok(report) => return report,
            Err(error) => {
                let code = error.code().map(|code| code.code().to_owned());
                assert!(matches!(code.as_deref(), Some("40001" | "40P01")), "{uri}: {error:?}");
            }
        }
    }
    panic!("{uri}: fifty attempts failed");
}
