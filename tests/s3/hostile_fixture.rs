//! A cluster with workers over the kit's hostile store, and folders of its objects.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use btc_ingest_kit::fixture::{cluster_of, stored_where};
use btc_ingest_kit::process::{children, memory};
use btc_ingest_kit::rows::START;
use btc_ingest_kit::ticks::slice_key;
use btc_ingest_kit::{Deviation, HostileStore};

use super::*;

/// The database whose workers list and load by themselves.
pub const DATABASE: &str = "postgres";
/// Objects of each folder: more than one page.
pub const OBJECTS: usize = 5;
/// The memory that a process may have: the default of `btc_ingest.memory_limit`, and 48 MB.
const MEMORY: u64 = (64 + 48) << 20;
/// How long a listing or a load may take.
pub const SOON: Duration = Duration::from_secs(60);

/// What becomes of the objects that a listing should find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// They are loaded.
    Loaded,
    /// The listing fails with this SQLSTATE.
    Refused(&'static str),
    /// They are found, and each is quarantined with this SQLSTATE.
    Quarantined(&'static str),
}

/// A cluster with workers over a store whose folders deviate.
pub struct HostileFixture {
    pub store: HostileStore,
    pub cluster: Cluster,
}

/// A folder of the store, whose ticks have a symbol of their own.
pub struct Folder {
    pub name: String,
    pub symbol: String,
    pub uris: Vec<String>,
    pub ticks: Vec<Tick>,
}

impl HostileFixture {
    /// Starts both, with these settings besides.
    pub fn start(settings: &[(&str, &str)]) -> HostileFixture {
        let store = HostileStore::new();
        let cluster = cluster_of(&store.endpoint())
            .preload("btc_ingest")
            .setting("btc_ingest.database", DATABASE)
            .setting("btc_ingest.retry_backoff", "50ms")
            .setting("btc_ingest.retry_backoff_max", "200ms")
            .setting("btc_ingest.max_attempts", "2")
            .setting("btc_ingest.s3_max_attempts", "2");
        let cluster = settings.iter().fold(cluster, |cluster, (name, value)| cluster.setting(name, value)).start();
        cluster.install_extension(DATABASE);
        HostileFixture { store, cluster }
    }

    /// Fills a folder of its own for one case of one test.
    pub fn folder(&self, test: &str, number: usize, deviation: Deviation) -> Folder {
        self.folder_of(test, number, deviation, ParquetFile::new())
    }

    /// Does the same with files of another shape.
    pub fn folder_of(&self, test: &str, number: usize, deviation: Deviation, file: ParquetFile) -> Folder {
        let (name, symbol) = (format!("{test}{number}"), format!("{}{number}", test.to_uppercase()));
        self.store.deviate(&name, deviation);
        let mut generator = Generator::new(number as u64, &symbol, time_us(START), 1).per_second(0.3);
        let (mut uris, mut ticks) = (Vec::new(), Vec::new());
        for _ in 0..OBJECTS {
            let key = slice_key(&format!("{name}/Binance"), &symbol, generator.next_bucket_us());
            let slice = generator.next_slice();
            self.store.put(&key, file.bytes(&slice));
            uris.push(format!("s3://{BUCKET}/{key}"));
            ticks.extend(slice);
        }
        Folder { name, symbol, uris, ticks }
    }

    /// Runs `work`, and checks that no process of the cluster takes too much memory meanwhile.
    pub fn within_memory(&self, work: impl FnOnce()) {
        let (postmaster, is_over) = (self.cluster.pid(), AtomicBool::new(false));
        let peak = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut peak = 0;
                while !is_over.load(Ordering::SeqCst) {
                    let now = children(postmaster).into_iter().filter_map(memory).map(|memory| memory.rss_anon).max();
                    peak = peak.max(now.unwrap_or_default());
                    std::thread::sleep(Duration::from_millis(10));
                }
                peak
            });
            // The watch ends although the work panics.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            is_over.store(true, Ordering::SeqCst);
            let peak = watch.join().unwrap();
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            peak
        });
        println!("at the peak, a process had {} MB", peak >> 20);
        assert!(peak < MEMORY, "{peak} bytes");
    }
}

impl Folder {
    pub fn prefix(&self) -> String {
        format!("s3://{BUCKET}/{}/", self.name)
    }

    /// Returns the objects' statuses and SQLSTATEs, each once.
    pub fn statuses(&self, client: &mut Client) -> String {
        let sql = "SELECT coalesce(string_agg(DISTINCT concat_ws(' ', status, last_sqlstate), ', '), 'none')
                     FROM ingestion.objects WHERE starts_with(s3_uri, $1)";
        client.query_one(sql, &[&self.prefix()]).unwrap().get(0)
    }

    #[track_caller]
    pub fn must_hold(&self, client: &mut Client, what: &str, is_loaded: bool) {
        let ticks: &[Tick] = if is_loaded { &self.ticks } else { &[] };
        stored_where(client, &format!("symbol = '{}'", self.symbol)).must_be(&Sums::of(ticks), what);
    }

    /// Checks the objects once none of them waits for an attempt.
    #[track_caller]
    pub fn must_be(&self, client: &mut Client, what: &str, expected: Listed) {
        let expected_statuses = match expected {
            Listed::Loaded => "loaded".to_owned(),
            Listed::Refused(_) => "none".to_owned(),
            Listed::Quarantined(sqlstate) => format!("quarantined {sqlstate}"),
        };
        assert_eq!(self.statuses(client), expected_statuses, "{what}");
        let count = if matches!(expected, Listed::Refused(_)) { 0 } else { OBJECTS };
        let sql = "SELECT count(*) FROM ingestion.objects WHERE starts_with(s3_uri, $1)";
        assert_eq!(client.query_one(sql, &[&self.prefix()]).unwrap().get::<_, i64>(0), count as i64, "{what}");
        self.must_hold(client, what, expected == Listed::Loaded);
    }
}

/// Returns the SQLSTATE of an error, after a check that its texts are fit to be shown.
#[track_caller]
pub fn checked(refusal: &Refusal) -> &str {
    for text in [&refusal.message, &refusal.detail, &refusal.hint] {
        assert!(!text.contains(char::is_control) && text.len() < 2_000, "{refusal:?}");
    }
    assert!(!refusal.hint.is_empty(), "{refusal:?}");
    &refusal.sqlstate
}
