//! Loads beside loads, beside clients that insert by hand, and beside producers.

use std::sync::Barrier;
use std::time::Duration;

use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::{Refusal, Report, load, loaded};
use btc_ingest_kit::rows::{but, moved, must_hold, ticks};
use btc_ingest_kit::sql::{execute, text};
use btc_ingest_kit::ticks::{Random, Tick, decimal_text, time_us};
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{Fault, FaultProxy, Generator, ParquetFile, ServerFixture, TestDb, When};

const SOON: Duration = Duration::from_secs(20);

fn put(db: &TestDb<'_>, key: &str, ticks: &[Tick]) -> String {
    ServerFixture::shared().put(&format!("{}/{key}", db.name()), ParquetFile::new().bytes(ticks))
}

#[track_caller]
fn adds_up(report: &Report) {
    let [read, parts @ ..] = report.counts();
    assert_eq!(read, parts.iter().sum::<i64>(), "counts that do not add up: {report:?}");
    assert!(parts.iter().all(|count| *count >= 0), "a count below zero: {report:?}");
}

/// Returns the INSERT of a client that knows nothing of btc_ingest.
fn insert(tick: &Tick) -> String {
    let text = |value: Option<i64>| value.map_or("NULL".to_owned(), |value| format!("'{value}'"));
    format!(
        "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity,
                                            buyer_order_id, seller_order_id, is_market_maker)
         VALUES (to_timestamp({}), 'epoch'::timestamptz + {} * interval '1 us',
             'epoch'::timestamptz + {} * interval '1 us',
                 '{}', {}, {}, {}, {}, {}, {})",
        tick.bucket_us() / 1_000_000,
        tick.event_time_us,
        tick.trade_time_us.map_or("NULL".to_owned(), |time| time.to_string()),
        tick.symbol,
        tick.trade_id,
        decimal_text(tick.price.into(), 8, 8),
        decimal_text(tick.quantity, 12, 12),
        text(tick.buyer_order_id),
        text(tick.seller_order_id),
        tick.is_market_maker,
    )
}

/// Repeats a load after a transient error, as every client of a database must. Any other error fails the test.
#[track_caller]
fn until_it_succeeds<T>(what: &str, mut attempt: impl FnMut() -> Result<T, postgres::Error>) -> T {
    for _ in 0..20 {
        match attempt() {
            Ok(value) => return value,
            Err(error) => {
                let refusal = Refusal::from(error);
                let retryable = ["40001", "40P01"].contains(&refusal.sqlstate.as_str());
                assert!(retryable, "{what}: {refusal:?}");
            }
        }
    }
    panic!("{what}: twenty attempts failed");
}

/// Waits until the backend waits for a lock.
#[track_caller]
fn wait_until_blocked(db: &TestDb<'_>, pid: u32) {
    let mut watcher = db.cluster().client("postgres");
    let sql = format!("SELECT (cardinality(pg_blocking_pids({pid})) > 0)::text");
    wait_until("a blocked backend", SOON, || text(&mut watcher, &sql) == "true");
}

