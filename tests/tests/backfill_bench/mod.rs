//! What the tests of backfills share: a cluster that tries again at once, and a database with its own keys per test.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub mod doomed;

use std::fmt::Write;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use btc_ingest_tests::command::run;
use btc_ingest_tests::rows::START;
use btc_ingest_tests::stand::{Refusal, Stored, plain, stored};
pub use btc_ingest_tests::stand::{number, text};
use btc_ingest_tests::ticks::{BUCKET_US, time_us};
use btc_ingest_tests::wait::wait_until;
use btc_ingest_tests::{Cluster, FaultProxy, Generator, ParquetFile, Stand, Sums, TestDb, Tick};
use postgres::{Client, NoTls};

pub const SOON: Duration = Duration::from_secs(30);
/// Tries before quarantine.
pub const MOST_ATTEMPTS: i32 = 3;

/// The stand of this test binary, whose workers pause for milliseconds where others pause for minutes.
pub fn stand() -> &'static Stand {
    static STAND: OnceLock<Stand> = OnceLock::new();
    STAND.get_or_init(|| {
        let stand = Stand::start();
        patient_no_more(&stand.cluster);
        stand
    })
}

/// Makes a cluster try failed objects again at once, and not too often.
pub fn patient_no_more(cluster: &Cluster) {
    let sql = format!(
        "LOAD 'btc_ingest'; ALTER SYSTEM SET btc_ingest.retry_backoff = '50ms';
         ALTER SYSTEM SET btc_ingest.retry_backoff_max = '200ms';
         ALTER SYSTEM SET btc_ingest.max_attempts = {MOST_ATTEMPTS}; SELECT pg_reload_conf();"
    );
    cluster.psql("postgres", &sql).unwrap();
}

/// A database, and keys that begin with its name.
pub struct Bench {
    pub stand: &'static Stand,
    pub db: TestDb<'static>,
    pub client: Client,
}

impl Bench {
    pub fn new() -> Bench {
        let stand = stand();
        let db = stand.db();
        let client = db.client();
        Bench { stand, db, client }
    }

    /// `s3://landing/<database>/<text>`.
    pub fn prefix(&self, text: &str) -> String {
        format!("s3://landing/{}/{text}", self.db.name())
    }

    pub fn put(&self, key: &str, ticks: &[Tick]) -> String {
        self.put_bytes(key, ParquetFile::new().bytes(ticks))
    }

    pub fn put_bytes(&self, key: &str, bytes: impl Into<bytes::Bytes>) -> String {
        self.stand.put(&format!("{}/{key}", self.db.name()), bytes)
    }

    /// Stores one small object per bucket under `Binance/BTCUSDT/`, and returns their ticks.
    pub fn put_small(&self, objects: usize) -> Vec<Tick> {
        put_small(self.stand, self.db.name(), objects)
    }

    /// Workers and sessions that begin from now on reach S3 through this proxy.
    pub fn through(&mut self, proxy: &FaultProxy) {
        self.set("s3_endpoint", &proxy.endpoint());
    }

    /// A setting of every worker and session of this database that begins from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        // PostgreSQL checks a setting's rights only where the library is loaded.
        self.run(&format!("LOAD 'btc_ingest'; ALTER DATABASE {} SET btc_ingest.{name} = '{value}'", self.db.name()));
        self.client = self.db.client();
    }

    /// Calls and watches to the end.
    pub fn call(&self, prefixes: &[String], args: &str) -> Called {
        call(&self.db.connection_string(), prefixes, args)
    }

    /// The same, where it must end well.
    #[track_caller]
    pub fn done(&self, prefixes: &[String], args: &str) -> Called {
        let called = self.call(prefixes, args);
        assert_eq!(called.refusal, None, "{:#?}", called.said);
        called
    }

    /// Calls from a thread of its own.
    pub fn begin(&self, prefixes: &[String], args: &str) -> JoinHandle<Called> {
        let (connection, prefixes, args) = (self.db.connection_string(), prefixes.to_vec(), args.to_owned());
        std::thread::spawn(move || call(&connection, &prefixes, &args))
    }

    #[track_caller]
    pub fn text(&mut self, sql: &str) -> String {
        text(&mut self.client, sql)
    }

    #[track_caller]
    pub fn number(&mut self, sql: &str) -> i64 {
        number(&mut self.client, sql)
    }

    #[track_caller]
    pub fn run(&mut self, sql: &str) {
        self.client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Waits until a question has the answer true.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, sql: &str) {
        let client = &mut self.client;
        wait_until(what, SOON, || text(client, &format!("SELECT ({sql})::text")) == "true");
    }

    /// How many objects are loaded.
    pub fn loaded(&mut self) -> i64 {
        self.number("SELECT count(*) FROM ingestion.objects WHERE status = 'loaded'")
    }

    /// One line of `backfill_status` of the latest backfill.
    pub fn status(&mut self, columns: &str) -> String {
        let sql = format!(
            "SELECT concat_ws(' ', {columns}) FROM btc_ingest.backfill_status((SELECT max(id) FROM ingestion.backfills))"
        );
        self.text(&sql)
    }

    /// Workers of this database.
    pub fn workers(&mut self) -> Vec<u32> {
        workers(&mut self.client)
    }

    /// What is stored is exactly this, every object is loaded, and nothing is left of the work.
    #[track_caller]
    pub fn must_hold(&mut self, ticks: &[Tick]) {
        must_hold(&mut self.client, ticks);
        assert_eq!(self.text(STATUSES), "loaded");
        self.must_be_quiet();
    }

    /// No worker, no lock, nothing in work.
    #[track_caller]
    pub fn must_be_quiet(&mut self) {
        must_be_quiet(&mut self.client);
    }
}

