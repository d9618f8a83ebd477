//! Chunks are dropped after the proof that nothing is lost, and what holds them back is shown.

use std::time::{Duration, Instant};

use btc_ingest_kit::fixture::chunks::{some_ticks, week};
use btc_ingest_kit::fixture::{cluster_of, loaded, must_hold_sums, server};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::wait::{SOON, wait_until};
use btc_ingest_kit::{ParquetFile, ServerFixture};

use crate::retention_fixture::{DROPPED, HELD, RUN, RetentionFixture};

#[test]
fn chunks_that_are_due_are_dropped_and_recorded() {
    let mut fixture = RetentionFixture::new();
    let weeks = fixture.load_weeks(0..3);
    fixture.run(RUN);
    assert_eq!(fixture.chunks().len(), 3, "no row is enabled");
    fixture.drop_before(2);
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), ["2024-08-22"]);
    must_hold_sums(&mut fixture.client, &weeks[2]);
    let line = |date: &str, number: usize| format!("{date} BTCUSDT {} 1", weeks[number].len());
    assert_eq!(fixture.lines(DROPPED), [line("2024-08-08", 0), line("2024-08-15", 1)]);
    assert_eq!(fixture.number("SELECT count(*) FROM ops.retention_checks"), 0);
    // The ledger stays.
    assert_eq!(fixture.number("SELECT sum(ticks)::bigint FROM ingestion.object_slices"), weeks.concat().len() as i64);
    assert_eq!(fixture.text("SELECT string_agg(DISTINCT status, ' ') FROM ingestion.objects"), "loaded");
    let doctor = fixture.doctor();
    assert!(doctor[0].0 && doctor[0].1.contains("2 ranges are dropped"), "{doctor:?}");
}

#[test]
fn an_object_that_is_not_loaded_holds_its_chunk_back() {
    let mut fixture = RetentionFixture::new();
    fixture.load_weeks(0..2);
    fixture.drop_before(2);
    let late = some_ticks("BTCUSDT", week(0) + 3_600_000_000, 1);
    let uri = fixture.put("late", &late);
    fixture.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2024-08-08 01:00Z', 'BTCUSDT', '{uri}')"
    ));
    fixture.run(RUN);
    assert_eq!(fixture.lines(HELD), [format!("2024-08-08 1 registered objects of it wait, e.g. {uri}")]);
    assert_eq!(fixture.chunks(), ["2024-08-08"]);
    // A quarantined one, of which nothing but its registration is known.
    fixture.server.put(&fixture.key("late"), "no Parquet");
    fixture.run("CALL btc_ingest.run_sweep()");
    fixture.run(RUN);
    let held = fixture.lines(HELD);
    assert!(held.len() == 1 && held[0].contains("not loaded (quarantined)") && held[0].ends_with(&uri), "{held:?}");
    let doctor = fixture.doctor();
    assert!(!doctor[0].0 && doctor[0].1.contains("1 chunks are due and held back"), "{doctor:?}");
    let uri = fixture.put("late", &late);
    fixture.run(&format!("SELECT btc_ingest.retry('{uri}')"));
    fixture.run("CALL btc_ingest.run_sweep()");
    fixture.run(RUN);
    assert_eq!((fixture.chunks(), fixture.lines(HELD)), (vec![], vec![]));
}

#[test]
fn a_chunk_stays_if_one_of_its_objects_is_gone_or_was_replaced_in_s3() {
    let mut fixture = RetentionFixture::new();
    let weeks = fixture.load_weeks(0..3);
    fixture.drop_before(3);
    fixture.server.s3.delete("landing", &fixture.key("week0"));
    fixture.put("week1", &weeks[2]);
    fixture.run(RUN);
    let held = fixture.lines(HELD);
    assert_eq!(held[0], format!("2024-08-08 {} is no longer in S3", fixture.uri("week0")));
    assert!(held[1].starts_with(&format!("2024-08-15 {} was replaced in S3", fixture.uri("week1"))), "{held:?}");
    assert_eq!(fixture.chunks(), ["2024-08-08", "2024-08-15"], "the third one is dropped");
    // With the proof switched off, they go.
    fixture.run("SET btc_ingest.retention_proof = off");
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), [""; 0]);
}

#[test]
fn ticks_that_no_object_holds_are_not_dropped() {
    let mut fixture = RetentionFixture::new();
    fixture.load_weeks(0..1);
    fixture.drop_before(1);
    fixture.run(
        "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity)
         VALUES ('2024-08-09', '2024-08-09 00:00:01Z', 'BTCUSDT', 1, 1, 1)",
    );
    fixture.run(RUN);
    let held = fixture.lines(HELD);
    assert_eq!(held, ["2024-08-08 1 of the 1 ticks of BTCUSDT at 2024-08-09 00:00+00 are in no loaded object"]);
    fixture.run("DELETE FROM market_data.btc_ticks WHERE trade_id = 1");
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), [""; 0]);
}

