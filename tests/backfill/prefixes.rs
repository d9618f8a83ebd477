//! Whole prefixes by background workers: what is loaded, what is passed over, and in which order.

use std::collections::BTreeMap;
use std::time::Duration;

use btc_ingest_kit::cluster::try_client;
use btc_ingest_kit::fixture::backfill::{BackfillFixture, retry_at_once, workers};
use btc_ingest_kit::fixture::{BUCKET, traces};
use btc_ingest_kit::process::{MemoryWatch, kill};
use btc_ingest_kit::rows::{START, moved, ticks, ticks_of};
use btc_ingest_kit::sql::{Session, number, text};
use btc_ingest_kit::ticks::{BUCKET_US, slice_key, time_us};
use btc_ingest_kit::wait::{SOON, wait_for, wait_until};
use btc_ingest_kit::{Fault, FaultProxy, Generator, ParquetFile, ServerFixture, TestDb, Tick, When};

/// Counts how often each key was read.
fn reads(proxy: &FaultProxy) -> BTreeMap<String, usize> {
    let mut reads = BTreeMap::new();
    for seen in proxy.requests().iter().filter(|seen| seen.method == "GET" && !seen.path.contains("list-type")) {
        *reads.entry(seen.path.split('?').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    reads
}

/// Stores two markets, one of them over several chunks.
fn two_markets(fixture: &BackfillFixture) -> (Vec<String>, Vec<Tick>) {
    let mut all = fixture.put_small(20);
    let folder = format!("{}/Kraken", fixture.db.name());
    for week in 0..8 {
        let start = time_us(START) + week * 7 * 288 * BUCKET_US;
        let mut generator = Generator::new(5, "ETHUSDT", start, 1_000_000 + week * 10_000).per_second(0.5);
        let key = slice_key(&folder, "ETHUSDT", generator.next_bucket_us());
        let slice = generator.next_slice();
        fixture.server.put(&key, ParquetFile::new().bytes(&slice));
        all.extend(slice);
    }
    (vec![fixture.prefix("Binance/"), fixture.prefix("Kraken/{asset}/{yyyy}/{mm}/{dd}/")], all)
}

fn every_object_is_loaded_exactly_by(parallel: usize) {
    let mut fixture = BackfillFixture::new();
    let (prefixes, all) = two_markets(&fixture);
    let called = fixture.done(&prefixes, &format!("parallel => {parallel}"));
    fixture.must_hold(&all);

    let bytes = fixture.number("SELECT sum(size_bytes)::bigint FROM ingestion.objects");
    let report = format!("done 28 0 28 0 0 {bytes} {bytes} {}", all.len());
    let columns = "status, objects_total, objects_known, objects_done, objects_failed, \
                   objects_waiting, bytes_total, bytes_done, rows_inserted";
    assert_eq!(fixture.status(columns), report);
    assert_eq!(fixture.status("workers, message, finished_at > created_at"), "0 t");
    let said = called.of("NOTICE");
    let (first, last) = (said.first().unwrap(), said.last().unwrap());
    assert!(first.contains("has begun; it goes on without this session"), "{said:#?}");
    let end = format!("is done: 28 objects loaded, 0 loaded before, 0 failed; {} rows in", all.len());
    assert!(last.contains(&end), "{said:#?}");
    assert_eq!(called.of("WARNING"), [""; 0]);

    assert_eq!(fixture.text("SELECT string_agg(DISTINCT attempts::text, ' ') FROM ingestion.objects"), "1");
    let history = "SELECT concat_ws(' ', count(*), count(DISTINCT s3_uri), min(outcome), max(outcome))
                     FROM ingestion.load_history";
    assert_eq!(fixture.text(history), "28 28 loaded loaded");
}

#[test]
fn every_object_under_several_prefixes_is_loaded_exactly_by_one_worker() {
    every_object_is_loaded_exactly_by(1);
}

#[test]
fn every_object_under_several_prefixes_is_loaded_exactly_by_three_workers() {
    every_object_is_loaded_exactly_by(3);
}

#[test]
fn no_object_is_read_twice_or_asked_for_beforehand() {
    for parallel in [1, 3] {
        let mut fixture = BackfillFixture::new();
        let proxy = FaultProxy::before(&fixture.server.s3);
        fixture.through(&proxy);
        let (prefixes, all) = two_markets(&fixture);
        fixture.done(&prefixes, &format!("parallel => {parallel}"));
        fixture.must_hold(&all);
        // A listing tells size and version of an object.
        let reads = reads(&proxy);
        assert_eq!((reads.len(), proxy.count("HEAD")), (28, 0));
        assert!(reads.values().all(|times| *times == 1), "{parallel} workers: {reads:#?}");
    }
}

#[test]
fn a_second_backfill_loads_nothing_and_a_changed_object_again() {
    let mut fixture = BackfillFixture::new();
    let mut all = fixture.put_small(5);
    let prefixes = [fixture.prefix("Binance/")];
    fixture.done(&prefixes, "");
    let before = traces(&mut fixture.client);

    let again = fixture.done(&prefixes, "");
    assert!(
        again.of("NOTICE").last().unwrap().contains("0 objects loaded, 5 loaded before, 0 failed; 0 rows"),
        "{again:#?}"
    );
    assert_eq!(fixture.status("objects_total, objects_known, objects_done, bytes_total"), "5 5 0 0");
    assert_eq!(traces(&mut fixture.client), before);

    // The first object of the day has one tick more, at its end, and another id.
    let mut changed: Vec<Tick> = all.iter().filter(|tick| tick.bucket_us() == time_us(START)).cloned().collect();
    let mut late = changed.last().unwrap().clone();
    late.trade_id = 900_000;
    changed.push(late.clone());
    all.push(late);
    let key = slice_key(&format!("{}/Binance", fixture.db.name()), "BTCUSDT", time_us(START));
    fixture.server.put(&key, ParquetFile::new().bytes(&changed));
    fixture.done(&prefixes, "");
    assert_eq!(fixture.status("objects_total, objects_known, objects_done, rows_inserted"), "5 4 1 1");
    fixture.must_hold(&all);
}

#[test]
fn placeholders_name_the_time_the_symbol_and_the_exchange() {
    let mut fixture = BackfillFixture::new();
    let file = ParquetFile::new().without("symbol");
    let slices: Vec<Vec<Tick>> =
        (0..4).map(|n| ticks_of("ADAUSDT", 1 + n * 100, 20).iter().map(|tick| moved(tick, n)).collect()).collect();
    for slice in &slices {
        let key = slice_key(&format!("{}/KuCoin", fixture.db.name()), "ADAUSDT", slice[0].bucket_us());
        fixture.server.put(&key, file.bytes(slice));
    }
    // Not of the pattern: an impossible date, a day that the name contradicts, too few digits. And no Parquet at all.
    for key in [
        "KuCoin/ADAUSDT/2024/13/08/ADAUSDT_20241308T1200Z.parquet",
        "KuCoin/ADAUSDT/2024/08/08/ADAUSDT_20240809T1200Z.parquet",
        "KuCoin/ADAUSDT/2024/08/08/ADAUSDT_2024088T1200Z.parquet",
        "KuCoin/ADAUSDT/2024/08/08/ADAUSDT_20240808T1200Z.parquet.crc",
        "KuCoin/_SUCCESS",
    ] {
        fixture.put_bytes(key, "not for us");
    }
    let pattern = fixture.prefix("{exchange}/{asset}/{yyyy}/{mm}/{dd}/{*}_{yyyy}{mm}{dd}T{hh}{mi}Z");
    // From within the second bucket to the beginning of the fourth.
    fixture.done(&[pattern], "'2024-08-08 12:07+00', '2024-08-08 12:15+00'");
    let wanted: Vec<Tick> = slices[1..3].concat();
    fixture.must_hold(&wanted);
    assert_eq!(fixture.text("SELECT string_agg(DISTINCT symbol, ' ') FROM market_data.btc_ticks"), "ADAUSDT");
    assert_eq!(fixture.text("SELECT string_agg(source, ' ') FROM ingestion.stream_offsets"), "s3:kucoin:ADAUSDT");
    // Two of the four are outside the times.
    assert_eq!(fixture.text("SELECT state ->> 'passed_over' FROM ingestion.backfills"), "7");
    assert_eq!(fixture.status("objects_total, objects_done"), "2 2");
}

#[test]
fn prefixes_that_overlap_are_counted_and_loaded_once() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(6);
    fixture.done(&[fixture.prefix("Binance/"), fixture.prefix("Binance/BTC"), fixture.prefix("{exchange}/")], "");
    fixture.must_hold(&all);
    let report = fixture.status("objects_done, objects_total - objects_known, bytes_done = bytes_total");
    assert_eq!(report, "6 6 t");
}

#[test]
fn a_prefix_without_objects_is_done_at_once() {
    let mut fixture = BackfillFixture::new();
    let called = fixture.done(&[fixture.prefix("nothing/")], "parallel => 3");
    assert!(called.of("NOTICE").last().unwrap().contains("is done: 0 objects loaded"), "{called:#?}");
    assert_eq!(fixture.status("status, objects_total"), "done 0");
    fixture.must_be_quiet();
}

#[test]
fn a_dry_run_says_what_a_backfill_would_take_and_writes_nothing() {
    let mut fixture = BackfillFixture::new();
    // Slices of a thousand ticks, as the estimate is by bytes and the footers of tiny files are most of them.
    let folder = format!("{}/Binance", fixture.db.name());
    let mut generator = Generator::new(3, "BTCUSDT", time_us(START), 1).per_second(3.0);
    let mut all = Vec::new();
    for _ in 0..40 {
        let key = slice_key(&folder, "BTCUSDT", generator.next_bucket_us());
        let slice = generator.next_slice();
        fixture.server.put(&key, ParquetFile::new().bytes(&slice));
        all.extend(slice);
    }
    fixture.put_bytes("Binance/readme.txt", "nothing");
    let prefixes = [fixture.prefix("Binance/")];
    let survey = |fixture: &mut BackfillFixture| {
        let sql = format!(
            "SELECT concat_ws(' ', objects, known, passed_over, bytes), estimated_rows, disk_bytes, free_bytes, seconds
               FROM btc_ingest_internal.survey_backfill(ARRAY['{}'])",
            prefixes[0]
        );
        let row = fixture.client.query_one(&sql, &[]).unwrap();
        let free: i64 = row.get(3);
        let rows: i64 = row.get(1);
        let (disk, seconds): (i64, f64) = (row.get(2), row.get(4));
        // No rows need no space, and a tick takes more than its nine values and less than a page.
        assert!(free > 1 << 20 && (100 * rows..=1000 * rows).contains(&disk), "{disk} bytes, {free} free");
        assert_eq!(seconds > 0.0, rows > 0, "{seconds} s");
        (row.get::<_, String>(0), rows)
    };
    let size: u64 = {
        let client = fixture.server.s3.client();
        let keys = client.list(BUCKET, &format!("{}/Binance/BTC", fixture.db.name())).unwrap();
        keys.iter().map(|key| client.head(BUCKET, key).unwrap().size).sum()
    };
    let (found, rows) = survey(&mut fixture);
    assert_eq!(found, format!("40 0 1 {size}"));
    let off = (rows - all.len() as i64).abs() as f64 / all.len() as f64;
    assert!(off < 0.05, "{rows} instead of {}", all.len());

    let called = fixture.done(&prefixes, "dry_run => true");
    assert!(called.of("NOTICE")[0].contains("40 objects, 0 of them loaded already; 1 other keys"), "{called:#?}");
    assert!(called.of("NOTICE")[1].contains(&format!("about {rows} ticks")), "{called:#?}");
    assert_eq!(traces(&mut fixture.client), []);
    assert_eq!(fixture.number("SELECT count(*) FROM ingestion.backfills"), 0);

    fixture.done(&prefixes, "");
    assert_eq!(survey(&mut fixture), ("40 40 1 0".to_owned(), 0));
}

#[test]
fn a_live_slice_is_loaded_before_the_queue_of_a_backfill() {
    let mut fixture = BackfillFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    let mut all = fixture.put_small(60);
    let live = ticks_of("LIVE", 500_000, 50);
    let uri = fixture.put("elsewhere/live.parquet", &live);
    proxy.on(When::get().key("Binance"), Fault::Latency(Duration::from_millis(150)));
    let call = fixture.begin(&[fixture.prefix("Binance/")], "parallel => 1");
    wait_until("the first objects", SOON, || fixture.loaded() >= 3);
    let sql = format!("SELECT btc_ingest.register_s3_slice('{uri}', 'LIVE', '2024-08-08 12:00+00')::text");
    fixture.text(&sql);
    let call = call.join().unwrap();
    assert_eq!(call.refusal, None);
    all.extend(live);
    fixture.must_hold(&all);
    let later = format!(
        "SELECT count(*) FROM ingestion.objects o, ingestion.objects l
          WHERE l.s3_uri = '{uri}' AND o.loaded_at > l.loaded_at"
    );
    // Up to eight prefetched objects may come first, and a few more that were loaded during the registration.
    let later = fixture.number(&later);
    assert!(later >= 30, "only {later} of 60 after the live slice");
}

#[test]
fn a_live_slice_is_not_counted_as_one_of_the_backfill() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(3);
    let uri = fixture.put("elsewhere/live.parquet", &ticks_of("LIVE", 500_000, 50));
    fixture.text(&format!("SELECT btc_ingest.register_s3_slice('{uri}', 'LIVE', '2024-08-08 12:00+00')::text"));
    let called = fixture.done(&[fixture.prefix("Binance/")], "parallel => 1");
    assert_eq!(fixture.loaded(), 4);
    assert_eq!(fixture.status("objects_total, objects_done, rows_inserted"), format!("3 3 {}", all.len()));
    assert!(called.of("NOTICE").last().unwrap().contains("3 objects loaded"), "{called:#?}");
}

