//! Objects that are registered once more, before, during and after their load.

use std::time::{Duration, Instant};

use btc_ingest_kit::fixture::{loaded, session};
use btc_ingest_kit::rows::{moved, must_hold, ticks_of};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{Fault, FaultProxy, ParquetFile, When};
use postgres::Client;

use crate::queue_fixture::{QueueFixture, SOON, TICKS, bucket, s3};

/// A session waits for a lock on the table that every load reads first.
const WAITS_FOR_SCHEMA_VERSION: &str =
    "EXISTS (SELECT FROM pg_locks WHERE relation = 'ingestion.schema_version'::regclass AND NOT granted)";

#[test]
fn what_is_loaded_by_hand_just_before_a_loader_begins_is_not_loaded_again() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get().key("00000"), Fault::StallAfter(300));
    let mut queue = QueueFixture::through(&proxy, &[("workers", "1"), ("s3_read_timeout", "10min")]);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let slices = queue.register_slices("BTCUSDT", 0..8);
    queue.run("SELECT btc_ingest.resume_ingest()");
    proxy.wait_until_stalled(SOON);
    let uri = slices[1].uri.clone();
    let mut hand = queue.session();
    // A load reads the schema's version first. The loader's next load waits there, and its attempt began when the
    // first one was committed.
    let by_hand = std::thread::spawn(move || {
        hand.batch_execute("BEGIN; LOCK TABLE ingestion.schema_version").unwrap();
        let report = loaded(&mut hand, &uri, "");
        hand.batch_execute("COMMIT").unwrap();
        report.inserted
    });
    queue.wait_for("its place behind the first load", WAITS_FOR_SCHEMA_VERSION);
    proxy.clear();
    proxy.release();
    assert_eq!(by_hand.join().unwrap(), TICKS as i64);
    queue.wait_loaded(&slices);
    queue.must_hold(&slices);
    assert_eq!(queue.history(&slices[1].uri), "loaded");
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history"), 8);
    queue.must_hold_no_claims();
}

#[test]
fn what_is_registered_anew_just_before_a_loader_begins_is_loaded_once() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get().key("00006"), Fault::StallAfter(300));
    let mut queue = QueueFixture::through(&proxy, &[("workers", "1"), ("s3_read_timeout", "10min")]);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let slices = queue.register_slices("BTCUSDT", 0..8);
    queue.run("SELECT btc_ingest.resume_ingest()");
    proxy.wait_until_stalled(SOON);
    let uri = slices[7].uri.clone();
    let mut other = queue.session();
    // As above; the UPDATE does what enqueueing a registry row does to its object.
    let anew = std::thread::spawn(move || {
        let again = "UPDATE ingestion.objects SET generation = generation + 1, attempts = 0, attempt_started_at = NULL
                      WHERE s3_uri = $1 AND status = 'pending' AND attempt_started_at IS NOT NULL";
        other.batch_execute("BEGIN; LOCK TABLE ingestion.schema_version").unwrap();
        let changed = other.execute(again, &[&uri]).unwrap();
        other.batch_execute("COMMIT").unwrap();
        changed
    });
    queue.wait_for("its place behind the load", WAITS_FOR_SCHEMA_VERSION);
    proxy.clear();
    proxy.release();
    assert_eq!(anew.join().unwrap(), 1);
    queue.wait_loaded(&slices);
    queue.must_hold(&slices);
    assert_eq!(queue.history(&slices[7].uri), "loaded");
    assert_eq!(queue.state(&slices[7].uri), "loaded loaded 1");
    queue.must_hold_no_claims();
}

