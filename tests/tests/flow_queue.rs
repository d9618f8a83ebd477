//! The queue: what is tried again and what is not, what waits for whom, and objects that are registered once more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod flow_stand;

use std::time::{Duration, Instant};

use btc_ingest_tests::rows::{moved, must_hold, ticks_of};
use btc_ingest_tests::stand::{loaded, session};
use btc_ingest_tests::{Fault, FaultProxy, ParquetFile, When};
use flow_stand::{Flow, MOST_ATTEMPTS, SOON, Slice, TICKS, bucket, stand};
use postgres::Client;

/// What a lock of somebody else's may cost objects that do not need it: the second of patience, and a slow machine's time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Somebody wants to lock the table that every load looks at first.
const WAITS_FOR_SCHEMA_VERSION: &str =
    "EXISTS (SELECT FROM pg_locks WHERE relation = 'ingestion.schema_version'::regclass AND NOT granted)";

#[test]
fn what_passes_is_tried_again_after_pauses_that_grow_and_every_attempt_is_a_row() {
    let proxy = FaultProxy::before(&stand().s3);
    proxy.on(When::get().key("00001").times(2), Fault::slow_down());
    let mut flow = Flow::through(&proxy, &[]);
    let slices = flow.flow("BTCUSDT", 0..4);
    flow.wait_loaded(&slices);
    flow.must_hold(&slices);
    let uri = &slices[1].uri;
    assert_eq!(flow.state(uri), "loaded loaded 3");
    assert_eq!(flow.history(uri), "failed S3009, failed S3009, loaded");
    assert_eq!(flow.text("SELECT string_agg(attempts::text, ' ' ORDER BY s3_uri) FROM ingestion.objects"), "1 3 1 1");
    // 50 and 100 ms, each a quarter more or less.
    let pauses = format!(
        "SELECT string_agg((pause >= place * interval '37 ms')::text, ' ' ORDER BY place)
           FROM (SELECT row_number() OVER w - 1 AS place, started_at - lag(finished_at) OVER w AS pause
                   FROM ingestion.load_history WHERE s3_uri = '{uri}' WINDOW w AS (ORDER BY id)) AS p WHERE place > 0"
    );
    assert_eq!(flow.text(&pauses), "true true");
    let stats = "SELECT concat_ws(' ', loads, failures, quarantined, retries, rows_inserted, errors ->> 'S3') FROM btc_ingest.stats";
    assert_eq!(flow.text(stats), format!("4 2 0 2 {} 2", 4 * TICKS));
}

#[test]
fn a_failed_object_waits_for_its_time_and_its_row_says_why() {
    let proxy = FaultProxy::before(&stand().s3);
    let fault = proxy.on(When::get().key("00000"), Fault::internal_error());
    let mut flow = Flow::through(&proxy, &[("retry_backoff", "1h"), ("retry_backoff_max", "1h")]);
    let slices = flow.flow("BTCUSDT", 0..1);
    let uri = &slices[0].uri;
    flow.wait_status(uri, "failed");
    assert_eq!(flow.state(uri), "failed failed 1");
    let row = "SELECT concat_ws(' ', last_sqlstate, last_error ~ 'InternalError|500', next_attempt_at - attempt_started_at BETWEEN '44 minutes' AND '76 minutes')
                 FROM ingestion.objects";
    assert_eq!(flow.text(row), "S3009 t t");
    let more = flow.flow("BTCUSDT", 1..3);
    flow.wait_loaded(&more);
    assert_eq!(proxy.acted(fault), 1);
    assert_eq!(flow.state(uri), "failed failed 1");
    proxy.clear();
    flow.run(&format!("SELECT btc_ingest.retry('{uri}')"));
    flow.wait_loaded(&slices);
    assert_eq!(flow.history(uri), "failed S3009, loaded");
    flow.must_hold(&[slices, more].concat());
}

