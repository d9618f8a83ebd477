//! No lock of another session, no offset and no registry row harms an object that it does not belong to.

use std::time::{Duration, Instant};

use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{Fault, FaultProxy, When};
use postgres::Client;

use crate::queue_fixture::{QueueFixture, SOON, Slice, TICKS, bucket, s3};

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
fn objects_of_which_a_producer_holds_a_row_are_passed_over_and_hold_up_no_other() {
    let settings = [("workers", "1"), ("poll_interval", "200ms"), ("retry_backoff", "5s"), ("retry_backoff_max", "5s")];
    let mut queue = QueueFixture::with(&settings);
    queue.run("SELECT btc_ingest.pause_ingest()");
    // A loader that waited for a second at each of them would be late for the others.
    let held = queue.register_slices("BTCUSDT", 0..20);
    let mut producer = producer_with_enqueued_rows(&mut queue, &held);
    queue.wait_for(
        "a loader",
        "EXISTS (SELECT FROM pg_stat_activity
                  WHERE backend_type = 'btc_ingest loader' AND datname = current_database())",
    );
    let loaders = queue.pids("loader");
    queue.run("SELECT btc_ingest.resume_ingest()");
    let others = must_pass(&mut queue, "ETHUSDT", 100..104);
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history WHERE outcome <> 'loaded'"), 0);
    assert_eq!(queue.pids("loader"), loaders, "the loader has ended");
    producer.batch_execute("ROLLBACK").unwrap();
    queue.wait_loaded(&held);
    queue.must_hold(&[held, others].concat());
    assert_eq!(queue.text("SELECT string_agg(DISTINCT attempts::text, ' ') FROM ingestion.objects"), "1");
}

#[test]
fn a_bad_object_whose_row_a_producer_takes_meanwhile_is_quarantined_when_its_producer_is_done() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get().key("bad"), Fault::StallAfter(300));
    let settings = [("workers", "1"), ("poll_interval", "200ms"), ("s3_read_timeout", "10min")];
    let mut queue = QueueFixture::through(&proxy, &settings);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let uri = queue.put_bytes("bad.parquet", vec![7_u8; 2_000]);
    let bad = Slice { uri, asset: "BTCUSDT".into(), bucket: bucket(0), ticks: Vec::new() };
    queue.register(&bad);
    queue.run("SELECT btc_ingest.resume_ingest()");
    proxy.wait_until_stalled(SOON);
    let mut producer = queue.session();
    producer.batch_execute("BEGIN; UPDATE landing.raw_blobs_5m SET metadata = '{}'").unwrap();
    proxy.clear();
    proxy.release();
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
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history WHERE outcome <> 'loaded'"), 0);
    producer.batch_execute("ROLLBACK").unwrap();
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
    let proxy = FaultProxy::before(s3());
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

#[test]
fn rows_of_an_object_that_is_in_use_keep_no_other_row_waiting() {
    let mut queue = QueueFixture::with(&[("workers", "1"), ("poll_interval", "200ms")]);
    // All ticks of a chunk would wait for the open transaction that creates it.
    let first = queue.register_slices("ETHUSDT", 0..1);
    queue.wait_loaded(&first);
    let used = queue.put("BTCUSDT", 0);
    let mut hand = queue.session();
    hand.batch_execute(&format!("BEGIN; SELECT btc_ingest.load_s3_slice('{}')", used.uri)).unwrap();
    queue.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
         SELECT timestamptz '{}' - n * interval '5 minutes', 'SOLUSDT', '{}' FROM generate_series(1, 2000) n",
        bucket(0),
        used.uri
    ));
    must_pass(&mut queue, "ETHUSDT", 100..102);
    hand.batch_execute("COMMIT").unwrap();
    queue.wait_for(
        "the rows of the object in use",
        "NOT EXISTS (SELECT FROM landing.raw_blobs_5m WHERE asset = 'SOLUSDT' AND status <> 'empty')",
    );
}