#[test]
fn an_upsert_of_the_same_uri_loads_its_new_version_and_merges_it() {
    let mut queue = QueueFixture::new();
    let slice = queue.register_slices("BTCUSDT", 0..1).remove(0);
    queue.wait_loaded(std::slice::from_ref(&slice));
    let more = ticks_of("BTCUSDT", 700_000, 10);
    let both = [slice.ticks.clone(), more].concat();
    queue.put_bytes("BTCUSDT/00000.parquet", ParquetFile::new().bytes(&both[5..]));
    upsert(&mut queue.client, &slice.uri, 0);
    queue.wait_for("the second load", "SELECT count(*) = 2 FROM ingestion.load_history WHERE outcome = 'loaded'");
    must_hold(&mut queue.client, &both);
    assert_eq!(queue.state(&slice.uri), "loaded loaded 1");
    assert_eq!(queue.text("SELECT concat_ws(' ', rows_inserted, rows_duplicate) FROM ingestion.objects"), "10 15");
    // The same version again costs a HEAD, and the history records it.
    upsert(&mut queue.client, &slice.uri, 0);
    queue.wait_for("the third", "EXISTS (SELECT FROM ingestion.load_history WHERE outcome = 'already loaded')");
    queue.wait_status(&slice.uri, "loaded");
    assert_eq!(queue.state(&slice.uri), "loaded loaded 1");
    // Another object for the same slice.
    let other = queue.put_bytes("other.parquet", ParquetFile::new().bytes(&ticks_of("BTCUSDT", 800_000, 3)));
    upsert(&mut queue.client, &other, 0);
    queue.wait_status(&other, "loaded");
    must_hold(&mut queue.client, both.iter().chain(&ticks_of("BTCUSDT", 800_000, 3)));
    assert_eq!(
        queue.text(
            "SELECT concat_ws(' ', s3_uri, status)
                             FROM landing.raw_blobs_5m"
        ),
        format!("{other} loaded")
    );
}

/// Replaces an object as a producer does that knows only the documented columns.
fn upsert(client: &mut Client, uri: &str, n: i64) {
    let sql =
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ($1::text::timestamptz, 'BTCUSDT', $2)
               ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri";
    client.execute(sql, &[&bucket(n), &uri]).unwrap();
}

#[test]
fn an_upsert_during_a_load_does_not_wait_and_its_version_is_loaded_afterwards() {
    for (fails, by_function) in [(false, false), (true, false), (false, true), (true, true)] {
        let proxy = FaultProxy::before(s3());
        proxy.on(When::get(), Fault::StallAfter(300));
        // A failed object would not be retried within the test; a new version is loaded.
        let mut queue = QueueFixture::through(&proxy, &[("retry_backoff", "1h"), ("retry_backoff_max", "1h")]);
        let slice = queue.register_slices("BTCUSDT", 0..1).remove(0);
        proxy.wait_until_stalled(SOON);
        let loader = queue.loader_of(&slice.uri);
        let both = [slice.ticks.clone(), ticks_of("BTCUSDT", 700_000, 10)].concat();
        queue.put_bytes("BTCUSDT/00000.parquet", ParquetFile::new().bytes(&both));
        let began = Instant::now();
        match by_function {
            true => queue.run(&format!(
                "SELECT * FROM btc_ingest.register_s3_slice('{}', 'BTCUSDT', '{}')",
                slice.uri, slice.bucket
            )),
            false => upsert(&mut queue.client, &slice.uri, 0),
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        if fails {
            queue.client.execute("SELECT pg_cancel_backend($1)", &[&loader]).unwrap();
            queue.wait_for("the failure", "EXISTS (SELECT FROM ingestion.load_history WHERE sqlstate = '57014')");
        }
        proxy.release();
        let etag = queue.server.s3.etag("landing", slice.uri.strip_prefix("s3://landing/").unwrap());
        let newest =
            format!("(SELECT status = 'loaded' AND etag = '{}' FROM ingestion.objects)", etag.trim_matches('"'));
        queue.wait_for("the new version", &newest);
        queue.wait_for("its row", "SELECT status = 'loaded' AND queued_at IS NOT NULL FROM landing.raw_blobs_5m");
        must_hold(&mut queue.client, &both);
        assert_eq!(queue.number("SELECT count(*) FROM btc_ingest.queue"), 0);
    }
}

#[test]
fn many_rows_of_one_object_are_one_load() {
    let proxy = FaultProxy::before(s3());
    let mut queue = QueueFixture::through(&proxy, &[]);
    let ticks: Vec<_> = (0..3)
        .flat_map(|n| ticks_of("BTCUSDT", 1 + n * 100, 10).into_iter().map(move |tick| moved(&tick, n)))
        .collect();
    let uri = queue.put_bytes("three.parquet", ParquetFile::new().bytes(&ticks));
    queue.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
         SELECT '2024-08-08 12:00+00'::timestamptz + n * interval '5 minutes', 'BTCUSDT', '{uri}'
             FROM generate_series(0, 3) AS n"
    ));
    // It holds no tick of the fourth bucket.
    let statuses = "SELECT string_agg(status, ' ' ORDER BY bucket_5m) = 'loaded loaded loaded empty'
                      FROM landing.raw_blobs_5m";
    queue.wait_for("all rows", statuses);
    assert_eq!(queue.history(&uri), "loaded");
    must_hold(&mut queue.client, &ticks);
    // One more row of it costs a HEAD, and no load.
    let before = proxy.count("GET");
    queue.register_uri(&uri, "BTCUSDT", 7);
    queue.wait_for("the row", "SELECT count(*) = 2 FROM landing.raw_blobs_5m WHERE status = 'empty'");
    assert_eq!(proxy.count("GET"), before);
    assert_eq!(queue.history(&uri), "loaded, already loaded");
    // A load by call concerns its caller only.
    let mut hand = session(&queue.db, &proxy.endpoint(), &[]);
    assert_eq!(loaded(&mut hand, &uri, "").outcome, "already loaded");
}