#[test]
fn an_outage_of_s3_needs_nobody() {
    let proxy = FaultProxy::before(&stand().s3);
    let mut flow = Flow::through(&proxy, &[("max_attempts", "1000")]);
    let before = flow.flow("BTCUSDT", 0..1);
    flow.wait_loaded(&before);
    proxy.refuse_connections(true);
    // Connections that were open already serve as well as before.
    proxy.on(When::any(), Fault::Drop);
    let during = flow.flow("BTCUSDT", 1..6);
    for slice in &during {
        let failed = format!(
            "(SELECT count(*) > 3 FROM ingestion.load_history WHERE s3_uri = '{}' AND sqlstate IN ('S3007', 'S3012', 'S3009'))",
            slice.uri
        );
        flow.wait_for("several failures", &failed);
    }
    proxy.clear();
    proxy.refuse_connections(false);
    flow.wait_loaded(&during);
    flow.must_hold(&[before, during].concat());
    let lost = "SELECT count(*) FROM ingestion.objects o
                 WHERE attempts <> (SELECT count(*) FROM ingestion.load_history h WHERE h.s3_uri = o.s3_uri)";
    assert_eq!(flow.number(lost), 0, "attempts without a row");
}

#[test]
fn what_can_never_be_loaded_is_quarantined_at_once_and_holds_up_nothing() {
    let proxy = FaultProxy::before(&stand().s3);
    proxy.on(When::any().key("forbidden"), Fault::access_denied());
    let mut flow = Flow::through(&proxy, &[]);
    let name = flow.db.name().to_owned();
    let ticks = ticks_of("BTCUSDT", 900_000, 5);
    let poisoned = [
        (format!("s3://landing/{name}/never-put.parquet"), "S3004", "NoSuchKey|does not exist|no such"),
        (flow.put_bytes("forbidden.parquet", ParquetFile::new().bytes(&ticks)), "S3005", "AccessDenied|denied"),
        (flow.put_bytes("text.parquet", "no parquet, ".repeat(100)), "PQ002", "Parquet"),
        (flow.put_bytes("empty.parquet", ""), "PQ001", "empty"),
        (flow.put_bytes("priceless.parquet", ParquetFile::new().without("price").bytes(&ticks)), "PQ009", "price"),
        ("s3://elsewhere/a.parquet".to_owned(), "S3002", "allowed"),
        ("no uri at all".to_owned(), "S3001", "uri"),
        ("s3://landing".to_owned(), "S3001", "uri"),
    ];
    for (n, (uri, ..)) in poisoned.iter().enumerate() {
        flow.register_uri(uri, "BTCUSDT", n as i64);
    }
    let slices = flow.flow("ETHUSDT", 0..10);
    flow.wait_loaded(&slices);
    for (uri, sqlstate, words) in &poisoned {
        flow.wait_status(uri, "quarantined");
        assert_eq!(flow.state(uri), "quarantined quarantined 1");
        assert_eq!(flow.history(uri), format!("quarantined {sqlstate}"), "{uri}");
        let said = format!(
            "SELECT concat_ws(' ', sqlstate, message ~* '{words}', asset) FROM btc_ingest.failures WHERE uri = '{uri}'"
        );
        assert_eq!(
            flow.text(&said),
            format!("{sqlstate} t BTCUSDT"),
            "{uri}: {}",
            flow.text(&format!("SELECT last_error FROM ingestion.objects WHERE s3_uri = '{uri}'"))
        );
    }
    flow.must_hold(&slices);
    assert_eq!(flow.text("SELECT concat_ws(' ', loads, quarantined, retries) FROM btc_ingest.stats"), "10 8 0");
}

#[test]
fn an_object_that_hangs_holds_up_the_next_one_at_most() {
    let proxy = FaultProxy::before(&stand().s3);
    proxy.on(When::get().key("00000"), Fault::StallAfter(300));
    let mut flow = Flow::through(&proxy, &[("s3_read_timeout", "10min")]);
    flow.run("SELECT btc_ingest.pause_ingest()");
    let slices = flow.flow("BTCUSDT", 0..30);
    flow.run("SELECT btc_ingest.resume_ingest()");
    proxy.wait_until_stalled(SOON);
    flow.wait_for("what others can load", "(SELECT count(*) >= 28 FROM ingestion.objects WHERE status = 'loaded')");
    assert_eq!(flow.state(&slices[0].uri), "pending pending 1");
    proxy.clear();
    proxy.release();
    flow.wait_loaded(&slices);
    flow.must_hold(&slices);
}