#[test]
fn loads_of_overlapping_objects_and_a_client_store_every_tick_once() {
    let start = time_us("2024-08-08T12:00:00Z");
    let mut random = Random(1);
    for round in 0..10 {
        let db = ServerFixture::shared().db();
        let all = Generator::new(round, "BTCUSDT", start, 1).per_second(12.0).next_slices(3);
        let (a, b) = (all.len() / 4, all.len() * 3 / 4);
        let mut objects = [all[..b].to_vec(), all[a..].to_vec()];
        for object in &mut objects {
            for at in (1..object.len()).rev() {
                object.swap(at, random.below(at as u64 + 1) as usize);
            }
        }
        // A client inserts ticks of both objects, of the overlap as well.
        let by_hand: Vec<&Tick> = (0..40).map(|_| &all[random.below(all.len() as u64) as usize]).collect();
        let uris = [put(&db, "a.parquet", &objects[0]), put(&db, "b.parquet", &objects[1])];
        let ready = Barrier::new(3);
        std::thread::scope(|scope| {
            let loads: Vec<_> = uris
                .iter()
                .map(|uri| {
                    let (ready, db) = (&ready, &db);
                    scope.spawn(move || {
                        let mut client = db.client();
                        ready.wait();
                        until_it_succeeds(uri, || load(&mut client, uri, ""))
                    })
                })
                .collect();
            let mut client = db.client();
            ready.wait();
            for tick in &by_hand {
                let sql = format!("{} ON CONFLICT DO NOTHING", insert(tick));
                until_it_succeeds("by hand", || client.batch_execute(&sql));
            }
            for (load, object) in loads.into_iter().zip(&objects) {
                let report = load.join().unwrap();
                adds_up(&report);
                assert_eq!((report.read, report.outcome.as_str()), (object.len() as i64, "loaded"));
                assert_eq!((report.conflicting, report.replaced, report.rejected), (0, 0, 0), "{report:?}");
            }
        });
        let mut client = db.client();
        must_hold(&mut client, &all);
        assert_eq!(text(&mut client, "SELECT pg_relation_size('market_data.btc_ticks')::text"), "0");
        let objects = "SELECT string_agg(status, ',') FROM ingestion.objects";
        assert_eq!(text(&mut client, objects), "loaded,loaded");
        let offset = text(&mut client, "SELECT max(last_sequence)::text FROM ingestion.stream_offsets");
        assert_eq!(offset, all.len().to_string());
    }
}

#[test]
fn many_loads_of_overlapping_objects_of_several_batches_store_every_tick_once() {
    let start = time_us("2024-08-08T12:00:00Z");
    let db = ServerFixture::shared().db();
    let all = Generator::new(77, "BTCUSDT", start, 1).per_second(150.0).next_slices(3);
    assert!(all.len() > 100_000, "{}", all.len());
    let third = all.len() / 3;
    // Each object holds two thirds, the last one in reverse order: deadlocks are allowed, wrong results are not.
    let backwards: Vec<Tick> = all[third / 2..all.len() - third / 2].iter().rev().cloned().collect();
    let objects = [all[..2 * third].to_vec(), all[third..].to_vec(), backwards];
    let uris: Vec<String> =
        objects.iter().enumerate().map(|(n, object)| put(&db, &format!("{n}.parquet"), object)).collect();
    let ready = Barrier::new(uris.len());
    std::thread::scope(|scope| {
        for (uri, object) in uris.iter().zip(&objects) {
            let (ready, db) = (&ready, &db);
            scope.spawn(move || {
                let mut client = db.client();
                ready.wait();
                let report = until_it_succeeds(uri, || load(&mut client, uri, ""));
                adds_up(&report);
                assert_eq!((report.read, report.conflicting), (object.len() as i64, 0), "{report:?}");
            });
        }
    });
    let mut client = db.client();
    must_hold(&mut client, &all);
    let inserted = text(&mut client, "SELECT sum(rows_inserted)::text FROM ingestion.objects");
    assert_eq!(inserted, all.len().to_string(), "each tick was inserted by one load");
}

#[test]
fn of_two_loads_of_one_object_one_loads_and_the_other_says_already_loaded() {
    let start = time_us("2024-08-08T12:00:00Z");
    for round in 0..5 {
        let db = ServerFixture::shared().db();
        let all = Generator::new(round, "BTCUSDT", start, 1).per_second(10.0).next_slice();
        let uri = put(&db, "a.parquet", &all);
        let ready = Barrier::new(2);
        let mut outcomes: Vec<(String, i64)> = std::thread::scope(|scope| {
            let loads = [(); 2].map(|()| {
                scope.spawn(|| {
                    let mut client = db.client();
                    ready.wait();
                    let report = loaded(&mut client, &uri, "");
                    adds_up(&report);
                    (report.outcome, report.inserted)
                })
            });
            loads.into_iter().map(|load| load.join().unwrap()).collect()
        });
        outcomes.sort();
        assert_eq!(outcomes, [("already loaded".to_owned(), 0), ("loaded".to_owned(), all.len() as i64)]);
        let mut client = db.client();
        must_hold(&mut client, &all);
        let history = "SELECT string_agg(outcome, ', ' ORDER BY id) FROM ingestion.load_history";
        assert_eq!(text(&mut client, history), "loaded, already loaded");
    }
}

