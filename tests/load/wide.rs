//! Objects that would take thousands of locks: other sessions keep room for theirs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::{Refusal, cluster_of, load, loaded, refused, server};
use btc_ingest_kit::rows::{but, moved, must_hold, ticks, ticks_of, weekly};
use btc_ingest_kit::sql::{execute, text};
use btc_ingest_kit::ticks::Tick;
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{ParquetFile, ServerFixture, TestDb};
use postgres::Client;

const SOON: Duration = Duration::from_secs(60);

/// Locks that another session takes again and again, in one transaction.
const LOCKS_OF_OTHERS: i32 = 200;

/// A cluster whose table of locks is small: it has room for some 2,000.
fn small() -> &'static ServerFixture {
    static SHARED: OnceLock<ServerFixture> = OnceLock::new();
    SHARED.get_or_init(|| {
        let s3 = server();
        let cluster = cluster_of(&s3.endpoint()).setting("max_locks_per_transaction", "20").start();
        drop(TestDb::with_extension(&cluster));
        ServerFixture { cluster, s3 }
    })
}

fn put(server: &ServerFixture, db: &TestDb<'_>, key: &str, ticks: &[Tick]) -> String {
    server.put(&format!("{}/{key}", db.name()), ParquetFile::new().bytes(ticks))
}

/// Runs `work` while another session takes locks. It must always get them.
fn beside_others(db: &TestDb<'_>, work: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut client = db.cluster().client("postgres");
            let sql = format!("SELECT count(pg_advisory_xact_lock(n)) FROM generate_series(1, {LOCKS_OF_OTHERS}) AS n");
            let mut times = 0;
            while !is_over.load(Ordering::SeqCst) {
                client.batch_execute(&sql).map_err(Refusal::from)?;
                times += 1;
            }
            Ok::<_, Refusal>(times)
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::SeqCst);
        let others = others.join().unwrap();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(others.is_ok_and(|times| times > 0), "another session failed");
    });
}

/// Opens a session for which old ticks are plausible.
fn session(db: &TestDb<'_>) -> Client {
    let mut client = db.client();
    execute(&mut client, "SET btc_ingest.min_time = '1970-01-01'");
    client
}

#[test]
fn ticks_in_two_thousand_weeks_are_one_clear_error_and_harm_no_other_session() {
    let server = ServerFixture::shared();
    let db = server.db();
    let mut client = session(&db);
    let far = weekly("FARUSDT", 1, "1980-01-06T00:00:00Z", 2_000);
    let uri = put(server, &db, "far.parquet", &far);
    beside_others(&db, || {
        for _ in 0..3 {
            let refusal = refused(&mut client, &uri, "", "TK033");
            let begin = format!("{uri}: the ticks reach over 2000 chunks, from 1980-01-0");
            assert!(refusal.message.starts_with(&begin), "{refusal:?}");
            assert!(refusal.hint.contains("max_locks_per_transaction"), "{refusal:?}");
            assert!(refusal.hint.contains("time_unit"), "{refusal:?}");
        }
        let near = put(server, &db, "near.parquet", &ticks(1, 10));
        loaded(&mut client, &near, "");
    });
    must_hold(&mut client, &ticks(1, 10));
}

#[test]
fn two_far_ticks_count_the_chunks_between_them_only_if_these_exist() {
    let server = small();
    let db = server.db();
    let mut client = session(&db);
    let ends: Vec<Tick> = weekly("ENDSUSDT", 1, "1990-01-07T00:00:00Z", 1_000).into_iter().step_by(999).collect();
    let uri = put(server, &db, "ends.parquet", &ends);
    loaded(&mut client, &uri, "");
    must_hold(&mut client, &ends);
    assert_eq!(text(&mut client, "SELECT count(*)::text FROM show_chunks('market_data.btc_ticks')"), "2");
}

#[test]
fn chunks_of_further_dimensions_are_counted() {
    let server = small();
    let db = server.db();
    let mut client = session(&db);
    execute(&mut client, "SELECT add_dimension('market_data.btc_ticks', 'symbol', number_partitions => 4)");
    // Enough symbols that each partition gets one.
    let weeks = |first: i64, symbols: std::ops::Range<i64>| -> Vec<Tick> {
        symbols.flat_map(|n| weekly(&format!("S{n:02}USDT"), first, "1990-01-07T00:00:00Z", 70)).collect()
    };
    let far = put(server, &db, "far.parquet", &weeks(1, 0..16));
    beside_others(&db, || {
        let refusal = refused(&mut client, &far, "", "TK033");
        assert!(refusal.message.contains("reach over 280 chunks, from 1990-01-0"), "{refusal:?}");
    });
    let near: Vec<Tick> = weeks(1, 0..16).into_iter().filter(|tick| tick.trade_id <= 20).collect();
    loaded(&mut client, &put(server, &db, "near.parquet", &near), "");
    must_hold(&mut client, &near);
}