/// Registry rows that no producer may write: SQL of bucket, asset, uri and metadata, and a part of the reason.
const BAD_ROWS: [(&str, &str, &str, &str, &str); 15] = [
    ("", "", "", "(repeat('{\"a\":', 200) || '1' || repeat('}', 200))::jsonb", "nested"),
    ("", "", "", "'{\"x\": 1e400}'", "beyond 1e300"),
    ("", "", "", "'[1]'", "not a JSON object"),
    ("", "", "", "'7'", "not a JSON object"),
    ("", "", "", "jsonb_build_object('x', repeat('x', 70000))", "longer than 65,536"),
    ("", "", "", "jsonb_build_object('etag', repeat('x', 300))", "etag is longer"),
    ("", "", "", "'{\"etag\": \"a\\u0001b\"}'", "etag holds a control"),
    ("'294276-12-31 23:55:00+00'", "", "", "", "after 2199"),
    ("'infinity'", "", "", "", "after 2199"),
    ("'-infinity'", "", "", "", "before 1970"),
    ("'2024-01-01 00:03:00+00'", "", "", "", "not the start"),
    ("", "repeat('A', 300)", "", "", "asset is longer"),
    ("", "E'A\\x07'", "", "", "asset holds a control"),
    ("", "", "'s3://landing/' || repeat('k', 1200)", "", "s3_uri is longer"),
    ("", "", "E's3://landing/k\\x07'", "", "s3_uri holds a control"),
];

/// The INSERTs of the bad rows, each with a part of the reason.
fn bad_inserts() -> Vec<(String, &'static str)> {
    let or = |value: &str, otherwise: &str| if value.is_empty() { otherwise.to_owned() } else { value.to_owned() };
    let mut inserts = Vec::new();
    for (n, (bucket, asset, uri, metadata, why)) in BAD_ROWS.into_iter().enumerate() {
        let bucket = or(bucket, &format!("'2024-01-01 {n:02}:00:00+00'"));
        let (asset, metadata) = (or(asset, "'SOLUSDT'"), or(metadata, "NULL"));
        let uri = or(uri, &format!("'s3://landing/bad/{n}.parquet'"));
        let sql = format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
             VALUES ({bucket}, {asset}, {uri}, {metadata})"
        );
        inserts.push((sql, why));
    }
    let size = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes)
                VALUES ('2024-01-02', 'SOLUSDT', 's3://landing/bad/size.parquet', -1)";
    inserts.push((size.to_owned(), "object_size_bytes is negative"));
    inserts
}

#[test]
fn a_producer_is_told_which_limit_its_row_exceeds() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    for (insert, why) in bad_inserts() {
        let error = queue.client.batch_execute(&insert).expect_err(&insert);
        let error = error.as_db_error().expect("an error of the server");
        assert_eq!(error.code().code(), "TK022", "{insert}: {error}");
        assert!(error.message().contains(why), "{insert}: {error}");
    }
    assert_eq!(queue.number("SELECT count(*) FROM landing.raw_blobs_5m"), 0);
}

#[test]
fn a_registration_by_call_is_told_which_limit_it_exceeds() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    for (arguments, why) in [
        ("repeat('A', 300), '2024-01-01'", "asset is longer"),
        ("E'A\\x07', '2024-01-01'", "asset holds a control"),
        ("'A', 'infinity'", "before 1970 or after 2199"),
        ("'A', '1969-12-31 00:00:00+00'", "before 1970 or after 2199"),
        ("repeat('A', 10000), '2024-01-01'", "asset is longer"),
        ("'A', '2024-01-01', (repeat('{\"a\":', 40) || '1' || repeat('}', 40))::jsonb", "nested more than 32 deep"),
        ("'A', '2024-01-01', '{\"etag\": \"a\\u0001b\"}'", "etag holds a control"),
        ("'A', '2024-01-01', '{\"x\": 1e301}'", "beyond 1e300"),
    ] {
        let sql = format!("SELECT * FROM btc_ingest.register_s3_slice('s3://landing/a.parquet', {arguments})");
        let error = queue.client.batch_execute(&sql).expect_err(&sql);
        let error = error.as_db_error().expect("an error of the server");
        assert_eq!(error.code().code(), "TK022", "{sql}: {error}");
        assert!(error.message().contains(why), "{sql}: {error}");
    }
}