#[test]
fn what_is_loaded_by_hand_just_before_a_loader_begins_is_not_loaded_again() {
    let proxy = FaultProxy::before(&stand().s3);
    proxy.on(When::get().key("00000"), Fault::StallAfter(300));
    let mut flow = Flow::through(&proxy, &[("workers", "1"), ("s3_read_timeout", "10min")]);
    flow.run("SELECT btc_ingest.pause_ingest()");
    let slices = flow.flow("BTCUSDT", 0..8);
    flow.run("SELECT btc_ingest.resume_ingest()");
    proxy.wait_until_stalled(SOON);
    let uri = slices[1].uri.clone();
    let mut hand = flow.session();
    // A load looks at the schema's version first. The loader's next one has to wait there, and its attempt began when the
    // first one was committed.
    let by_hand = std::thread::spawn(move || {
        hand.batch_execute("BEGIN; LOCK TABLE ingestion.schema_version").unwrap();
        let report = loaded(&mut hand, &uri, "");
        hand.batch_execute("COMMIT").unwrap();
        report.inserted
    });
    flow.wait_for("its place behind the first load", WAITS_FOR_SCHEMA_VERSION);
    proxy.clear();
    proxy.release();
    assert_eq!(by_hand.join().unwrap(), TICKS as i64);
    flow.wait_loaded(&slices);
    flow.must_hold(&slices);
    assert_eq!(flow.history(&slices[1].uri), "loaded");
    assert_eq!(flow.number("SELECT count(*) FROM ingestion.load_history"), 8);
    flow.must_hold_no_claims();
}

#[test]
fn what_is_registered_anew_just_before_a_loader_begins_is_loaded_once() {
    let proxy = FaultProxy::before(&stand().s3);
    proxy.on(When::get().key("00006"), Fault::StallAfter(300));
    let mut flow = Flow::through(&proxy, &[("workers", "1"), ("s3_read_timeout", "10min")]);
    flow.run("SELECT btc_ingest.pause_ingest()");
    let slices = flow.flow("BTCUSDT", 0..8);
    flow.run("SELECT btc_ingest.resume_ingest()");
    proxy.wait_until_stalled(SOON);
    let uri = slices[7].uri.clone();
    let mut other = flow.session();
    // As above; and what taking a registry row into the queue does to its object.
    let anew = std::thread::spawn(move || {
        let again = "UPDATE ingestion.objects SET generation = generation + 1, attempts = 0, attempt_started_at = NULL
                      WHERE s3_uri = $1 AND status = 'pending' AND attempt_started_at IS NOT NULL";
        other.batch_execute("BEGIN; LOCK TABLE ingestion.schema_version").unwrap();
        let changed = other.execute(again, &[&uri]).unwrap();
        other.batch_execute("COMMIT").unwrap();
        changed
    });
    flow.wait_for("its place behind the load", WAITS_FOR_SCHEMA_VERSION);
    proxy.clear();
    proxy.release();
    assert_eq!(anew.join().unwrap(), 1);
    flow.wait_loaded(&slices);
    flow.must_hold(&slices);
    assert_eq!(flow.history(&slices[7].uri), "loaded");
    assert_eq!(flow.state(&slices[7].uri), "loaded loaded 1");
    flow.must_hold_no_claims();
}

