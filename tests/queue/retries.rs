//! What is tried again, what is quarantined and what is skipped.

use btc_ingest_kit::rows::ticks_of;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{Fault, FaultProxy, ParquetFile, When};

use crate::queue_fixture::{MOST_ATTEMPTS, QueueFixture, TICKS, bucket, s3};

#[test]
fn what_passes_is_tried_again_after_pauses_that_grow_and_every_attempt_is_a_row() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get().key("00001").times(2), Fault::slow_down());
    let mut queue = QueueFixture::through(&proxy, &[]);
    let slices = queue.register_slices("BTCUSDT", 0..4);
    queue.wait_loaded(&slices);
    queue.must_hold(&slices);
    let uri = &slices[1].uri;
    assert_eq!(queue.state(uri), "loaded loaded 3");
    assert_eq!(queue.history(uri), "failed S3009, failed S3009, loaded");
    assert_eq!(queue.text("SELECT string_agg(attempts::text, ' ' ORDER BY s3_uri) FROM ingestion.objects"), "1 3 1 1");
    // The pauses are 50 and 100 ms, each a quarter more or less.
    let pauses = format!(
        "SELECT string_agg((pause >= place * interval '37 ms')::text, ' ' ORDER BY place)
           FROM (SELECT row_number() OVER w - 1 AS place, started_at - lag(finished_at) OVER w AS pause
                   FROM ingestion.load_history WHERE s3_uri = '{uri}' WINDOW w AS (ORDER BY id)) AS p WHERE place > 0"
    );
    assert_eq!(queue.text(&pauses), "true true");
    let stats = "SELECT concat_ws(' ', loads, failures, quarantined, retries, rows_inserted, errors ->> 'S3')
                   FROM btc_ingest.stats";
    assert_eq!(queue.text(stats), format!("4 2 0 2 {} 2", 4 * TICKS));
}

#[test]
fn a_failed_object_waits_for_its_time_and_its_row_says_why() {
    let proxy = FaultProxy::before(s3());
    let fault = proxy.on(When::get().key("00000"), Fault::internal_error());
    let mut queue = QueueFixture::through(&proxy, &[("retry_backoff", "1h"), ("retry_backoff_max", "1h")]);
    let slices = queue.register_slices("BTCUSDT", 0..1);
    let uri = &slices[0].uri;
    queue.wait_status(uri, "failed");
    assert_eq!(queue.state(uri), "failed failed 1");
    let row = "SELECT concat_ws(' ', last_sqlstate, last_error ~ 'InternalError|500',
                      next_attempt_at - attempt_started_at BETWEEN '44 minutes' AND '76 minutes')
                 FROM ingestion.objects";
    assert_eq!(queue.text(row), "S3009 t t");
    let more = queue.register_slices("BTCUSDT", 1..3);
    queue.wait_loaded(&more);
    assert_eq!(proxy.acted(fault), 1);
    assert_eq!(queue.state(uri), "failed failed 1");
    proxy.clear();
    queue.run(&format!("SELECT btc_ingest.retry('{uri}')"));
    queue.wait_loaded(&slices);
    assert_eq!(queue.history(uri), "failed S3009, loaded");
    queue.must_hold(&[slices, more].concat());
}

#[test]
fn an_outage_of_s3_needs_no_operator() {
    let proxy = FaultProxy::before(s3());
    let mut queue = QueueFixture::through(&proxy, &[]);
    let before = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_loaded(&before);
    proxy.refuse_connections(true);
    // Open connections would still work.
    proxy.on(When::any(), Fault::Drop);
    let during = queue.register_slices("BTCUSDT", 1..6);
    queue.wait_for("several failures", "EXISTS (SELECT FROM btc_ingest.outages WHERE probes > 10)");
    proxy.clear();
    proxy.refuse_connections(false);
    queue.wait_loaded(&during);
    queue.must_hold(&[before, during].concat());
    // The failures are in the history and count against no object.
    let known = "SELECT concat_ws(' ', max(attempts), (SELECT count(*) > 1 FROM ingestion.load_history
                                                        WHERE outcome = 'failed'))
                   FROM ingestion.objects";
    assert_eq!(queue.text(known), "1 t");
}

