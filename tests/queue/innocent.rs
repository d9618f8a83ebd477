//! No lock of another session, no offset and no registry row harms an object that it does not belong to.

use std::time::{Duration, Instant};

use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{Fault, FaultProxy, When};
use postgres::Client;

use crate::queue_fixture::{QueueFixture, SOON, Slice, TICKS, bucket, server};

/// How long a fault may delay objects that it does not belong to, with the time of a slow machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Registers some slices and waits until they are loaded, which must not take long.
#[track_caller]
fn must_pass(queue: &mut QueueFixture, asset: &str, buckets: std::ops::Range<i64>) -> Vec<Slice> {
    let began = Instant::now();
    let slices = queue.register_slices(asset, buckets);
    queue.wait_loaded(&slices);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    slices
}

/// Enqueues slices while loading is paused, and lets a producer hold their registry rows in a transaction.
fn producer_with_enqueued_rows(queue: &mut QueueFixture, slices: &[Slice]) -> Client {
    for slice in slices {
        queue.run(&format!(
            "INSERT INTO ingestion.objects (s3_uri, span_from, span_to)
             VALUES ('{}', '{}', timestamptz '{}' + interval '5 minutes')",
            slice.uri, slice.bucket, slice.bucket
        ));
    }
    queue.run("UPDATE landing.raw_blobs_5m SET queued_at = now()");
    let mut producer = queue.session();
    producer.batch_execute("BEGIN; UPDATE landing.raw_blobs_5m SET metadata = '{}'").unwrap();
    producer
}

#[test]
fn a_producer_that_holds_its_row_puts_off_its_own_object_only() {
    let settings = [("workers", "1"), ("poll_interval", "200ms"), ("retry_backoff", "1s"), ("retry_backoff_max", "1s")];
    let mut queue = QueueFixture::with(&settings);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let held = queue.register_slices("BTCUSDT", 0..2);
    let mut producer = producer_with_enqueued_rows(&mut queue, &held);
    queue.wait_for(
        "a loader",
        "EXISTS (SELECT FROM pg_stat_activity
                  WHERE backend_type = 'btc_ingest loader' AND datname = current_database())",
    );
    let loaders = queue.pids("loader");
    queue.run("SELECT btc_ingest.resume_ingest()");
    let others = must_pass(&mut queue, "ETHUSDT", 100..104);
    queue.wait_for(
        "both to be put off",
        "(SELECT count(DISTINCT s3_uri) = 2 FROM ingestion.load_history
           WHERE outcome = 'failed' AND sqlstate = '55P03')",
    );
    assert_eq!(queue.pids("loader"), loaders, "the loader has ended");
    producer.batch_execute("ROLLBACK").unwrap();
    queue.wait_loaded(&held);
    queue.must_hold(&[held, others].concat());
    assert_eq!(queue.text("SELECT string_agg(DISTINCT attempts::text, ' ') FROM ingestion.objects"), "1");
}

#[test]
fn a_bad_object_whose_row_is_held_is_quarantined_when_its_producer_is_done() {
    let mut queue = QueueFixture::with(&[("workers", "1"), ("poll_interval", "200ms")]);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let uri = queue.put_bytes("bad.parquet", vec![7_u8; 2_000]);
    let bad = Slice { uri, asset: "BTCUSDT".into(), bucket: bucket(0), ticks: Vec::new() };
    queue.register(&bad);
    let mut producer = producer_with_enqueued_rows(&mut queue, std::slice::from_ref(&bad));
    queue.run("SELECT btc_ingest.resume_ingest()");
    queue.wait_for("an attempt", "EXISTS (SELECT FROM ingestion.load_history WHERE sqlstate LIKE 'PQ%')");
    must_pass(&mut queue, "ETHUSDT", 100..104);
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects WHERE status = 'quarantined'"), 0);
    producer.batch_execute("ROLLBACK").unwrap();
    queue.wait_status(&bad.uri, "quarantined");
    assert_eq!(queue.state(&bad.uri), "quarantined quarantined 1");
}

#[test]
fn a_sweep_goes_past_an_object_whose_row_or_status_another_session_holds() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    let held = queue.register_slices("BTCUSDT", 0..1);
    let mut producer = producer_with_enqueued_rows(&mut queue, &held);
    let others = queue.register_slices("ETHUSDT", 100..102);
    queue.run("CALL btc_ingest.run_sweep()");
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects WHERE status = 'loaded'"), 2);
    producer.batch_execute("ROLLBACK").unwrap();
    queue.wait_for(
        "its time",
        "(SELECT bool_and(next_attempt_at < clock_timestamp()) FROM ingestion.objects
                                  WHERE status = 'failed')",
    );
    queue.run("SELECT btc_ingest.sweep()");
    queue.must_hold(&[held, others].concat());
}

