//! Locks of other sessions delay what needs them, and nothing else.

use std::time::{Duration, Instant};

use btc_ingest_kit::fixture::called::call;
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{Fault, FaultProxy, ParquetFile, When};
use postgres::Client;

use crate::queue_fixture::{QueueFixture, SOON, Slice, TICKS, s3};

/// How long another session's lock may delay objects that do not need it: the lock timeout of a second, and the time of
/// a slow machine.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn an_object_that_hangs_holds_up_the_next_one_at_most() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get().key("00000"), Fault::StallAfter(300));
    let mut queue = QueueFixture::through(&proxy, &[("s3_read_timeout", "10min")]);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let slices = queue.register_slices("BTCUSDT", 0..30);
    queue.run("SELECT btc_ingest.resume_ingest()");
    proxy.wait_until_stalled(SOON);
    queue.wait_for("what others can load", "(SELECT count(*) >= 28 FROM ingestion.objects WHERE status = 'loaded')");
    assert_eq!(queue.state(&slices[0].uri), "pending pending 1");
    proxy.clear();
    proxy.release();
    queue.wait_loaded(&slices);
    queue.must_hold(&slices);
}

/// Lets a sweep in an open transaction queue eight slices and load one, while two loaders find nothing to do.
fn loaders_beside_an_open_sweep() -> (QueueFixture, Vec<Slice>, Client) {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    let slices = queue.register_slices("BTCUSDT", 0..8);
    let mut sweeping = queue.session();
    sweeping.batch_execute("BEGIN; SELECT btc_ingest.sweep(1)").unwrap();
    queue.set(&[("workers", "2")]);
    let waiting = "SELECT count(*) = 2 FROM pg_stat_activity
                    WHERE backend_type = 'btc_ingest loader' AND datname = current_database() AND state = 'idle'";
    queue.wait_for("two loaders that find nothing", waiting);
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history"), 0);
    (queue, slices, sweeping)
}

#[test]
fn loaders_that_looked_while_others_queued_objects_look_again() {
    let (mut queue, slices, mut sweeping) = loaders_beside_an_open_sweep();
    sweeping.batch_execute("COMMIT").unwrap();
    queue.wait_loaded(&slices);
    queue.must_hold(&slices);
}

#[test]
fn loaders_come_back_to_what_another_session_held_and_released_in_silence() {
    let (mut queue, slices, mut sweeping) = loaders_beside_an_open_sweep();
    sweeping.batch_execute("ROLLBACK").unwrap();
    queue.wait_loaded(&slices);
    queue.must_hold(&slices);
}

#[test]
fn a_failed_object_that_another_session_holds_is_asked_for_once_a_second_at_most() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get().key("00000"), Fault::internal_error());
    let settings = [("workers", "1"), ("retry_backoff", "1s"), ("retry_backoff_max", "1s")];
    let mut queue = QueueFixture::through(&proxy, &settings);
    let slices = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_status(&slices[0].uri, "failed");
    let mut holder = queue.session();
    holder.batch_execute("BEGIN; SELECT 1 FROM ingestion.objects FOR UPDATE").unwrap();
    queue.wait_for("its time", "SELECT next_attempt_at < clock_timestamp() FROM ingestion.objects");
    queue.wait_looked();
    let began = Instant::now();
    queue.wait_looked();
    assert!(began.elapsed() > Duration::from_millis(900), "two looks within {:?}", began.elapsed());
    proxy.clear();
    holder.batch_execute("ROLLBACK").unwrap();
    queue.wait_loaded(&slices);
    queue.must_hold(&slices);
}

/// Keys under which a role may look for the locks of btc_ingest: names that earlier versions used, and what `pg_locks`
/// shows of the present ones.
const KEYS: &str = "
    SELECT hashtextextended(name, 0) FROM (
        SELECT 'btc_ingest.object:' || s3_uri FROM landing.raw_blobs_5m
        UNION ALL SELECT 'btc_ingest.claim:' || s3_uri FROM landing.raw_blobs_5m
        UNION ALL SELECT s3_uri FROM landing.raw_blobs_5m
        UNION ALL SELECT format('btc_ingest.offset:s3:unknown:%s', asset) FROM landing.raw_blobs_5m
        UNION ALL SELECT 'btc_ingest.loader:' || slot FROM generate_series(0, 63) AS slot
        UNION ALL SELECT format('%s:%s', b, s) FROM generate_series(1, 9) AS b, generate_series(0, 9) AS s
        UNION ALL SELECT format('btc_ingest.backfill:%s:%s', b, s)
          FROM generate_series(1, 9) AS b, generate_series(0, 9) AS s
        UNION ALL SELECT 'btc_ingest.preparation:' || b FROM generate_series(1, 9) AS b
        UNION ALL SELECT 'btc_ingest.' || lock
          FROM unnest('{start_backfill,attach,refresh,compress,migrate}'::text[]) AS lock
    ) AS names (name)
    UNION ALL SELECT generate_series(0, 63)";