#[test]
fn a_second_load_of_an_object_waits_for_the_first_and_loads_when_that_rolls_back() {
    let db = ServerFixture::shared().db();
    let uri = put(&db, "a.parquet", &ticks(1, 50));
    let mut first = db.client();
    execute(&mut first, "BEGIN");
    loaded(&mut first, &uri, "");
    std::thread::scope(|scope| {
        let mut second = db.client();
        let pid = backend_pid(&mut second);
        let waiting = scope.spawn(|| loaded(&mut { second }, &uri, ""));
        wait_until_blocked(&db, pid);
        execute(&mut first, "ROLLBACK");
        assert_eq!(waiting.join().unwrap().counts(), [50, 50, 0, 0, 0, 0]);
    });
    must_hold(&mut first, &ticks(1, 50));
}

/// Lets a client insert `by_hand` without a commit. A load of a hundred ticks meets these ticks, waits, and goes on
/// after `end`.
fn beside_an_open_insert(by_hand: &Tick, end: &str, args: &str) -> (Result<Report, Refusal>, TestDb<'static>) {
    let db = ServerFixture::shared().db();
    let uri = put(&db, "a.parquet", &ticks(1, 100));
    let mut client = db.client();
    execute(&mut client, "BEGIN");
    execute(&mut client, &insert(by_hand));
    let result = std::thread::scope(|scope| {
        let mut loader = db.client();
        let pid = backend_pid(&mut loader);
        let waiting = scope.spawn(|| load(&mut { loader }, &uri, args));
        wait_until_blocked(&db, pid);
        execute(&mut client, end);
        waiting.join().unwrap().map_err(Refusal::from)
    });
    if let Ok(report) = &result {
        adds_up(report);
    }
    (result, db)
}

#[test]
fn a_load_waits_for_an_uncommitted_insert_of_the_same_tick_and_counts_it_duplicate() {
    let all = ticks(1, 100);
    let (result, db) = beside_an_open_insert(&all[40], "COMMIT", "");
    assert_eq!(result.unwrap().counts(), [100, 99, 1, 0, 0, 0]);
    must_hold(&mut db.client(), &all);
}

#[test]
fn a_load_waits_for_an_uncommitted_insert_and_inserts_all_when_that_rolls_back() {
    let all = ticks(1, 100);
    let (result, db) = beside_an_open_insert(&all[40], "ROLLBACK", "");
    assert_eq!(result.unwrap().counts(), [100, 100, 0, 0, 0, 0]);
    must_hold(&mut db.client(), &all);
}