#[test]
fn a_row_that_no_producer_may_write_is_quarantined_and_holds_up_no_other() {
    let mut queue = QueueFixture::with(&[("workers", "1")]);
    // Without the trigger, as rows come that were restored or replicated.
    let mut session = queue.session();
    session.batch_execute("SET session_replication_role = replica").unwrap();
    let mut all = Vec::new();
    for (n, (insert, why)) in bad_inserts().into_iter().enumerate() {
        session.batch_execute(&insert).unwrap_or_else(|error| panic!("{insert}: {error:?}"));
        let n = n as i64;
        all.extend(must_pass(&mut queue, "ETHUSDT", 1000 + n..1001 + n));
        let told = queue.text(
            "SELECT concat(outcome, ' ', sqlstate, ' ', message) FROM ingestion.load_history
                                WHERE outcome <> 'loaded' ORDER BY id DESC LIMIT 1",
        );
        assert!(told.starts_with("quarantined TK022") && told.contains(why), "{insert}: {told}");
    }
    assert_eq!(queue.number("SELECT count(*) FROM landing.raw_blobs_5m WHERE status = 'quarantined'"), 16);
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects WHERE status = 'quarantined'"), 15);
    queue.must_hold(&all);
}

#[test]
fn a_row_that_cannot_be_changed_holds_up_no_other() {
    let mut queue = QueueFixture::with(&[("workers", "1"), ("poll_interval", "200ms")]);
    queue.run("SELECT btc_ingest.pause_ingest()");
    queue.register_uri("s3://landing/stuck.parquet", "SOLUSDT", 0);
    queue.run(
        "ALTER TABLE landing.raw_blobs_5m ADD CONSTRAINT stuck CHECK (asset <> 'SOLUSDT') NOT VALID;
         SELECT btc_ingest.resume_ingest()",
    );
    let others = must_pass(&mut queue, "ETHUSDT", 1..5);
    let told = queue.text("SELECT string_agg(detail, ' ') FROM btc_ingest.doctor()");
    assert!(told.contains("SOLUSDT") && told.contains("is not enqueued"), "{told}");
    queue.must_hold(&others);
}

#[test]
fn scalar_metadata_beside_a_pending_row_fails_its_own_object_only() {
    let mut queue = QueueFixture::with(&[("workers", "1")]);
    let slice = queue.put("BTCUSDT", 0);
    queue.register_uri(&slice.uri, "SOLUSDT", 1);
    queue.wait_status(&slice.uri, "loaded");
    let mut session = queue.session();
    session
        .batch_execute("SET session_replication_role = replica; UPDATE landing.raw_blobs_5m SET metadata = '7'")
        .unwrap();
    queue.run(&format!("SELECT btc_ingest.register_s3_slice('{}', 'BTCUSDT', '{}')", slice.uri, slice.bucket));
    let others = must_pass(&mut queue, "ETHUSDT", 100..104);
    queue.wait_status(&slice.uri, "quarantined");
    queue.must_hold(&[others, vec![slice]].concat());
}

#[test]
fn rows_of_a_hundred_megabytes_that_came_round_the_limits_hold_up_no_other() {
    let mut queue = QueueFixture::with(&[("workers", "1")]);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let others = queue.register_slices("ETHUSDT", 100..104);
    let huge = "jsonb_build_object('x', repeat('x', 100000000))";
    let row = |hour: &str, value: &str| {
        format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
             SELECT timestamptz '2024-01-01 00:00+00' + {hour} * interval '1 hour', 'SOLUSDT',
                    's3://landing/huge/' || {hour} || '.parquet', {value}"
        )
    };
    let refused = queue.client.batch_execute(&row("0", huge)).expect_err("a row beyond the limits");
    assert_eq!(refused.as_db_error().unwrap().code().code(), "TK022");
    // Without the trigger, as rows come that were restored or replicated. They come before all others in the order.
    queue.run(&format!(
        "SET session_replication_role = replica; CREATE TEMPORARY TABLE huge AS SELECT {huge} AS metadata;
         {} FROM generate_series(1, 40) AS n, huge; RESET session_replication_role",
        row("n", "huge.metadata")
    ));
    queue.run("SELECT btc_ingest.resume_ingest()");
    queue.wait_loaded(&others);
    queue.wait_for(
        "the verdict on all of them",
        "(SELECT count(*) = 40 FROM landing.raw_blobs_5m WHERE status = 'quarantined')",
    );
    assert_eq!(
        queue.text(
            "SELECT string_agg(DISTINCT sqlstate, ',') FROM ingestion.load_history
                            WHERE outcome = 'quarantined'"
        ),
        "TK022"
    );
    let after = must_pass(&mut queue, "ETHUSDT", 200..202);
    queue.must_hold(&[others, after].concat());
}