/// A sweep in an open transaction has queued eight slices and loaded one, and two loaders have found nothing to do meanwhile.
fn loaders_beside_an_open_sweep() -> (Flow, Vec<Slice>, Client) {
    let mut flow = Flow::with(&[("workers", "0")]);
    let slices = flow.flow("BTCUSDT", 0..8);
    let mut sweeping = flow.session();
    sweeping.batch_execute("BEGIN; SELECT btc_ingest.sweep(1)").unwrap();
    flow.set(&[("workers", "2")]);
    let waiting = "SELECT count(*) = 2 FROM pg_stat_activity
                    WHERE backend_type = 'btc_ingest loader' AND datname = current_database() AND state = 'idle'";
    flow.wait_for("two loaders that find nothing", waiting);
    assert_eq!(flow.number("SELECT count(*) FROM ingestion.load_history"), 0);
    (flow, slices, sweeping)
}

#[test]
fn loaders_that_looked_while_others_queued_objects_look_again() {
    let (mut flow, slices, mut sweeping) = loaders_beside_an_open_sweep();
    sweeping.batch_execute("COMMIT").unwrap();
    flow.wait_loaded(&slices);
    flow.must_hold(&slices);
}

#[test]
fn loaders_come_back_to_what_somebody_held_and_gave_back_without_a_word() {
    let (mut flow, slices, mut sweeping) = loaders_beside_an_open_sweep();
    sweeping.batch_execute("ROLLBACK").unwrap();
    flow.wait_loaded(&slices);
    flow.must_hold(&slices);
}

#[test]
fn a_failed_object_that_somebody_holds_is_asked_for_once_a_second_at_most() {
    let proxy = FaultProxy::before(&stand().s3);
    proxy.on(When::get().key("00000"), Fault::internal_error());
    let settings = [("workers", "1"), ("retry_backoff", "1s"), ("retry_backoff_max", "1s")];
    let mut flow = Flow::through(&proxy, &settings);
    let slices = flow.flow("BTCUSDT", 0..1);
    flow.wait_status(&slices[0].uri, "failed");
    let mut holder = flow.session();
    holder.batch_execute("BEGIN; SELECT 1 FROM ingestion.objects FOR UPDATE").unwrap();
    flow.wait_for("its time", "SELECT next_attempt_at < clock_timestamp() FROM ingestion.objects");
    flow.wait_looked();
    let began = Instant::now();
    flow.wait_looked();
    assert!(began.elapsed() > Duration::from_millis(900), "two looks within {:?}", began.elapsed());
    proxy.clear();
    holder.batch_execute("ROLLBACK").unwrap();
    flow.wait_loaded(&slices);
    flow.must_hold(&slices);
}

#[test]
fn what_is_no_parquet_by_its_own_word_is_skipped_with_the_reason() {
    let mut flow = Flow::new();
    let cases = [
        ("trades.json", "{}", "its name ends with .json: JSON, not Parquet"),
        ("trades.ZIP", "{}", "its name ends with .zip: a zip archive, not Parquet"),
        ("a", r#"{"format": "json"}"#, "registered as \"json\" (format), not as Parquet"),
        (
            "b.parquet",
            r#"{"content_type": "application/zip"}"#,
            "registered as \"application/zip\" (content_type), not as Parquet",
        ),
    ];
    for (n, (key, metadata, reason)) in cases.iter().enumerate() {
        let uri = format!("s3://landing/{}/{key}", flow.db.name());
        flow.run(&format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata) VALUES ('{}', 'BTCUSDT', '{uri}', '{metadata}')",
            bucket(n as i64)
        ));
        flow.wait_status(&uri, "skipped");
        assert_eq!(flow.state(&uri), "skipped skipped 0");
        assert_eq!(
            flow.text(&format!("SELECT concat_ws(': ', status, message) FROM btc_ingest.failures WHERE uri = '{uri}'")),
            format!("skipped: {reason}")
        );
    }
    assert_eq!(flow.number("SELECT count(*) FROM ingestion.load_history"), 0);
    assert_eq!(flow.number("SELECT count(*) FROM btc_ingest.queue"), 0);
    // Its word counts for more than its name.
    let slice = flow.put("BTCUSDT", 9);
    let named = flow.put_bytes("parquet-in-fact.json", ParquetFile::new().bytes(&slice.ticks));
    flow.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata) VALUES ('{}', 'BTCUSDT', '{named}', '{{\"format\": \"parquet\"}}')",
        slice.bucket
    ));
    flow.wait_status(&named, "loaded");
    flow.must_hold(&[slice]);
}