#[test]
fn an_old_row_that_is_registered_again_has_not_been_waiting_since_then() {
    let mut queue = QueueFixture::new();
    let slices = queue.register_slices("BTCUSDT", 0..2);
    queue.wait_loaded(&slices);
    // Both were registered, queued and loaded two months ago.
    queue.run(
        "UPDATE landing.raw_blobs_5m SET created_at = created_at - interval '60 days', registered_at = registered_at \
            - interval '60 days', queued_at = queued_at - interval '60 days';
         UPDATE ingestion.objects SET registered_at = registered_at - interval '60 days', queued_at = queued_at \
            - interval '60 days'",
    );
    queue.run("SELECT btc_ingest.pause_ingest()");
    queue.run(&format!("UPDATE landing.raw_blobs_5m SET s3_uri = s3_uri WHERE s3_uri = '{}'", slices[0].uri));
    queue.run(&format!("SELECT btc_ingest.register_s3_slice('{}', 'BTCUSDT', '{}')", slices[1].uri, slices[1].bucket));
    let waiting = "SELECT string_agg(concat_ws(' ', status, waiting < '1 minute'), ', ' ORDER BY bucket_5m)
                     FROM btc_ingest.queue";
    assert_eq!(queue.text(waiting), "registered t, pending t");
    assert_eq!(queue.text("SELECT (oldest_waiting < '1 minute')::text FROM btc_ingest.lag"), "true");
    // What is registered keeps its time when a sweep comes to it later.
    queue.run("UPDATE landing.raw_blobs_5m SET registered_at = now() - interval '1 hour' WHERE queued_at IS NULL");
    queue.set(&[("workers", "0")]);
    queue.run("SELECT btc_ingest.resume_ingest()");
    queue.run("BEGIN; SELECT btc_ingest.sweep()");
    let since =
        "SELECT string_agg((now() - queued_at > '59 minutes')::text, ' ' ORDER BY s3_uri) FROM ingestion.objects";
    assert_eq!(queue.text(since), "true false");
    queue.run("ROLLBACK");
}