#[test]
fn what_can_never_be_loaded_is_quarantined_at_once_and_holds_up_nothing() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::any().key("forbidden"), Fault::access_denied());
    let mut queue = QueueFixture::through(&proxy, &[]);
    let name = queue.db.name().to_owned();
    let ticks = ticks_of("BTCUSDT", 900_000, 5);
    let poisoned = [
        (format!("s3://landing/{name}/never-put.parquet"), "S3004", "NoSuchKey|does not exist|no such"),
        (queue.put_bytes("forbidden.parquet", ParquetFile::new().bytes(&ticks)), "S3005", "AccessDenied|denied"),
        (queue.put_bytes("text.parquet", "no parquet, ".repeat(100)), "PQ002", "Parquet"),
        (queue.put_bytes("empty.parquet", ""), "PQ001", "empty"),
        (queue.put_bytes("priceless.parquet", ParquetFile::new().without("price").bytes(&ticks)), "PQ009", "price"),
        ("s3://elsewhere/a.parquet".to_owned(), "S3002", "allowed"),
        ("no uri at all".to_owned(), "S3001", "uri"),
        ("s3://landing".to_owned(), "S3001", "uri"),
    ];
    for (n, (uri, ..)) in poisoned.iter().enumerate() {
        queue.register_uri(uri, "BTCUSDT", n as i64);
    }
    let slices = queue.register_slices("ETHUSDT", 0..10);
    queue.wait_loaded(&slices);
    for (uri, sqlstate, words) in &poisoned {
        queue.wait_status(uri, "quarantined");
        assert_eq!(queue.state(uri), "quarantined quarantined 1");
        assert_eq!(queue.history(uri), format!("quarantined {sqlstate}"), "{uri}");
        let said = format!(
            "SELECT concat_ws(' ', sqlstate, message ~* '{words}', asset) FROM btc_ingest.failures WHERE uri = '{uri}'"
        );
        assert_eq!(
            queue.text(&said),
            format!("{sqlstate} t BTCUSDT"),
            "{uri}: {}",
            queue.text(&format!("SELECT last_error FROM ingestion.objects WHERE s3_uri = '{uri}'"))
        );
    }
    queue.must_hold(&slices);
    assert_eq!(queue.text("SELECT concat_ws(' ', loads, quarantined, retries) FROM btc_ingest.stats"), "10 8 0");
}

#[test]
fn what_is_no_parquet_by_its_own_word_is_skipped_with_the_reason() {
    let mut queue = QueueFixture::new();
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
        let uri = format!("s3://landing/{}/{key}", queue.db.name());
        queue.run(&format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
             VALUES ('{}', 'BTCUSDT', '{uri}', '{metadata}')",
            bucket(n as i64)
        ));
        queue.wait_status(&uri, "skipped");
        assert_eq!(queue.state(&uri), "skipped skipped 0");
        assert_eq!(
            queue.text(&format!(
                "SELECT concat_ws(': ', status, message) FROM btc_ingest.failures
                                  WHERE uri = '{uri}'"
            )),
            format!("skipped: {reason}")
        );
    }
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history"), 0);
    assert_eq!(queue.number("SELECT count(*) FROM btc_ingest.queue"), 0);
    // The metadata count for more than the name.
    let slice = queue.put("BTCUSDT", 9);
    let named = queue.put_bytes("parquet-in-fact.json", ParquetFile::new().bytes(&slice.ticks));
    queue.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
         VALUES ('{}', 'BTCUSDT', '{named}', '{{\"format\": \"parquet\"}}')",
        slice.bucket
    ));
    queue.wait_status(&named, "loaded");
    queue.must_hold(&[slice]);
}

#[test]
fn what_never_passes_is_quarantined_after_max_attempts() {
    let proxy = FaultProxy::before(s3());
    let fault = proxy.on(When::get().key("00001"), Fault::slow_down());
    let mut queue = QueueFixture::through(&proxy, &[]);
    let slices = queue.register_slices("BTCUSDT", 0..3);
    let uri = slices[1].uri.clone();
    queue.wait_status(&uri, "quarantined");
    assert_eq!(queue.state(&uri), format!("quarantined quarantined {MOST_ATTEMPTS}"));
    assert_eq!(queue.history(&uri), "failed S3009, failed S3009, quarantined S3009");
    assert_eq!(proxy.acted(fault) as i64, MOST_ATTEMPTS);
    proxy.clear();
    assert_eq!(
        queue.text("SELECT string_agg(concat_ws(' ', object, was, became), ', ') FROM btc_ingest.requeue_failed()"),
        format!("{uri} quarantined pending")
    );
    queue.wait_loaded(&slices);
    // It has all of its attempts again.
    assert_eq!(queue.state(&uri), "loaded loaded 1");
    queue.must_hold(&slices);
}

#[test]
fn a_lack_of_resources_costs_no_attempt_and_holds_up_nothing() {
    let mut queue = QueueFixture::new();
    queue.run(
        "CREATE FUNCTION public.disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.symbol = 'FULLUSDT' THEN RAISE 'no space left on device' USING ERRCODE = '53100'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER disk_is_full BEFORE INSERT ON market_data.btc_ticks
             FOR EACH ROW EXECUTE FUNCTION public.disk_is_full()",
    );
    let full = queue.register_slices("FULLUSDT", 0..1);
    let others = queue.register_slices("BTCUSDT", 0..6);
    queue.wait_loaded(&others);
    let uri = full[0].uri.clone();
    let tries = format!(
        "(SELECT count(*) > {MOST_ATTEMPTS} FROM ingestion.load_history
          WHERE s3_uri = '{uri}' AND outcome = 'failed' AND sqlstate = '53100')"
    );
    queue.wait_for("more tries than an object has", &tries);
    let row = format!(
        "SELECT concat_ws(' ', status IN ('failed', 'pending'), attempts <= 1) FROM ingestion.objects
          WHERE s3_uri = '{uri}'"
    );
    assert_eq!(queue.text(&row), "t t");
    assert!(!queue.history(&uri).contains("quarantined"));
    queue.run("DROP TRIGGER disk_is_full ON market_data.btc_ticks");
    queue.wait_loaded(&full);
    assert_eq!(queue.state(&uri), "loaded loaded 1");
    queue.must_hold(&[full, others].concat());
}