#[test]
fn what_never_passes_is_quarantined_after_max_attempts() {
    let proxy = FaultProxy::before(&stand().s3);
    let fault = proxy.on(When::get().key("00001"), Fault::slow_down());
    let mut flow = Flow::through(&proxy, &[]);
    let slices = flow.flow("BTCUSDT", 0..3);
    let uri = slices[1].uri.clone();
    flow.wait_status(&uri, "quarantined");
    assert_eq!(flow.state(&uri), format!("quarantined quarantined {MOST_ATTEMPTS}"));
    assert_eq!(flow.history(&uri), "failed S3009, failed S3009, quarantined S3009");
    assert_eq!(proxy.acted(fault) as i64, MOST_ATTEMPTS);
    proxy.clear();
    assert_eq!(
        flow.text("SELECT string_agg(concat_ws(' ', object, was, became), ', ') FROM btc_ingest.requeue_failed()"),
        format!("{uri} quarantined pending")
    );
    flow.wait_loaded(&slices);
    // With all of its attempts again.
    assert_eq!(flow.state(&uri), "loaded loaded 1");
    flow.must_hold(&slices);
}

#[test]
fn a_lack_of_resources_costs_no_attempt_and_holds_up_nothing() {
    let mut flow = Flow::new();
    flow.run(
        "CREATE FUNCTION public.disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.symbol = 'FULLUSDT' THEN RAISE 'no space left on device' USING ERRCODE = '53100'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER disk_is_full BEFORE INSERT ON market_data.btc_ticks FOR EACH ROW EXECUTE FUNCTION public.disk_is_full()",
    );
    let full = flow.flow("FULLUSDT", 0..1);
    let others = flow.flow("BTCUSDT", 0..6);
    flow.wait_loaded(&others);
    let uri = full[0].uri.clone();
    let tries = format!(
        "(SELECT count(*) > {MOST_ATTEMPTS} FROM ingestion.load_history WHERE s3_uri = '{uri}' AND outcome = 'failed' AND sqlstate = '53100')"
    );
    flow.wait_for("more tries than an object has", &tries);
    let row = format!(
        "SELECT concat_ws(' ', status IN ('failed', 'pending'), attempts <= 1) FROM ingestion.objects WHERE s3_uri = '{uri}'"
    );
    assert_eq!(flow.text(&row), "t t");
    assert!(!flow.history(&uri).contains("quarantined"));
    flow.run("DROP TRIGGER disk_is_full ON market_data.btc_ticks");
    flow.wait_loaded(&full);
    assert_eq!(flow.state(&uri), "loaded loaded 1");
    flow.must_hold(&[full, others].concat());
}

/// Runs statements in a transaction that stays open, and registers the slices of some more buckets meanwhile.
#[track_caller]
fn must_pass(flow: &mut Flow, held: &str, asset: &str) -> (Client, Vec<flow_stand::Slice>) {
    let mut holder = flow.session();
    holder.batch_execute(&format!("BEGIN; {held}")).unwrap_or_else(|error| panic!("{held}: {error:?}"));
    let others = flow.flow(asset, 100..106);
    let began = Instant::now();
    flow.wait_loaded(&others);
    let took = began.elapsed();
    assert!(took < PATIENCE, "{took:?} with {held}");
    (holder, others)
}

#[test]
fn a_locked_offset_is_written_by_a_later_load() {
    let mut flow = Flow::new();
    let first = flow.flow("BTCUSDT", 0..1);
    flow.wait_loaded(&first);
    let (mut holder, others) = must_pass(&mut flow, "SELECT FROM ingestion.stream_offsets FOR UPDATE", "BTCUSDT");
    let offset = "SELECT max(last_sequence) FROM ingestion.stream_offsets";
    assert_eq!(flow.number(offset), TICKS as i64);
    holder.batch_execute("COMMIT").unwrap();
    // Older than what was left out: what counts is the furthest.
    let last = flow.flow("BTCUSDT", 50..51);
    flow.wait_loaded(&last);
    flow.wait_for(
        "the offset",
        &format!("SELECT max(last_sequence) = {} FROM ingestion.stream_offsets", others[5].ticks[TICKS - 1].trade_id),
    );
    assert_eq!(flow.number("SELECT count(*) FROM ingestion.load_history WHERE outcome <> 'loaded'"), 0);
    flow.must_hold(&[first, others, last].concat());
}