#[test]
fn sessions_that_call_at_once_watch_one_backfill() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(6);
    let prefixes = [fixture.prefix("Binance/")];
    // So that none of them comes after the end.
    fixture.run("SELECT btc_ingest.pause_ingest()");
    let calls: Vec<_> = (0..6).map(|_| fixture.begin(&prefixes, "")).collect();
    fixture.wait_for(
        "all of them",
        "SELECT count(*) = 6 FROM pg_stat_activity
          WHERE query LIKE 'CALL btc_ingest.backfill%' AND wait_event = 'PgSleep' AND datname = current_database()",
    );
    assert_eq!(fixture.number("SELECT count(*) FROM ingestion.backfills"), 1);
    fixture.run("SELECT btc_ingest.resume_ingest()");
    for call in calls {
        assert_eq!(call.join().unwrap().refusal, None);
    }
    fixture.must_hold(&all);
    assert_eq!(fixture.number("SELECT count(*) FROM ingestion.load_history"), 6);
}

#[test]
fn times_pick_objects_also_if_their_keys_hold_no_times() {
    let mut fixture = BackfillFixture::new();
    let slices: Vec<Vec<Tick>> =
        (0..4).map(|n| ticks_of("BTCUSDT", 1 + n * 100, 20).iter().map(|tick| moved(tick, n)).collect()).collect();
    for (n, slice) in slices.iter().enumerate() {
        fixture.put(&format!("plain/{n}.parquet"), slice);
    }
    fixture.done(&[fixture.prefix("plain/")], "'2024-08-08 12:05+00', '2024-08-08 12:15+00'");
    btc_ingest_kit::fixture::must_hold_sums(&mut fixture.client, &slices[1..3].concat());
    assert_eq!(fixture.status("status, objects_done, objects_failed"), "done 2 0");
}

