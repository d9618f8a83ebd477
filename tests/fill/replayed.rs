//! The write-ahead log of loads, replayed by a streaming standby and by crash recovery while PostgreSQL compares every
//! page that it replays with the page as it was logged (`wal_consistency_checking`).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use btc_ingest_kit::Cluster;
use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::cluster::{client_again, tail};
use btc_ingest_kit::rows::must_hold;
use btc_ingest_kit::sql::{execute, text};
use btc_ingest_kit::switches::seeds;
use btc_ingest_kit::ticks::time_us;
use btc_ingest_kit::wait::wait_until;
use postgres::Client;

use crate::fill_fixture::{DATABASE, FillFixture, chunks};
use crate::random_case::RandomCase;
use crate::random_ticks::{MIDDLE, Place, RandomTicks};
use crate::scans;

both_ways!(
    a_standby_replays_random_loads_page_by_page_and_goes_on_when_it_is_promoted,
    recovery_replays_random_loads_page_by_page,
    a_chunk_that_is_made_and_filled_in_one_transaction_outlives_a_crash_without_its_log,
);

const STEPS: usize = 6;
/// Replaying with the comparison is slow.
const LIMIT: Duration = Duration::from_secs(180);
/// Each record has every page that it changes, as it is afterwards.
pub const COMPARED: [(&str, &str); 5] = [
    ("wal_consistency_checking", "all"),
    ("wal_compression", "lz4"),
    ("full_page_writes", "on"),
    ("log_min_messages", "warning"),
    // Readers of the standby are waited for, and not cancelled.
    ("max_standby_streaming_delay", "-1"),
];
/// The sum of all ticks.
const DIGEST: &str = "SELECT concat_ws(' ', count(*), sum(hashtextextended(t::text, 0))) FROM market_data.btc_ticks t";

/// Sets a flag when it goes.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Checks that a server has found no difference.
#[track_caller]
pub fn must_be_calm(cluster: &Cluster) {
    let log = cluster.log();
    let words = ["PANIC", "inconsistent page", "WAL redo at", "was terminated by signal"];
    assert!(!words.iter().any(|word| log.contains(word)), "{}", tail(&log, 40));
}

/// Waits until a standby has replayed what its primary has logged.
#[track_caller]
pub fn wait_for(standby: &Cluster, primary: &mut Client) {
    let logged = text(primary, "SELECT pg_current_wal_flush_lsn()::text");
    let mut client = standby.client(DATABASE);
    wait_until("the standby", LIMIT, || {
        must_be_calm(standby);
        text(&mut client, &format!("SELECT (pg_last_wal_replay_lsn() >= '{logged}')::text")) == "true"
    });
}

fn a_standby_replays_random_loads_page_by_page_and_goes_on_when_it_is_promoted(fill: &str) {
    for seed in seeds(1) {
        println!("seed {seed}, index_fill = {fill}");
        let fixture = FillFixture::alone(fill, &COMPARED);
        let standby = fixture.db.cluster().standby();
        let mut case = RandomCase::new(seed, fixture).small();
        let (ended, read) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut client = standby.client(DATABASE);
                while !ended.load(Ordering::SeqCst) {
                    for chunk in chunks(&mut client) {
                        scans::must_agree(&mut client, &chunk, "true");
                        read.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
            // Also if a step fails.
            let _end = OnDrop(&ended);
            for step in 0..STEPS {
                case.step(step);
            }
            wait_for(&standby, &mut case.fixture.client);
        });
        assert!(read.load(Ordering::SeqCst) > 0, "no scan of the standby");
        // Which makes the extension of the checks, on both.
        case.check();
        wait_for(&standby, &mut case.fixture.client);

        let mut client = standby.client(DATABASE);
        must_be_sound(&mut client, "on the standby");
        assert_eq!(text(&mut client, DIGEST), text(&mut case.fixture.client, DIGEST));
        for chunk in chunks(&mut client) {
            scans::must_agree(&mut client, &chunk, "true");
        }
        must_be_calm(&standby);

        case.fixture.db.cluster().kill();
        standby.promote();
        case.fixture.move_to(standby);
        for step in STEPS..STEPS + 3 {
            case.step(step);
        }
        case.check();
        must_be_calm(case.fixture.db.cluster());
    }
}

fn recovery_replays_random_loads_page_by_page(fill: &str) {
    for seed in seeds(1) {
        println!("seed {seed}, index_fill = {fill}");
        let mut case = RandomCase::new(seed, FillFixture::alone(fill, &COMPARED)).small();
        for step in 0..STEPS {
            case.step(step);
            if step % 3 == 1 {
                execute(&mut case.fixture.client, "CHECKPOINT");
            }
            if step % 3 == 2 {
                case.fixture.db.cluster().crash();
                case.fixture.client = client_again(&case.fixture.db.connection_string());
                must_be_sound(&mut case.fixture.client, "after the recovery");
            }
        }
        case.check();
        must_be_calm(case.fixture.db.cluster());
    }
}

fn a_chunk_that_is_made_and_filled_in_one_transaction_outlives_a_crash_without_its_log(fill: &str) {
    // What is made in a transaction is then not logged but written when the transaction commits.
    let minimal = [("wal_level", "minimal"), ("max_wal_senders", "0"), ("shared_buffers", "4MB")];
    let mut fixture = FillFixture::alone(fill, &minimal);
    let made = RandomTicks::new(5, time_us("2024-08-08T12:00:00Z"), 2);
    let places = |range: std::ops::Range<i64>| -> Vec<Place> {
        range.map(|at| Place { bucket: at / 20_000, symbol: (at % 2) as usize, number: MIDDLE + at }).collect()
    };
    let (first, second) = (made.ticks(&places(0..30_000)), made.ticks(&places(30_000..40_000)));
    execute(&mut fixture.client, "BEGIN");
    assert_eq!(fixture.load(&first), 30_000);
    assert_eq!(fixture.load(&second), 10_000);
    execute(&mut fixture.client, "COMMIT");
    fixture.db.cluster().crash();
    fixture.client = client_again(&fixture.db.connection_string());
    must_hold(&mut fixture.client, first.iter().chain(&second));
    must_be_sound(&mut fixture.client, "after the recovery");
    must_be_calm(fixture.db.cluster());
}