#[test]
fn ticks_of_a_load_that_is_not_committed_are_waited_for_without_holding_up_others() {
    let mut flow = Flow::new();
    // A chunk that only an open transaction sees would have to be waited for by all that belongs into it.
    let first = flow.flow("SOLUSDT", 0..1);
    flow.wait_loaded(&first);
    let slice = flow.put("BTCUSDT", 0);
    let copy = flow.put_bytes("copy.parquet", ParquetFile::new().bytes(&slice.ticks));
    flow.run("SELECT btc_ingest.pause_ingest()");
    flow.register(&slice);
    let mut hand = flow.session();
    hand.batch_execute("BEGIN").unwrap();
    loaded(&mut hand, &copy, "");
    flow.run("SELECT btc_ingest.resume_ingest()");
    flow.wait_for("the lock's time to be over", "EXISTS (SELECT FROM ingestion.load_history WHERE sqlstate = '55P03')");
    let (mut holder, others) = must_pass(&mut flow, "SELECT 1", "ETHUSDT");
    holder.batch_execute("COMMIT").unwrap();
    assert_eq!(
        flow.text(&format!(
            "SELECT (attempts <= 1 AND status <> 'quarantined')::text FROM ingestion.objects WHERE s3_uri = '{}'",
            slice.uri
        )),
        "true"
    );
    hand.batch_execute("COMMIT").unwrap();
    flow.wait_loaded(std::slice::from_ref(&slice));
    assert_eq!(flow.state(&slice.uri), "loaded loaded 1");
    assert_eq!(
        flow.number(&format!("SELECT rows_duplicate FROM ingestion.objects WHERE s3_uri = '{}'", slice.uri)),
        TICKS as i64
    );
    flow.must_hold(&[first, vec![slice], others].concat());
}

#[test]
fn what_the_whole_table_was_locked_for_is_loaded_afterwards() {
    let mut flow = Flow::new();
    let mut holder = flow.session();
    holder.batch_execute("BEGIN; LOCK TABLE market_data.btc_ticks IN ACCESS EXCLUSIVE MODE").unwrap();
    let slices = flow.flow("BTCUSDT", 0..2);
    for slice in &slices {
        let failed = format!(
            "(SELECT count(*) > 1 FROM ingestion.load_history WHERE s3_uri = '{}' AND sqlstate = '55P03')",
            slice.uri
        );
        flow.wait_for("a second try", &failed);
    }
    holder.batch_execute("COMMIT").unwrap();
    flow.wait_loaded(&slices);
    assert_eq!(flow.text("SELECT string_agg(attempts::text, ' ') FROM ingestion.objects"), "1 1");
    flow.must_hold(&slices);
}

#[test]
fn an_open_transaction_over_registered_objects_holds_up_no_other() {
    // Whoever has a lock wakes nobody when he lets it go.
    let mut flow = Flow::with(&[("poll_interval", "200ms")]);
    flow.run("SELECT btc_ingest.pause_ingest()");
    let slices = flow.flow("BTCUSDT", 0..3);
    // In the queue, as after a load of theirs that failed.
    flow.run(&format!(
        "INSERT INTO ingestion.objects (s3_uri, span_from, span_to) SELECT s3_uri, bucket_5m, bucket_5m + interval '5 minutes' FROM landing.raw_blobs_5m;
         UPDATE landing.raw_blobs_5m SET queued_at = now() WHERE s3_uri <> '{}'",
        slices[2].uri
    ));
    let mut holder = flow.session();
    holder.batch_execute("BEGIN; SELECT FROM ingestion.objects FOR UPDATE").unwrap();
    flow.run("SELECT btc_ingest.resume_ingest()");
    let (mut producer, others) = must_pass(&mut flow, "UPDATE landing.raw_blobs_5m SET metadata = '{}'", "ETHUSDT");
    assert_eq!(flow.number("SELECT count(*) FROM ingestion.objects WHERE status = 'loaded'"), 6);
    producer.batch_execute("ROLLBACK").unwrap();
    holder.batch_execute("ROLLBACK").unwrap();
    flow.wait_loaded(&slices);
    flow.must_hold(&[slices, others].concat());
    assert_eq!(flow.number("SELECT count(*) FROM ingestion.objects WHERE attempts <> 1"), 0);
}