#[test]
fn an_object_that_changes_after_it_was_listed_is_loaded_as_it_is_then() {
    let mut fixture = BackfillFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    let mut all = fixture.put_small(20);
    proxy.on(When::get().key("T1200Z"), Fault::Hang);
    let call = fixture.begin(&[fixture.prefix("Binance/")], "parallel => 1");
    proxy.wait_until_stalled(SOON);
    fixture.wait_for("the end of the listing", "SELECT status = 'loading' FROM ingestion.backfills");
    // One of the objects that are not prefetched yet.
    let last = time_us(START) + 19 * BUCKET_US;
    let key = slice_key(&format!("{}/Binance", fixture.db.name()), "BTCUSDT", last);
    let mut changed: Vec<Tick> = all.iter().filter(|tick| tick.bucket_us() == last).cloned().collect();
    let mut late = changed.last().unwrap().clone();
    late.trade_id = 900_000;
    changed.push(late.clone());
    all.push(late);
    fixture.server.put(&key, ParquetFile::new().bytes(&changed));
    proxy.release();
    let called = call.join().unwrap();
    assert_eq!((&called.refusal, called.of("WARNING")), (&None, vec![]));
    fixture.must_hold(&all);
}

#[test]
fn an_object_of_the_queue_that_is_registered_as_live_is_loaded_once_and_first() {
    let mut fixture = BackfillFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    let all = fixture.put_small(30);
    proxy.on(When::get().key("T1200Z"), Fault::Hang);
    let call = fixture.begin(&[fixture.prefix("Binance/")], "parallel => 1");
    proxy.wait_until_stalled(SOON);
    fixture.wait_for("the end of the listing", "SELECT status = 'loading' FROM ingestion.backfills");
    let sql = "SELECT btc_ingest.register_s3_slice(max(s3_uri), 'BTCUSDT', '2024-08-08 14:25+00')::text
                 FROM ingestion.objects";
    fixture.text(sql);
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold(&all);
    let place = "SELECT place FROM (SELECT s3_uri, rank() OVER (ORDER BY loaded_at) AS place
                                       FROM ingestion.objects) AS r
                  ORDER BY s3_uri DESC LIMIT 1";
    let place = fixture.number(place);
    assert!(place <= 10, "it was the {place}th");
    assert_eq!(fixture.number("SELECT count(*) FROM ingestion.load_history"), 30);
}