#[test]
fn a_chunk_that_another_session_uses_is_left_for_the_next_run() {
    let mut fixture = RetentionFixture::new();
    fixture.load_weeks(0..1);
    fixture.drop_before(1);
    let mut other = fixture.db.client();
    let mut reading = other.transaction().unwrap();
    reading.query("SELECT count(*) FROM market_data.btc_ticks", &[]).unwrap();
    fixture.run(RUN);
    assert_eq!(fixture.lines(HELD), ["2024-08-08 another session uses it"]);
    reading.commit().unwrap();
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), [""; 0]);
}

#[test]
fn a_run_in_transactions_with_an_older_snapshot_is_refused() {
    let mut fixture = RetentionFixture::new();
    fixture.load_weeks(0..1);
    fixture.drop_before(1);
    for level in ["repeatable read", "serializable"] {
        fixture.run(&format!("SET default_transaction_isolation = '{level}'"));
        let refusal = fixture.refused(RUN, "TK031");
        assert!(refusal.message.contains("SET default_transaction_isolation = 'read committed'"), "{refusal:?}");
    }
    assert_eq!(fixture.chunks().len(), 1);
    fixture.run("SET default_transaction_isolation = 'read committed'");
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), [""; 0]);
}

#[test]
fn a_run_ends_at_its_time_and_the_next_one_goes_on() {
    let mut fixture = RetentionFixture::new();
    let first = some_ticks("BTCUSDT", week(0), 1);
    // More objects than one step looks for.
    let keys: Vec<String> = (0..1_100).map(|number| fixture.key(&format!("copy{number:04}"))).collect();
    let uri = fixture.put("first", &first);
    loaded(&mut fixture.client, &uri, "");
    fixture.server.s3.put_copies("landing", keys.iter().cloned(), ParquetFile::new().bytes(&first));
    // They are recorded as loads of the same bytes would be.
    let name = fixture.db.name().to_owned();
    fixture.run(&format!(
        "INSERT INTO ingestion.objects (s3_uri, etag, status, loaded_at, span_from, span_to)
         SELECT format('s3://landing/{name}/copy%s.parquet', lpad(n::text, 4, '0')), o.etag, 'loaded',
                now(), o.span_from, o.span_to
           FROM ingestion.objects o, generate_series(0, 1099) n WHERE o.s3_uri = '{uri}';
         INSERT INTO ingestion.object_slices (s3_uri, etag, bucket_5m, asset, ticks, first_trade_id, last_trade_id,
                                              first_event_time, last_event_time)
         SELECT o.s3_uri, s.etag, s.bucket_5m, s.asset, s.ticks, s.first_trade_id, s.last_trade_id, s.first_event_time,
                s.last_event_time
           FROM ingestion.object_slices s, ingestion.objects o
          WHERE s.s3_uri = '{uri}' AND o.s3_uri LIKE '%copy%'",
    ));
    fixture.drop_before(1);
    fixture.run(r#"UPDATE ops.retention_jobs SET policy = policy || '{"max_runtime": "1 microsecond"}' WHERE enabled"#);
    let proven = "SELECT string_agg(concat_ws(' ', state, objects), ', ') FROM btc_ingest.retention";
    let heads = fixture.server.s3.count("HEAD");
    fixture.run(RUN);
    assert_eq!(fixture.text(proven), "proving 1000");
    fixture.run(RUN);
    assert_eq!(fixture.text(proven), "proving 1101");
    fixture.run(RUN);
    assert_eq!(fixture.text(proven), "dropped 1101");
    assert!(fixture.server.s3.count("HEAD") - heads >= 1_101);
}

#[test]
fn chunks_that_are_held_back_take_no_time_from_others() {
    let mut fixture = RetentionFixture::new();
    fixture.load_weeks(0..3);
    fixture.drop_before(3);
    for gone in ["week0", "week1"] {
        fixture.server.s3.delete("landing", &fixture.key(gone));
    }
    fixture.run(r#"UPDATE ops.retention_jobs SET policy = policy || '{"max_runtime": "1 microsecond"}' WHERE enabled"#);
    // A step for each that is held back, and two for the third: the proof and the drop.
    for _ in 0..4 {
        fixture.run(RUN);
    }
    assert_eq!(fixture.chunks(), ["2024-08-08", "2024-08-15"]);
    // Then they take turns.
    let checked = "SELECT string_agg(to_char(chunk_from AT TIME ZONE 'UTC', 'DD'), ' ' ORDER BY checked_at)
                     FROM ops.retention_checks";
    assert_eq!(fixture.text(checked), "08 15");
    fixture.run(RUN);
    assert_eq!(fixture.text(checked), "15 08");
    fixture.run(RUN);
    assert_eq!(fixture.text(checked), "08 15");
}

#[test]
fn a_worker_drops_chunks_where_btc_ingest_is_preloaded() {
    let s3 = server();
    let cluster = cluster_of(&s3.endpoint()).preload("btc_ingest").start();
    // Lives until this process ends, as the shared one does.
    let server: &'static ServerFixture = Box::leak(Box::new(ServerFixture { cluster, s3 }));
    let mut fixture = RetentionFixture::of(server);
    let name = fixture.db.name().to_owned();
    fixture.run(&format!("ALTER SYSTEM SET btc_ingest.database = '{name}'"));
    fixture.run("ALTER SYSTEM SET btc_ingest.poll_interval = '500ms'");
    fixture.run("SELECT pg_reload_conf()");
    fixture.load_weeks(0..2);
    fixture.drop_before(2);
    wait_until("the worker", SOON, || fixture.chunks().is_empty());
    assert_eq!(fixture.lines(DROPPED).len(), 2);
    let jobs = "SELECT count(*) FROM timescaledb_information.jobs WHERE proc_name = 'run_retention'";
    assert_eq!(fixture.number(jobs), 0, "no job beside the worker");
}

/// It takes minutes: `cargo test -p btc_ingest_tests --test retention -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn a_thousand_chunks_of_300_000_objects_are_dropped() {
    const CHUNKS: i64 = 1_000;
    const OBJECTS: i64 = 300;
    let mut fixture = RetentionFixture::new();
    let bytes = ParquetFile::new().bytes(&some_ticks("BTCUSDT", week(0), 1));
    let keys = (0..CHUNKS * OBJECTS).map(|number| fixture.key(&format!("many{number:06}")));
    fixture.server.s3.put_copies("landing", keys, bytes);
    let etag = fixture.server.s3.etag("landing", &fixture.key("many000000"));
    // As loads record it.
    let etag = etag.trim_matches('"');
    let uri = format!("s3://landing/{}/many", fixture.db.name());
    for chunk in 0..CHUNKS {
        // A tick and a slice per object, as loads would leave them.
        fixture.run(&format!(
            "WITH object AS (
                 SELECT '{uri}' || lpad(n::text, 6, '0') || '.parquet' AS uri, n,
                        '2005-01-06 00:00Z'::timestamptz + {chunk} * interval '168 hours'
                        + (n - {chunk} * {OBJECTS}) * interval '5 minutes' AS bucket
                   FROM generate_series({chunk} * {OBJECTS}, ({chunk} + 1) * {OBJECTS} - 1) n
             ), objects AS (
                 INSERT INTO ingestion.objects (s3_uri, etag, status, loaded_at, span_from, span_to)
                 SELECT uri, '{etag}', 'loaded', now(), bucket, bucket + interval '5 minutes' FROM object
             ), slices AS (
                 INSERT INTO ingestion.object_slices (s3_uri, etag, bucket_5m, asset, ticks, first_trade_id,
                                                      last_trade_id, first_event_time, last_event_time, ids)
                 SELECT uri, '{etag}', bucket, 'BTCUSDT', 1, n, n, bucket, bucket, int8multirange(int8range(n, n + 1))
                   FROM object
             )
             INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity)
             SELECT bucket, bucket, 'BTCUSDT', n, 1, 1 FROM object"
        ));
    }
    fixture.run("ANALYZE ingestion.objects; ANALYZE ingestion.object_slices; ANALYZE market_data.btc_ticks");
    fixture.drop_before(1);
    fixture.run(r#"UPDATE ops.retention_jobs SET policy = policy || '{"max_runtime": "10 seconds"}' WHERE enabled"#);
    let heads = fixture.server.s3.count("HEAD");
    let mut runs = Vec::new();
    while fixture.number("SELECT count(*) FROM timescaledb_information.chunks") > 0 {
        let began = Instant::now();
        fixture.run(RUN);
        runs.push(began.elapsed());
        assert_eq!(fixture.lines(HELD), [""; 0]);
    }
    println!("{} runs, the longest {:?}, together {:?}", runs.len(), runs.iter().max(), runs.iter().sum::<Duration>());
    assert_eq!(fixture.number("SELECT sum(ticks)::bigint FROM ops.dropped_ranges"), CHUNKS * OBJECTS);
    assert_eq!(fixture.server.s3.count("HEAD") - heads, (CHUNKS * OBJECTS) as u64);
    assert!(runs.iter().all(|run| *run < Duration::from_secs(30)), "{runs:?}");
}