#[test]
fn a_load_waits_for_an_uncommitted_insert_of_another_price_and_counts_a_conflict() {
    let all = ticks(1, 100);
    let changed = but(&all[40], |tick| tick.price += 1);
    let with_changed = || all.iter().filter(|tick| tick.trade_id != 41).chain([&changed]);

    let (result, db) = beside_an_open_insert(&changed, "COMMIT", "");
    assert_eq!(result.unwrap().counts(), [100, 99, 0, 1, 0, 0]);
    must_hold(&mut db.client(), with_changed());
    let rejected = "SELECT string_agg(row_number::text, ',') FROM landing.rejected_ticks";
    assert_eq!(text(&mut db.client(), rejected), "40");

    let (result, db) = beside_an_open_insert(&changed, "COMMIT", r#"options => '{"on_conflict": "replace"}'"#);
    assert_eq!(result.unwrap().counts(), [100, 99, 0, 0, 1, 0]);
    must_hold(&mut db.client(), &all);

    let (result, db) = beside_an_open_insert(&changed, "COMMIT", r#"options => '{"on_conflict": "abort"}'"#);
    assert_eq!(result.unwrap_err().sqlstate, "TK004");
    must_hold(&mut db.client(), [&changed]);
}

#[test]
fn a_client_waits_for_a_loads_uncommitted_ticks_and_gets_its_unique_violation() {
    let db = ServerFixture::shared().db();
    let all = ticks(1, 100);
    let uri = put(&db, "a.parquet", &all);
    let mut loader = db.client();
    execute(&mut loader, "BEGIN");
    loaded(&mut loader, &uri, "");
    std::thread::scope(|scope| {
        let mut client = db.client();
        let pid = backend_pid(&mut client);
        let waiting = scope.spawn(|| { client }.batch_execute(&insert(&all[7])));
        wait_until_blocked(&db, pid);
        execute(&mut loader, "COMMIT");
        assert_eq!(Refusal::from(waiting.join().unwrap().unwrap_err()).sqlstate, "23505");
    });
    must_hold(&mut loader, &all);
}

#[test]
fn ticks_that_come_between_two_batches_of_a_load_are_merged() {
    let server = ServerFixture::shared();
    let db = server.db();
    let start = time_us("2024-08-08T12:00:00Z");
    let all = Generator::new(5, "BTCUSDT", start, 1).per_second(4000.0).next_slices(1);
    assert!(all.len() > 700_000, "too few for several reads: {}", all.len());
    let uri = put(&db, "a.parquet", &all);
    // The load's first reads pass; a later one stalls, with batches stored and others to come.
    let proxy = FaultProxy::before(&server.s3);
    let mut loader = db.client();
    execute(
        &mut loader,
        &format!("SET btc_ingest.s3_endpoint = '{}'; SET btc_ingest.s3_read_timeout = '60s'", proxy.endpoint()),
    );
    must_be_read_in_many_requests(&proxy, &db, &uri);
    proxy.on(When::get().from(12), Fault::StallAfter(0));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| loaded(&mut { loader }, &uri, ""));
        proxy.wait_until_stalled(SOON);
        let mut client = db.client();
        let last = all.last().unwrap();
        let stranger = but(&all[all.len() - 2], |tick| tick.quantity += 1);
        execute(&mut client, &insert(last));
        execute(&mut client, &insert(&stranger));
        proxy.clear();
        proxy.release();
        let report = waiting.join().unwrap();
        adds_up(&report);
        let rows = all.len() as i64;
        assert_eq!(report.counts(), [rows, rows - 2, 1, 1, 0, 0]);
    });
}

/// Checks that the object is read in more requests than the test above lets pass.
fn must_be_read_in_many_requests(proxy: &FaultProxy, db: &TestDb<'_>, uri: &str) {
    let mut client = db.client();
    execute(&mut client, &format!("SET btc_ingest.s3_endpoint = '{}'; BEGIN", proxy.endpoint()));
    loaded(&mut client, uri, "");
    execute(&mut client, "ROLLBACK");
    assert!(proxy.count("GET") > 14, "only {} reads", proxy.count("GET"));
    proxy.forget();
}