#[test]
fn an_attempt_that_ended_with_its_process_holds_up_no_other_while_a_producer_has_its_row() {
    let mut flow = Flow::with(&[("poll_interval", "200ms")]);
    flow.run("SELECT btc_ingest.pause_ingest()");
    let slices = flow.flow("BTCUSDT", 0..3);
    // As a process leaves them that is killed at its load.
    flow.run(
        "INSERT INTO ingestion.objects (s3_uri, span_from, span_to, attempts, attempt_started_at)
         SELECT s3_uri, bucket_5m, bucket_5m + interval '5 minutes', 1, now() FROM landing.raw_blobs_5m;
         UPDATE landing.raw_blobs_5m SET queued_at = now()",
    );
    let mut producer = flow.session();
    producer.batch_execute("BEGIN; UPDATE landing.raw_blobs_5m SET metadata = '{}'").unwrap();
    flow.run("SELECT btc_ingest.resume_ingest()");
    let (_, others) = must_pass(&mut flow, "SELECT 1", "ETHUSDT");
    assert_eq!(flow.state(&slices[0].uri), "pending pending 1");
    producer.batch_execute("ROLLBACK").unwrap();
    flow.wait_loaded(&slices);
    for slice in &slices {
        assert_eq!(flow.history(&slice.uri), "failed 57P02, loaded");
    }
    flow.must_hold(&[slices, others].concat());
}

#[test]
fn an_upsert_of_the_same_uri_loads_its_new_version_and_merges_it() {
    let mut flow = Flow::new();
    let slice = flow.flow("BTCUSDT", 0..1).remove(0);
    flow.wait_loaded(std::slice::from_ref(&slice));
    let more = ticks_of("BTCUSDT", 700_000, 10);
    let both = [slice.ticks.clone(), more].concat();
    flow.put_bytes("BTCUSDT/00000.parquet", ParquetFile::new().bytes(&both[5..]));
    upsert(&mut flow.client, &slice.uri, 0);
    flow.wait_for("the second load", "SELECT count(*) = 2 FROM ingestion.load_history WHERE outcome = 'loaded'");
    must_hold(&mut flow.client, &both);
    assert_eq!(flow.state(&slice.uri), "loaded loaded 1");
    assert_eq!(flow.text("SELECT concat_ws(' ', rows_inserted, rows_duplicate) FROM ingestion.objects"), "10 15");
    // The same version once more costs a question, and is said.
    upsert(&mut flow.client, &slice.uri, 0);
    flow.wait_for("the third", "EXISTS (SELECT FROM ingestion.load_history WHERE outcome = 'already loaded')");
    flow.wait_status(&slice.uri, "loaded");
    assert_eq!(flow.state(&slice.uri), "loaded loaded 1");
    // Another object for the same slice.
    let other = flow.put_bytes("other.parquet", ParquetFile::new().bytes(&ticks_of("BTCUSDT", 800_000, 3)));
    upsert(&mut flow.client, &other, 0);
    flow.wait_status(&other, "loaded");
    must_hold(&mut flow.client, both.iter().chain(&ticks_of("BTCUSDT", 800_000, 3)));
    assert_eq!(flow.text("SELECT concat_ws(' ', s3_uri, status) FROM landing.raw_blobs_5m"), format!("{other} loaded"));
}