#[test]
fn a_role_that_takes_every_key_of_ours_by_advisory_locks_stops_nothing() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let slices = queue.register_slices("BTCUSDT", 0..4);
    let behind: Vec<Slice> = (10..14).map(|n| queue.put("BTCUSDT", n)).collect();
    queue.run("DROP ROLE IF EXISTS key_taker; CREATE ROLE key_taker LOGIN");
    let keys: Vec<i64> = queue.client.query(KEYS, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    let mut taker = queue.server.cluster.client_as(queue.db.name(), "key_taker");
    let take = "SELECT pg_advisory_lock(k), pg_advisory_lock((k >> 32)::int, (k << 32 >> 32)::int)
                  FROM unnest($1::bigint[]) AS k";
    assert_eq!(taker.query(take, &[&keys]).unwrap().len(), keys.len());

    queue.run("SELECT btc_ingest.resume_ingest()");
    queue.set(&[("workers", "2")]);
    queue.wait_loaded(&slices);
    let prefixes = [format!("s3://landing/{}/", queue.db.name())];
    let called = call(&queue.db.connection_string(), &prefixes, "parallel => 2");
    assert_eq!(called.refusal, None, "{called:#?}");
    queue.run("SELECT btc_ingest.migrate()");
    queue.must_hold(&[slices, behind].concat());
    drop(taker);
    queue.run("DROP ROLE key_taker");
}

/// Runs statements in a transaction that stays open, and registers the slices of some more buckets meanwhile.
#[track_caller]
fn must_pass(queue: &mut QueueFixture, held: &str, asset: &str) -> (Client, Vec<Slice>) {
    let mut holder = queue.session();
    holder.batch_execute(&format!("BEGIN; {held}")).unwrap_or_else(|error| panic!("{held}: {error:?}"));
    let others = queue.register_slices(asset, 100..106);
    let began = Instant::now();
    queue.wait_loaded(&others);
    let took = began.elapsed();
    assert!(took < PATIENCE, "{took:?} with {held}");
    (holder, others)
}

#[test]
fn a_locked_offset_is_written_by_a_later_load() {
    let mut queue = QueueFixture::new();
    let first = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_loaded(&first);
    let (mut holder, others) = must_pass(&mut queue, "SELECT FROM ingestion.stream_offsets FOR UPDATE", "BTCUSDT");
    let offset = "SELECT max(last_sequence) FROM ingestion.stream_offsets";
    assert_eq!(queue.number(offset), TICKS as i64);
    holder.batch_execute("COMMIT").unwrap();
    // Older than the offset that was left out: the furthest one counts.
    let last = queue.register_slices("BTCUSDT", 50..51);
    queue.wait_loaded(&last);
    queue.wait_for(
        "the offset",
        &format!("SELECT max(last_sequence) = {} FROM ingestion.stream_offsets", others[5].ticks[TICKS - 1].trade_id),
    );
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history WHERE outcome <> 'loaded'"), 0);
    queue.must_hold(&[first, others, last].concat());
}

#[test]
fn ticks_of_a_load_that_is_not_committed_are_waited_for_without_holding_up_others() {
    let mut queue = QueueFixture::new();
    // All ticks of a chunk would wait for the open transaction that creates it.
    let first = queue.register_slices("SOLUSDT", 0..1);
    queue.wait_loaded(&first);
    let slice = queue.put("BTCUSDT", 0);
    let copy = queue.put_bytes("copy.parquet", ParquetFile::new().bytes(&slice.ticks));
    queue.run("SELECT btc_ingest.pause_ingest()");
    queue.register(&slice);
    let mut hand = queue.session();
    hand.batch_execute("BEGIN").unwrap();
    loaded(&mut hand, &copy, "");
    queue.run("SELECT btc_ingest.resume_ingest()");
    queue.wait_for(
        "the lock's time to be over",
        "EXISTS (SELECT FROM ingestion.load_history
                                                   WHERE sqlstate = '55P03')",
    );
    let (mut holder, others) = must_pass(&mut queue, "SELECT 1", "ETHUSDT");
    holder.batch_execute("COMMIT").unwrap();
    assert_eq!(
        queue.text(&format!(
            "SELECT (attempts <= 1 AND status <> 'quarantined')::text FROM ingestion.objects WHERE s3_uri = '{}'",
            slice.uri
        )),
        "true"
    );
    hand.batch_execute("COMMIT").unwrap();
    queue.wait_loaded(std::slice::from_ref(&slice));
    assert_eq!(queue.state(&slice.uri), "loaded loaded 1");
    assert_eq!(
        queue.number(&format!("SELECT rows_duplicate FROM ingestion.objects WHERE s3_uri = '{}'", slice.uri)),
        TICKS as i64
    );
    queue.must_hold(&[first, vec![slice], others].concat());
}