#[test]
fn loads_that_take_many_locks_wait_for_each_other_and_no_other_load_waits() {
    let server = small();
    let db = server.db();
    let first = weekly("AUSDT", 1, "1990-01-07T00:00:00Z", 60);
    let second = weekly("BUSDT", 1, "2000-01-02T00:00:00Z", 60);
    let uris = [put(server, &db, "a.parquet", &first), put(server, &db, "b.parquet", &second)];
    let narrow = put(server, &db, "c.parquet", &ticks(11, 10));
    let (mut holder, mut waiter) = (session(&db), session(&db));
    // While a transaction is open that has made a chunk, no other one makes a chunk.
    loaded(&mut holder, &put(server, &db, "before.parquet", &ticks(1, 10)), "");
    execute(&mut holder, "BEGIN");
    loaded(&mut holder, &uris[0], "");
    let pid = backend_pid(&mut waiter);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| loaded(&mut waiter, &uris[1], ""));
        let mut watcher = db.cluster().client("postgres");
        let waits = format!("FROM pg_locks WHERE pid = {pid} AND NOT granted AND locktype = 'advisory'");
        let blocked = format!("SELECT (EXISTS (SELECT {waits}))::text");
        wait_until("the second load to wait", SOON, || text(&mut watcher, &blocked) == "true");
        let mut other = db.client();
        execute(&mut other, "SET statement_timeout = '30s'");
        loaded(&mut other, &narrow, "");
        execute(&mut holder, "COMMIT");
        waiting.join().unwrap();
    });
    must_hold(&mut holder, first.iter().chain(&second).chain(&ticks(1, 10)).chain(&ticks(11, 10)));
}

#[test]
fn one_transaction_of_many_loads_ends_in_one_clear_error_and_harms_no_other_session() {
    let server = small();
    let db = server.db();
    let mut client = session(&db);
    let uris: Vec<String> = (0..30)
        .map(|year| {
            let ticks = weekly("BTCUSDT", 1 + 100 * year, &format!("{}-01-05T00:00:00Z", 1980 + year), 20);
            put(server, &db, &format!("{year}.parquet"), &ticks)
        })
        .collect();
    beside_others(&db, || {
        execute(&mut client, "BEGIN");
        let refusal = uris.iter().find_map(|uri| load(&mut client, uri, "").err()).map(Refusal::from);
        let refusal = refusal.expect("an error");
        assert_eq!(refusal.sqlstate, "TK034", "{refusal:?}");
        assert!(refusal.hint.contains("COMMIT between the calls"), "{refusal:?}");
        execute(&mut client, "ROLLBACK");
        for uri in &uris {
            loaded(&mut client, uri, "");
        }
    });
}

#[test]
fn an_object_of_seven_thousand_symbols_takes_few_locks() {
    let server = small();
    let db = server.db();
    let symbols = |id: i64, numbers: std::ops::Range<i64>| -> Vec<Tick> {
        let first = moved(&ticks_of("X", id, 1)[0], id);
        numbers.map(|n| but(&first, |tick| tick.symbol = format!("S{n:05}USDT").into())).collect()
    };
    // Some sources are those of both objects, and neither has stored an offset yet.
    let objects = [symbols(1, 0..7_000), symbols(2, 6_000..13_000)];
    let mut client = db.client();
    loaded(&mut client, &put(server, &db, "chunk.parquet", &ticks(1, 10)), "");
    let uris = [put(server, &db, "a.parquet", &objects[0]), put(server, &db, "b.parquet", &objects[1])];
    beside_others(&db, || {
        std::thread::scope(|scope| {
            for uri in &uris {
                let mut client = db.client();
                scope.spawn(move || loaded(&mut client, uri, ""));
            }
        });
    });
    must_hold(&mut client, objects.iter().flatten().chain(&ticks(1, 10)));
    let offsets = "SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE last_sequence = 1),
                                    count(*) FILTER (WHERE last_sequence = 2))
                     FROM ingestion.stream_offsets WHERE source LIKE '%:S%'";
    assert_eq!(text(&mut client, offsets), "13000 6000 7000");
}