#[test]
fn a_producers_upsert_does_not_wait_for_a_running_load() {
    let server = ServerFixture::shared();
    let db = server.db();
    let all = ticks(1, 400);
    let uri = put(&db, "a.parquet", &all);
    let proxy = FaultProxy::before(&server.s3);
    proxy.on(When::get().times(1), Fault::StallAfter(100));
    let upsert = |asset: &str| {
        format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
             VALUES ('2024-08-08T12:00:00Z', '{asset}', '{uri}') ON CONFLICT (bucket_5m, asset)
             DO UPDATE SET s3_uri = excluded.s3_uri"
        )
    };
    let mut producer = db.client();
    execute(&mut producer, &upsert("BTCUSDT"));
    std::thread::scope(|scope| {
        let mut loader = db.client();
        execute(&mut loader, &format!("SET btc_ingest.s3_endpoint = '{}'", proxy.endpoint()));
        let running = scope.spawn(|| loaded(&mut { loader }, &uri, ""));
        proxy.wait_until_stalled(SOON);
        // If it waited for the load, it would wait for this test.
        execute(&mut producer, "SET lock_timeout = '5s'");
        execute(&mut producer, &upsert("BTCUSDT"));
        execute(&mut producer, &upsert("ETHUSDT"));
        execute(&mut producer, "UPDATE ingestion.objects SET metadata = metadata || '{}' WHERE true");
        execute(&mut producer, &insert(&moved(&all[0], 100)));
        assert!(!running.is_finished());
        proxy.release();
        let report = running.join().unwrap();
        assert_eq!(report.counts(), [400, 400, 0, 0, 0, 0]);
    });
    let rows = "SELECT string_agg(concat_ws(' ', to_char(bucket_5m, 'HH24:MI'), asset, status), ', '
                                  ORDER BY bucket_5m, asset) FROM landing.raw_blobs_5m";
    // The load may have read an older version than these rows name: they are checked again, which costs a HEAD.
    assert_eq!(text(&mut producer, rows), "12:00 BTCUSDT pending, 12:00 ETHUSDT pending, 12:05 BTCUSDT loaded");
    let swept = "SELECT string_agg(outcome, ', ') FROM btc_ingest.sweep()";
    assert_eq!(text(&mut producer, swept), "already loaded");
    assert_eq!(text(&mut producer, rows), "12:00 BTCUSDT loaded, 12:00 ETHUSDT empty, 12:05 BTCUSDT loaded");
}

#[test]
fn a_load_ends_by_itself_while_a_producer_holds_its_registry_row() {
    let db = ServerFixture::shared().db();
    let uri = put(&db, "a.parquet", &ticks(1, 10));
    let mut producer = db.client();
    // The load ignores another object's row of the same bucket and asset, locked or not.
    let row = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
               VALUES ('2024-08-08T12:00:00Z', 'BTCUSDT', 's3://landing/other.parquet')";
    execute(&mut producer, row);
    execute(&mut producer, "BEGIN; UPDATE landing.raw_blobs_5m SET s3_uri = 's3://landing/another.parquet'");
    let mut loader = db.client();
    execute(&mut loader, "SET lock_timeout = '5s'");
    assert_eq!(loaded(&mut loader, &uri, "").counts(), [10, 10, 0, 0, 0, 0]);
    execute(&mut producer, "COMMIT");
    let rows = "SELECT string_agg(concat_ws(' ', asset, status, s3_uri), ',') FROM landing.raw_blobs_5m";
    assert_eq!(text(&mut producer, rows), "BTCUSDT pending s3://landing/another.parquet");
}

#[test]
fn loads_of_neighbouring_buckets_share_an_offset_and_the_higher_one_stays() {
    let all = Generator::new(3, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).per_second(5.0).next_slices(8);
    for _ in 0..3 {
        let db = ServerFixture::shared().db();
        let parts: Vec<Vec<Tick>> = all.chunk_by(|a, b| a.bucket_us() == b.bucket_us()).map(<[Tick]>::to_vec).collect();
        let uris: Vec<String> =
            parts.iter().enumerate().map(|(n, part)| put(&db, &format!("Binance/BTCUSDT/{n}.parquet"), part)).collect();
        let ready = Barrier::new(uris.len());
        std::thread::scope(|scope| {
            for (uri, part) in uris.iter().zip(&parts) {
                let (ready, db) = (&ready, &db);
                scope.spawn(move || {
                    let mut client = db.client();
                    ready.wait();
                    let report = until_it_succeeds(uri, || load(&mut client, uri, ""));
                    assert_eq!(report.inserted, part.len() as i64);
                });
            }
        });
        let mut client = db.client();
        must_hold(&mut client, &all);
        let offsets = "SELECT string_agg(source || ' ' || last_sequence, ',') FROM ingestion.stream_offsets";
        assert_eq!(text(&mut client, offsets), format!("s3:binance:BTCUSDT {}", all.last().unwrap().trade_id));
        assert_eq!(text(&mut client, "SELECT count(*)::text FROM landing.raw_blobs_5m WHERE status = 'loaded'"), "8");
    }
}
