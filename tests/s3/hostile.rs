//! A store that does not follow S3's protocol: every deviation of the kit's store × every way in which objects are
//! loaded. Each time everything is loaded exactly, or one error says what is wrong. Memory stays within the limit.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use btc_ingest_kit::fixture::backfill::call;
use btc_ingest_kit::fixture::{cluster_of, load, stored_where};
use btc_ingest_kit::process::{children, memory};
use btc_ingest_kit::rows::START;
use btc_ingest_kit::sql::{text, wait_until_true_within};
use btc_ingest_kit::ticks::slice_key;
use btc_ingest_kit::wait::wait_for;
use btc_ingest_kit::{Deviation, HostileStore};

use super::*;

/// The database whose workers list and load by themselves.
const DATABASE: &str = "postgres";
/// Objects of each folder: more than one page.
const OBJECTS: usize = 5;
/// The memory that a process may have: the default of `btc_ingest.memory_limit`, and 48 MB.
const MEMORY: u64 = (64 + 48) << 20;
/// How long a listing or a load may take.
const SOON: Duration = Duration::from_secs(60);

/// What becomes of the objects that a listing should find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    /// They are loaded.
    Loaded,
    /// The listing fails with this SQLSTATE.
    Refused(&'static str),
    /// They are found, and each is quarantined with this SQLSTATE.
    Quarantined(&'static str),
}

/// A deviation, the SQLSTATE of a load by hand (empty: it succeeds), and what becomes of listed objects.
type Case = (Deviation, &'static str, Listed);

fn cases() -> Vec<Case> {
    use Deviation as D;
    use Listed::{Loaded, Quarantined, Refused};
    let mut cases = vec![
        (D::None, "", Loaded),
        (D::EmptyPages, "", Loaded),
        (D::IgnoresStartAfter, "", Loaded),
        (D::ControlInKey, "", Loaded),
        (D::LongEtag, "S3021", Refused("S3016")),
        (D::NoEtag, "S3020", Refused("S3016")),
        (D::WeakEtag, "S3020", Refused("S3016")),
        (D::VersionOnly, "", Refused("S3016")),
        (D::StrangeEtag, "S3021", Quarantined("S3021")),
        (D::IgnoresRange, "", Loaded),
        // A listed object is read as a whole, and without a range.
        (D::ShiftedRange, "S3021", Loaded),
        (D::WrongTotal, "S3021", Loaded),
        (D::NonsenseRange, "S3021", Loaded),
        (D::EndlessObject, "S3021", Quarantined("S3021")),
        (D::EndlessObjectRefusal, "S3021", Quarantined("S3021")),
        (D::Checksum, "", Loaded),
        (D::CompositeChecksum, "", Loaded),
        (D::FlipsOnce, "", Loaded),
        // A load by hand asks for a range, of which S3 gives no checksum.
        (D::WrongChecksum, "", Quarantined("S3022")),
        (D::Refuses(403, "InvalidObjectState"), "S3019", Quarantined("S3019")),
        (D::Refuses(403, "RequestTimeTooSkewed"), "S3018", Quarantined("S3018")),
        (D::Refuses(400, "ExpiredToken"), "S3017", Quarantined("S3017")),
        (D::RefusesOnce(400, "RequestTimeout"), "", Loaded),
        (D::RefusesOnce(400, "ThrottlingException"), "", Loaded),
        (D::RefusesOnce(400, "TokenRefreshRequired"), "S3017", Loaded),
        (D::RefusesOnce(409, "OperationAborted"), "S3009", Loaded),
    ];
    let listings = [
        D::IgnoresToken,
        D::SameToken,
        D::EndlessPages,
        D::NoToken,
        D::NoIsTruncated,
        D::Backwards,
        D::ForeignKey,
        D::CrowdedPage,
        D::EndlessListing,
        D::EndlessRefusal,
        D::HugeSize,
        D::NegativeSize,
        D::NoSize,
        D::NoListEtag,
        D::WeakListEtag,
        D::ZeroInListEtag,
        D::ZeroInKey,
        D::LongKey,
        D::TornPage,
        D::HtmlPage,
    ];
    cases.extend(listings.map(|deviation| (deviation, "", Refused("S3016"))));
    cases
}

/// A cluster with workers over a store whose folders deviate.
struct HostileFixture {
    store: HostileStore,
    cluster: Cluster,
}

/// A folder of the store, whose ticks have a symbol of their own.
struct Folder {
    name: String,
    symbol: String,
    uris: Vec<String>,
    ticks: Vec<Tick>,
}

impl HostileFixture {
    fn shared() -> &'static HostileFixture {
        static SHARED: OnceLock<HostileFixture> = OnceLock::new();
        SHARED.get_or_init(|| {
            let store = HostileStore::new();
            let cluster = cluster_of(&store.endpoint())
                .preload("btc_ingest")
                .setting("btc_ingest.database", DATABASE)
                .setting("btc_ingest.retry_backoff", "50ms")
                .setting("btc_ingest.retry_backoff_max", "200ms")
                .setting("btc_ingest.max_attempts", "2")
                .setting("btc_ingest.s3_max_attempts", "2")
                .start();
            cluster.install_extension(DATABASE);
            HostileFixture { store, cluster }
        })
    }

    /// Fills a folder of its own for one case of one test.
    fn folder(&self, test: &str, number: usize, deviation: Deviation) -> Folder {
        let (name, symbol) = (format!("{test}{number}"), format!("{}{number}", test.to_uppercase()));
        self.store.deviate(&name, deviation);
        let mut generator = Generator::new(number as u64, &symbol, time_us(START), 1).per_second(0.3);
        let (mut uris, mut ticks) = (Vec::new(), Vec::new());
        for _ in 0..OBJECTS {
            let key = slice_key(&format!("{name}/Binance"), &symbol, generator.next_bucket_us());
            let slice = generator.next_slice();
            self.store.put(&key, ParquetFile::new().bytes(&slice));
            uris.push(format!("s3://{BUCKET}/{key}"));
            ticks.extend(slice);
        }
        Folder { name, symbol, uris, ticks }
    }

    /// Runs `work`, and checks that no process of the cluster takes too much memory meanwhile.
    fn within_memory(&self, work: impl FnOnce()) {
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
    fn prefix(&self) -> String {
        format!("s3://{BUCKET}/{}/", self.name)
    }

    /// Returns the objects' statuses and SQLSTATEs, each once.
    fn statuses(&self, client: &mut Client) -> String {
        let sql = "SELECT coalesce(string_agg(DISTINCT concat_ws(' ', status, last_sqlstate), ', '), 'none')
                     FROM ingestion.objects WHERE starts_with(s3_uri, $1)";
        client.query_one(sql, &[&self.prefix()]).unwrap().get(0)
    }

    #[track_caller]
    fn must_hold(&self, client: &mut Client, what: &str, is_loaded: bool) {
        let ticks: &[Tick] = if is_loaded { &self.ticks } else { &[] };
        stored_where(client, &format!("symbol = '{}'", self.symbol)).must_be(&Sums::of(ticks), what);
    }

    /// Checks the objects once none of them waits for an attempt.
    #[track_caller]
    fn must_be(&self, client: &mut Client, what: &str, expected: Listed) {
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
fn checked(refusal: &Refusal) -> &str {
    for text in [&refusal.message, &refusal.detail, &refusal.hint] {
        assert!(!text.contains(char::is_control) && text.len() < 2_000, "{refusal:?}");
    }
    assert!(!refusal.hint.is_empty(), "{refusal:?}");
    &refusal.sqlstate
}

#[test]
fn a_load_by_hand_is_exact_or_one_clear_error() {
    let fixture = HostileFixture::shared();
    let db = TestDb::with_extension(&fixture.cluster);
    fixture.within_memory(|| {
        let mut client = db.client();
        for (number, (deviation, sqlstate, _)) in cases().into_iter().enumerate() {
            let folder = fixture.folder("hand", number, deviation);
            let what = format!("{deviation:?}");
            for uri in &folder.uris {
                match load(&mut client, uri, "").map_err(Refusal::from) {
                    Ok(_) => assert_eq!(sqlstate, "", "{what}"),
                    Err(refusal) => assert_eq!(checked(&refusal), sqlstate, "{what}: {refusal:?}"),
                }
            }
            folder.must_hold(&mut client, &what, sqlstate.is_empty());
        }
    });
}

#[test]
fn what_discover_finds_is_all_or_one_clear_error() {
    let fixture = HostileFixture::shared();
    let db = TestDb::with_extension(&fixture.cluster);
    fixture.within_memory(|| {
        let mut client = db.client();
        for (number, (deviation, _, expected)) in cases().into_iter().enumerate() {
            let folder = fixture.folder("found", number, deviation);
            let what = format!("{deviation:?}");
            let sql = "SELECT registered_new FROM btc_ingest.discover($1)";
            match (client.query_one(sql, &[&folder.prefix()]).map_err(Refusal::from), expected) {
                (Err(refusal), Listed::Refused(sqlstate)) => {
                    assert_eq!(checked(&refusal), sqlstate, "{what}: {refusal:?}");
                }
                (Ok(row), Listed::Loaded | Listed::Quarantined(_)) => {
                    assert_eq!(row.get::<_, i64>(0), OBJECTS as i64, "{what}");
                }
                (result, _) => panic!("{what}: {result:?}"),
            }
            wait_for(&what, SOON, || {
                client.batch_execute("SELECT btc_ingest.sweep()").unwrap();
                let statuses = folder.statuses(&mut client);
                (!statuses.contains("pending") && !statuses.contains("failed")).then_some(())
            });
            folder.must_be(&mut client, &what, expected);
        }
    });
}

#[test]
fn what_a_watch_finds_is_all_or_one_clear_error() {
    let fixture = HostileFixture::shared();
    fixture.within_memory(|| {
        let mut client = fixture.cluster.client(DATABASE);
        let cases = cases().into_iter().enumerate();
        let cases: Vec<(Folder, Case)> =
            cases.map(|(number, case)| (fixture.folder("watched", number, case.0), case)).collect();
        for (folder, _) in &cases {
            let sql = r#"SELECT btc_ingest.watch($1, '{"interval": "1h"}')"#;
            client.query_one(sql, &[&folder.prefix()]).unwrap();
        }
        for (folder, (deviation, _, expected)) in &cases {
            let (what, prefix) = (format!("{deviation:?}"), folder.prefix());
            let listed = format!("last_listed_at IS NOT NULL FROM btc_ingest.watches WHERE prefix = '{prefix}'");
            wait_until_true_within(&mut client, &format!("{what}: a listing"), SOON, &format!("SELECT {listed}"));
            let sqlstate = format!("SELECT sqlstate FROM btc_ingest.watches WHERE prefix = '{prefix}'");
            let sqlstate = text(&mut client, &sqlstate);
            match expected {
                Listed::Refused(expected) => assert_eq!(sqlstate, *expected, "{what}"),
                _ => assert_eq!(sqlstate, "null", "{what}"),
            }
            wait_for(&what, SOON, || {
                let statuses = folder.statuses(&mut client);
                let waits = ["pending", "failed", "loading"].iter().any(|status| statuses.contains(status));
                (!waits).then_some(())
            });
            folder.must_be(&mut client, &what, *expected);
        }
    });
}

#[test]
fn what_a_backfill_loads_is_all_or_one_clear_error() {
    let fixture = HostileFixture::shared();
    let db = TestDb::with_extension(&fixture.cluster);
    fixture.within_memory(|| {
        let mut client = db.client();
        for (number, (deviation, _, expected)) in cases().into_iter().enumerate() {
            let folder = fixture.folder("filled", number, deviation);
            let what = format!("{deviation:?}");
            let called = call(&db.connection_string(), &[folder.prefix()], "");
            match (&called.refusal, expected) {
                (Some(refusal), Listed::Refused(sqlstate)) => {
                    assert_eq!(checked(refusal), sqlstate, "{what}: {refusal:?}");
                }
                (None, Listed::Loaded | Listed::Quarantined(_)) => {}
                _ => panic!("{what}: {called:#?}"),
            }
            folder.must_be(&mut client, &what, expected);
        }
    });
}