#[test]
fn a_listing_of_two_hundred_thousand_keys_takes_little_memory_and_is_taken_up_where_it_was_killed() {
    // The variable sets the number of keys; the limits on memory are the same for any number.
    let keys: usize = std::env::var("BTC_INGEST_TEST_KEYS").map_or(200_000, |text| text.parse().unwrap());
    let soon = SOON * (keys / 200_000).max(1) as u32;
    // Killing a worker restarts the whole server.
    let server = ServerFixture::start();
    retry_at_once(&server.cluster);
    let db = TestDb::with_extension(&server.cluster);
    let key = |n: usize| format!("many/{:03}/{:07}.parquet", n % 1000, n);
    server.s3.put_copies(BUCKET, (0..keys).map(key), ParquetFile::new().bytes(&ticks(1, 1)));
    let proxy = FaultProxy::before(&server.s3);
    let mut client = db.client();
    let set =
        format!("LOAD 'btc_ingest'; ALTER DATABASE {} SET btc_ingest.s3_endpoint = '{}'", db.name(), proxy.endpoint());
    client.batch_execute(&set).unwrap();
    // Loading them all takes too long: no object is ever answered.
    proxy.on(When::get().key("parquet?x-id=GetObject"), Fault::Hang);
    let prefixes = [format!("s3://{BUCKET}/many/")];
    let call = {
        let (connection, prefixes) = (db.connection_string(), prefixes.to_vec());
        std::thread::spawn(move || btc_ingest_kit::fixture::backfill::call(&connection, &prefixes, "parallel => 1"))
    };
    let registered = |client: &mut postgres::Client| {
        number(client, "SELECT coalesce(max(objects_total), 0) FROM ingestion.backfills")
    };
    wait_until("a quarter of the keys", soon, || registered(&mut client) > keys as i64 / 4);
    let pid = workers(&mut client)[0];
    let before = MemoryWatch::start(pid);
    wait_until("half of the keys", soon, || registered(&mut client) > keys as i64 / 2);
    println!("a worker that lists: {:?}", before.peak());
    assert!(before.peak().total() < 64 << 20, "{:?}", before.peak());
    kill(pid);
    assert_eq!(call.join().unwrap().sqlstate(), "08006");
    let mut client = wait_for("the server", soon, || try_client(&db.connection_string()));
    let asked = proxy.requests().len();

    let call = {
        let (connection, prefixes) = (db.connection_string(), prefixes.to_vec());
        std::thread::spawn(move || btc_ingest_kit::fixture::backfill::call(&connection, &prefixes, "parallel => 1"))
    };
    let pid = wait_for("a worker", SOON, || workers(&mut client).first().copied());
    let after = MemoryWatch::start(pid);
    wait_until("the end of the listing", soon, || {
        text(&mut client, "SELECT max(status) FROM ingestion.backfills") == "loading"
    });
    println!("a worker that goes on: {:?}", after.peak());
    assert!(after.peak().total() < 64 << 20, "{:?}", after.peak());
    let found =
        "SELECT concat_ws(' ', count(*), (SELECT max(objects_total) FROM ingestion.backfills)) FROM ingestion.objects";
    assert_eq!(text(&mut client, found), format!("{keys} {keys}"));
    let lists = proxy.requests()[asked..].iter().filter(|seen| seen.path.contains("list-type")).count();
    assert!(lists < keys / 1000 / 2 + 10, "{lists} pages after the kill");
    client.batch_execute("SELECT btc_ingest.cancel_backfill(max(id)) FROM ingestion.backfills").unwrap();
    call.join().unwrap();
    btc_ingest_kit::fixture::backfill::must_be_quiet(&mut client);
}