#[test]
fn a_sweep_that_is_rolled_back_leaves_no_offset_to_a_later_load() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    let mut all = queue.register_slices("BTCUSDT", 0..1);
    queue.run("SELECT btc_ingest.sweep()");
    for undone in [
        "BEGIN; SELECT btc_ingest.sweep(); ROLLBACK",
        "BEGIN; SAVEPOINT s; SELECT btc_ingest.sweep(); ROLLBACK TO s; COMMIT",
    ] {
        let late = queue.register_slices("BTCUSDT", 50..51);
        let mut holder = queue.session();
        holder.batch_execute("BEGIN; SELECT FROM ingestion.stream_offsets FOR UPDATE").unwrap();
        queue.run(undone);
        holder.batch_execute("COMMIT").unwrap();
        queue.run(&format!("DELETE FROM landing.raw_blobs_5m WHERE s3_uri = '{}'", late[0].uri));
        let n = all.len() as i64;
        all.extend(queue.register_slices("BTCUSDT", n..n + 1));
        queue.run("SELECT btc_ingest.sweep()");
        let offset = queue.number("SELECT max(last_sequence) FROM ingestion.stream_offsets");
        assert_eq!(offset, (n + 1) * TICKS as i64, "{undone}");
    }
    queue.must_hold(&all);
}

#[test]
fn an_offset_that_was_put_off_is_written_when_its_loader_ends() {
    let mut queue = QueueFixture::with(&[("workers", "1")]);
    let first = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_loaded(&first);
    let mut holder = queue.session();
    holder.batch_execute("BEGIN; SELECT FROM ingestion.stream_offsets FOR UPDATE").unwrap();
    let second = queue.register_slices("BTCUSDT", 1..2);
    queue.wait_loaded(&second);
    queue.wait_for(
        "an idle loader",
        "EXISTS (SELECT FROM pg_stat_activity
                  WHERE backend_type = 'btc_ingest loader'
                  AND datname = current_database() AND state = 'idle')",
    );
    holder.batch_execute("COMMIT").unwrap();
    assert_eq!(queue.number("SELECT max(last_sequence) FROM ingestion.stream_offsets"), TICKS as i64);
    queue.set(&[("workers", "0")]);
    queue.wait_for(
        "no loader",
        "NOT EXISTS (SELECT FROM pg_stat_activity
                      WHERE backend_type = 'btc_ingest loader' AND datname = current_database())",
    );
    assert_eq!(queue.number("SELECT max(last_sequence) FROM ingestion.stream_offsets"), 2 * TICKS as i64);
}

#[test]
fn an_offset_that_cannot_be_written_harms_no_other_object() {
    let mut queue = QueueFixture::with(&[("workers", "1")]);
    queue.run(
        "ALTER TABLE ingestion.stream_offsets
           ADD CONSTRAINT low CHECK (source NOT LIKE '%BTCUSDT' OR last_sequence < 100)",
    );
    let mut all = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_loaded(&all);
    let mut holder = queue.session();
    holder.batch_execute("BEGIN; SELECT FROM ingestion.stream_offsets FOR UPDATE").unwrap();
    let high = queue.register_slices("BTCUSDT", 50..51);
    queue.wait_loaded(&high);
    queue.wait_for(
        "an idle loader",
        "EXISTS (SELECT FROM pg_stat_activity
                  WHERE backend_type = 'btc_ingest loader'
                  AND datname = current_database() AND state = 'idle')",
    );
    holder.batch_execute("COMMIT").unwrap();
    all.extend(high);
    all.extend(must_pass(&mut queue, "ETHUSDT", 100..106));
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history WHERE outcome <> 'loaded'"), 0);
    let told = queue.text("SELECT string_agg(detail, ' ') FROM btc_ingest.doctor()");
    assert!(told.contains("BTCUSDT cannot be written"), "{told}");
    queue.must_hold(&all);
}

#[test]
fn a_failed_attempt_at_what_was_registered_anew_leaves_no_mark_on_the_new_registration() {
    let proxy = FaultProxy::before(&server().s3);
    proxy.on(When::get().key("bad"), Fault::StallAfter(300));
    let mut queue = QueueFixture::through(&proxy, &[("workers", "1"), ("s3_read_timeout", "10min")]);
    let uri = queue.put_bytes("bad.parquet", vec![7_u8; 20_000]);
    queue.register_uri(&uri, "BTCUSDT", 0);
    proxy.wait_until_stalled(SOON);
    queue.run("UPDATE ingestion.objects SET generation = generation + 1, attempts = 0, attempt_started_at = NULL");
    queue.run("SELECT btc_ingest.pause_ingest()");
    proxy.clear();
    proxy.release();
    queue.wait_for("a result", "EXISTS (SELECT FROM ingestion.load_history)");
    assert_eq!(queue.history(&uri), "failed PQ002");
    assert_eq!(queue.state(&uri), "pending pending 0");
    assert_eq!(queue.text("SELECT concat(last_sqlstate, last_error) FROM ingestion.objects"), "");
    queue.run("SELECT btc_ingest.resume_ingest()");
    queue.wait_status(&uri, "quarantined");
    assert_eq!(queue.history(&uri), "failed PQ002, quarantined PQ002");
}