/// The statuses that objects have.
pub const STATUSES: &str = "SELECT string_agg(DISTINCT status, ' ' ORDER BY status) FROM ingestion.objects";

/// The sums of all ticks, which must have no two of one id.
#[track_caller]
pub fn must_hold(client: &mut Client, ticks: &[Tick]) {
    let found: Stored = stored(client);
    found.must_be(&Sums::of(ticks), "after the backfill");
    let quantity: i128 = ticks.iter().map(|tick| tick.quantity).sum();
    assert_eq!(found.quantity, plain(&btc_ingest_tests::ticks::decimal_text(quantity, 12, 12)), "sum(quantity)");
}

#[track_caller]
pub fn must_be_quiet(client: &mut Client) {
    wait_until("the workers to end", SOON, || workers(client).is_empty());
    // But the one by which a loader of a preloaded library keeps its number for as long as it lives.
    let locks = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                  WHERE d.datname = current_database() AND l.locktype = 'advisory'
                    AND (l.classid::bigint << 32 | l.objid::bigint) <> ALL (
                            SELECT hashtextextended(format('btc_ingest.loader:%s', slot), 0) FROM generate_series(0, 63) AS slot)";
    // TimescaleDB's own jobs take some for a moment.
    wait_until("the advisory locks to go", SOON, || number(client, locks) == 0);
}

/// Processes of backfills in the client's database.
pub fn workers(client: &mut Client) -> Vec<u32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'btc_ingest backfill' AND datname = current_database() ORDER BY pid";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get::<_, i32>(0).unsigned_abs()).collect()
}

pub fn put_small(stand: &Stand, folder: &str, objects: usize) -> Vec<Tick> {
    let mut generator = Generator::new(11, "BTCUSDT", time_us(START), 1).per_second(0.3);
    let mut all = Vec::new();
    for _ in 0..objects {
        let key =
            btc_ingest_tests::ticks::slice_key(&format!("{folder}/Binance"), "BTCUSDT", generator.next_bucket_us());
        let slice = generator.next_slice();
        stand.put(&key, ParquetFile::new().bytes(&slice));
        all.extend(slice);
    }
    assert!(generator.next_bucket_us() == time_us(START) + objects as i64 * BUCKET_US);
    all
}

/// Makes a role. Roles belong to the cluster, and tests run side by side.
pub fn role(name: &str) -> String {
    format!("DO $$ BEGIN CREATE ROLE {name}; EXCEPTION WHEN duplicate_object THEN NULL; END $$;")
}

/// Gives everything that holds data to a new role, which is no superuser.
pub fn owned_by(owner: &str) -> String {
    const OURS: &str = "nspname IN ('landing', 'market_data', 'signals', 'ingestion', 'ops')";
    format!(
        "{}DO $$ DECLARE t record; BEGIN
             FOR t IN SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                       WHERE {OURS} AND c.relkind = 'r' LOOP
                 EXECUTE format('ALTER TABLE %s OWNER TO {owner}', t.name);
             END LOOP;
             FOR t IN SELECT nspname AS name FROM pg_namespace WHERE {OURS} LOOP
                 EXECUTE format('ALTER SCHEMA %I OWNER TO {owner}', t.name);
             END LOOP;
         END $$;",
        role(owner)
    )
}

/// What a call said until it ended.
#[derive(Debug, Clone)]
pub struct Called {
    /// (severity, message), in order.
    pub said: Vec<(String, String)>,
    pub refusal: Option<Refusal>,
}

impl Called {
    /// The messages of one severity.
    pub fn of(&self, severity: &str) -> Vec<&str> {
        self.said.iter().filter(|(of, _)| of == severity).map(|(_, message)| message.as_str()).collect()
    }

    /// The SQLSTATE of the error; nothing: it ended well.
    pub fn sqlstate(&self) -> &str {
        self.refusal.as_ref().map_or("", |refusal| &refusal.sqlstate)
    }
}

/// The statement of a call.
pub fn statement(prefixes: &[String], args: &str) -> String {
    let mut list = String::new();
    for prefix in prefixes {
        let comma = if list.is_empty() { "" } else { ", " };
        write!(list, "{comma}'{}'", prefix.replace('\'', "''")).unwrap();
    }
    let comma = if args.is_empty() { "" } else { ", " };
    format!("CALL btc_ingest.backfill(ARRAY[{list}]::text[]{comma}{args})")
}

pub fn call(connection: &str, prefixes: &[String], args: &str) -> Called {
    say(connection, &statement(prefixes, args))
}

/// Runs a statement in a session of its own, and keeps all that the server says meanwhile.
pub fn say(connection: &str, sql: &str) -> Called {
    let said: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let listener = said.clone();
    let mut config: postgres::Config = connection.parse().unwrap();
    config.notice_callback(move |notice| {
        listener.lock().unwrap().push((notice.severity().to_owned(), notice.message().to_owned()));
    });
    let mut client = config.connect(NoTls).unwrap();
    let refusal = client.batch_execute(sql).err().map(|error| match error.as_db_error() {
        Some(_) => Refusal::from(error),
        None => {
            Refusal { sqlstate: "08006".into(), message: error.to_string(), detail: String::new(), hint: String::new() }
        }
    });
    drop(client);
    let said = said.lock().unwrap().clone();
    Called { said, refusal }
}

/// Sends SIGKILL.
pub fn kill(pid: u32) {
    run(std::process::Command::new("kill").args(["-9", &pid.to_string()])).unwrap();
}

/// A session, if the server answers.
pub fn try_client(connection: &str) -> Option<Client> {
    Client::connect(connection, NoTls).ok()
}