/// What a producer that replaces an object says, with no knowledge of our columns.
fn upsert(client: &mut Client, uri: &str, n: i64) {
    let sql =
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ($1::text::timestamptz, 'BTCUSDT', $2)
               ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri";
    client.execute(sql, &[&bucket(n), &uri]).unwrap();
}

#[test]
fn an_upsert_during_a_load_does_not_wait_and_its_version_is_loaded_afterwards() {
    for (fails, by_function) in [(false, false), (true, false), (false, true), (true, true)] {
        let proxy = FaultProxy::before(&stand().s3);
        proxy.on(When::get(), Fault::StallAfter(300));
        // What failed would not be tried again in a test's time; what is new is.
        let mut flow = Flow::through(&proxy, &[("retry_backoff", "1h"), ("retry_backoff_max", "1h")]);
        let slice = flow.flow("BTCUSDT", 0..1).remove(0);
        proxy.wait_until_stalled(SOON);
        let loader = flow.loader_of(&slice.uri);
        let both = [slice.ticks.clone(), ticks_of("BTCUSDT", 700_000, 10)].concat();
        flow.put_bytes("BTCUSDT/00000.parquet", ParquetFile::new().bytes(&both));
        let began = Instant::now();
        match by_function {
            true => flow.run(&format!(
                "SELECT * FROM btc_ingest.register_s3_slice('{}', 'BTCUSDT', '{}')",
                slice.uri, slice.bucket
            )),
            false => upsert(&mut flow.client, &slice.uri, 0),
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        if fails {
            flow.client.execute("SELECT pg_cancel_backend($1)", &[&loader]).unwrap();
            flow.wait_for("the failure", "EXISTS (SELECT FROM ingestion.load_history WHERE sqlstate = '57014')");
        }
        proxy.release();
        let etag = flow.stand.s3.etag("landing", slice.uri.strip_prefix("s3://landing/").unwrap());
        let newest =
            format!("(SELECT status = 'loaded' AND etag = '{}' FROM ingestion.objects)", etag.trim_matches('"'));
        flow.wait_for("the new version", &newest);
        flow.wait_for("its row", "SELECT status = 'loaded' AND queued_at IS NOT NULL FROM landing.raw_blobs_5m");
        must_hold(&mut flow.client, &both);
        assert_eq!(flow.number("SELECT count(*) FROM btc_ingest.queue"), 0);
    }
}

#[test]
fn many_rows_of_one_object_are_one_load() {
    let proxy = FaultProxy::before(&stand().s3);
    let mut flow = Flow::through(&proxy, &[]);
    let ticks: Vec<_> = (0..3)
        .flat_map(|n| ticks_of("BTCUSDT", 1 + n * 100, 10).into_iter().map(move |tick| moved(&tick, n)))
        .collect();
    let uri = flow.put_bytes("three.parquet", ParquetFile::new().bytes(&ticks));
    flow.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
         SELECT '2024-08-08 12:00+00'::timestamptz + n * interval '5 minutes', 'BTCUSDT', '{uri}' FROM generate_series(0, 3) AS n"
    ));
    flow.wait_for("all rows", "SELECT count(*) = 4 AND bool_and(status = 'loaded') FROM landing.raw_blobs_5m");
    assert_eq!(flow.history(&uri), "loaded");
    must_hold(&mut flow.client, &ticks);
    // One more row of it is a question to S3, and no load.
    let before = proxy.count("GET");
    flow.register_uri(&uri, "BTCUSDT", 7);
    flow.wait_for("the row", "SELECT count(*) = 5 AND bool_and(status = 'loaded') FROM landing.raw_blobs_5m");
    assert_eq!(proxy.count("GET"), before);
    assert_eq!(flow.history(&uri), "loaded, already loaded");
    // By hand it is nobody's but the caller's.
    let mut hand = session(&flow.db, &proxy.endpoint(), &[]);
    assert_eq!(loaded(&mut hand, &uri, "").outcome, "already loaded");
}