#[test]
fn what_the_whole_table_was_locked_for_is_loaded_afterwards() {
    let mut queue = QueueFixture::new();
    let mut holder = queue.session();
    holder.batch_execute("BEGIN; LOCK TABLE market_data.btc_ticks IN ACCESS EXCLUSIVE MODE").unwrap();
    let slices = queue.register_slices("BTCUSDT", 0..2);
    for slice in &slices {
        let failed = format!(
            "(SELECT count(*) > 1 FROM ingestion.load_history WHERE s3_uri = '{}' AND sqlstate = '55P03')",
            slice.uri
        );
        queue.wait_for("a second try", &failed);
    }
    holder.batch_execute("COMMIT").unwrap();
    queue.wait_loaded(&slices);
    assert_eq!(queue.text("SELECT string_agg(attempts::text, ' ') FROM ingestion.objects"), "1 1");
    queue.must_hold(&slices);
}

#[test]
fn an_open_transaction_over_registered_objects_holds_up_no_other() {
    // A session that releases a lock wakes no worker.
    let mut queue = QueueFixture::with(&[("poll_interval", "200ms")]);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let slices = queue.register_slices("BTCUSDT", 0..3);
    // They are in the queue, as after a failed load.
    queue.run(&format!(
        "INSERT INTO ingestion.objects (s3_uri, span_from, span_to) SELECT s3_uri, bucket_5m,
                bucket_5m + interval '5 minutes' FROM landing.raw_blobs_5m;
         UPDATE landing.raw_blobs_5m SET queued_at = now() WHERE s3_uri <> '{}'",
        slices[2].uri
    ));
    let mut holder = queue.session();
    holder.batch_execute("BEGIN; SELECT FROM ingestion.objects FOR UPDATE").unwrap();
    queue.run("SELECT btc_ingest.resume_ingest()");
    let (mut producer, others) = must_pass(&mut queue, "UPDATE landing.raw_blobs_5m SET metadata = '{}'", "ETHUSDT");
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects WHERE status = 'loaded'"), 6);
    producer.batch_execute("ROLLBACK").unwrap();
    holder.batch_execute("ROLLBACK").unwrap();
    queue.wait_loaded(&slices);
    queue.must_hold(&[slices, others].concat());
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects WHERE attempts <> 1"), 0);
}

#[test]
fn an_attempt_that_ended_with_its_process_holds_up_no_other_while_a_producer_has_its_row() {
    let mut queue = QueueFixture::with(&[("poll_interval", "200ms")]);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let slices = queue.register_slices("BTCUSDT", 0..3);
    // This is the state that a process leaves when it is killed during its load.
    queue.run(
        "INSERT INTO ingestion.objects (s3_uri, span_from, span_to, attempts, attempt_started_at)
         SELECT s3_uri, bucket_5m, bucket_5m + interval '5 minutes', 1, now() FROM landing.raw_blobs_5m;
         UPDATE landing.raw_blobs_5m SET queued_at = now()",
    );
    let mut producer = queue.session();
    producer.batch_execute("BEGIN; UPDATE landing.raw_blobs_5m SET metadata = '{}'").unwrap();
    queue.run("SELECT btc_ingest.resume_ingest()");
    let (_, others) = must_pass(&mut queue, "SELECT 1", "ETHUSDT");
    assert_eq!(queue.state(&slices[0].uri), "pending pending 1");
    producer.batch_execute("ROLLBACK").unwrap();
    queue.wait_loaded(&slices);
    for slice in &slices {
        assert_eq!(queue.history(&slice.uri), "failed 57P02, loaded");
    }
    queue.must_hold(&[slices, others].concat());
}

#[test]
fn objects_of_a_chunk_that_another_session_holds_come_last() {
    let settings = [("workers", "2"), ("poll_interval", "200ms"), ("retry_backoff", "1s"), ("retry_backoff_max", "1s")];
    let mut queue = QueueFixture::with(&settings);
    // Each of the two chunks exists.
    let mut before = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_loaded(&before);
    before.extend(queue.register_slices("BTCUSDT", 5000..5001));
    queue.wait_loaded(&before);
    let chunk = queue.text("SELECT show_chunks::text FROM show_chunks('market_data.btc_ticks') ORDER BY 1 LIMIT 1");
    let mut holder = queue.session();
    holder.batch_execute(&format!("BEGIN; LOCK TABLE {chunk} IN ACCESS EXCLUSIVE MODE")).unwrap();
    queue.run("SELECT btc_ingest.pause_ingest()");
    // If each waited for the chunk for a second, both loaders would be busy with them for half a minute.
    let held = queue.register_slices("BTCUSDT", 1..61);
    let others = queue.register_slices("BTCUSDT", 5001..5041);
    queue.run("SELECT btc_ingest.resume_ingest()");
    let began = Instant::now();
    queue.wait_loaded(&others);
    let took = began.elapsed();
    assert!(took < 2 * PATIENCE, "{took:?}");
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects WHERE status = 'quarantined'"), 0);
    holder.batch_execute("COMMIT").unwrap();
    queue.wait_loaded(&held);
    assert_eq!(queue.text("SELECT string_agg(DISTINCT attempts::text, ' ') FROM ingestion.objects"), "1");
    queue.must_hold(&[before, held, others].concat());
}
