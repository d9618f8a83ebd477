//! Registrations that do not fit their object: they are told apart from those that do, and blind no view.

use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{Fault, FaultProxy, When};

use crate::queue_fixture::{QueueFixture, Slice, bucket, s3};

/// The registry rows as `<bucket> <asset> <status> <whether they have a span>`.
const ROWS: &str =
    "SELECT string_agg(concat_ws(' ', to_char(bucket_5m AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), asset,
                                                status, ingested_tick_span IS NOT NULL), ', ' ORDER BY bucket_5m, asset)
                      FROM landing.raw_blobs_5m";
/// The view `lag`, without times.
const LAG: &str = "SELECT string_agg(concat_ws(' ', asset, to_char(newest_bucket AT TIME ZONE 'UTC',
                                               'YYYY-MM-DD HH24:MI'), waiting), ', ' ORDER BY asset)
                      FROM btc_ingest.lag";
/// What `doctor()` says of registrations.
const DOCTOR: &str = "SELECT concat_ws(' ', ok, detail) FROM btc_ingest.doctor() WHERE name = 'registrations'";

/// Registers an object under a bucket and an asset of which it holds no tick.
fn register_wrongly(queue: &mut QueueFixture, slice: &Slice, bucket: &str, asset: &str) {
    queue.run(&format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('{bucket}', '{asset}', '{}')",
        slice.uri
    ));
}

#[test]
fn a_row_is_loaded_only_if_its_object_holds_ticks_of_its_slice_and_lag_goes_by_what_is_stored() {
    let mut queue = QueueFixture::new();
    let slice = queue.put("BTCUSDT", 0);
    queue.run("BEGIN");
    queue.register(&slice);
    register_wrongly(&mut queue, &slice, "2031-01-01T00:00:00Z", "BTCUSDT");
    register_wrongly(&mut queue, &slice, &bucket(0), "ETHUSDT");
    queue.run("COMMIT");
    queue.wait_loaded(std::slice::from_ref(&slice));
    queue.wait_for("all rows", "NOT EXISTS (SELECT FROM landing.raw_blobs_5m WHERE status = 'pending')");
    assert_eq!(
        queue.text(ROWS),
        "2024-08-08 12:00 BTCUSDT loaded t, 2024-08-08 12:00 ETHUSDT empty f, 2031-01-01 00:00 BTCUSDT empty f"
    );
    assert_eq!(queue.text(LAG), "BTCUSDT 2024-08-08 12:00 0");
    let said = queue.text(DOCTOR);
    assert!(said.starts_with("f 2 rows of landing.raw_blobs_5m name an object that holds no tick"), "{said}");
    assert!(said.contains("ETHUSDT 2024-08-08") && said.contains("BTCUSDT 2031-01-01"), "{said}");

    // A wrong row that comes later meets an object that is loaded already.
    register_wrongly(&mut queue, &slice, "2030-01-01T00:00:00Z", "BTCUSDT");
    queue.wait_for("the row", "(SELECT count(*) = 3 FROM landing.raw_blobs_5m WHERE status = 'empty')");
    assert_eq!(queue.text(LAG), "BTCUSDT 2024-08-08 12:00 0");
    let more = queue.register_slices("BTCUSDT", 1..2);
    queue.wait_loaded(&more);
    assert_eq!(queue.text(LAG), "BTCUSDT 2024-08-08 12:05 0");

    // The hint mends it as it is printed.
    let hint = queue.text("SELECT hint FROM btc_ingest.doctor() WHERE name = 'registrations'");
    queue.run(&hint);
    assert_eq!(queue.text(ROWS), "2024-08-08 12:00 BTCUSDT loaded t, 2024-08-08 12:05 BTCUSDT loaded t");
    assert_eq!(queue.text(DOCTOR), "t every row fits its object");
}

#[test]
fn an_object_without_any_tick_leaves_its_row_empty_and_is_no_wrong_registration() {
    let mut queue = QueueFixture::new();
    let uri = queue.put_bytes("BTCUSDT/none.parquet", btc_ingest_kit::ParquetFile::new().bytes(&[]));
    queue.register_uri(&uri, "BTCUSDT", 3);
    queue.wait_status(&uri, "loaded");
    assert_eq!(queue.text(ROWS), "2024-08-08 12:15 BTCUSDT empty f");
    assert_eq!(queue.text(DOCTOR), "t every row fits its object");
    assert_eq!(queue.number("SELECT count(*) FROM btc_ingest.lag"), 0);
}

#[test]
fn lag_forgets_ticks_that_are_gone() {
    let mut queue = QueueFixture::new();
    let slices = queue.register_slices("BTCUSDT", 0..3);
    queue.wait_loaded(&slices);
    assert_eq!(queue.text(LAG), "BTCUSDT 2024-08-08 12:10 0");
    queue.run(&format!("DELETE FROM market_data.btc_ticks WHERE bucket_5m = '{}'", bucket(2)));
    assert_eq!(queue.text(LAG), "BTCUSDT 2024-08-08 12:05 0");
}

#[test]
fn a_row_follows_its_object_from_one_version_to_the_next() {
    let proxy = FaultProxy::before(s3());
    let mut queue = QueueFixture::through(&proxy, &[]);
    let slice = queue.put("BTCUSDT", 0);
    queue.run("BEGIN");
    queue.register(&slice);
    register_wrongly(&mut queue, &slice, &bucket(1), "BTCUSDT");
    queue.run("COMMIT");
    queue.wait_for("both rows", "NOT EXISTS (SELECT FROM landing.raw_blobs_5m WHERE status = 'pending')");
    assert_eq!(queue.text(ROWS), "2024-08-08 12:00 BTCUSDT loaded t, 2024-08-08 12:05 BTCUSDT empty f");
    // It may be a matter of the time by which a producer sorts its ticks.
    assert_eq!(queue.text(DOCTOR), "t every row fits its object");
    // The next version holds ticks of the other bucket only. What its rows say of the first one is not held against it.
    let other = btc_ingest_kit::ParquetFile::new().bytes(&crate::queue_fixture::slice_ticks("BTCUSDT", 1));
    queue.put_bytes("BTCUSDT/00000.parquet", other);
    queue.run(&format!("UPDATE landing.raw_blobs_5m SET s3_uri = s3_uri WHERE bucket_5m = '{}'", bucket(1)));
    queue.wait_for(
        "the next version",
        "(SELECT bool_or(status = 'loaded' AND bucket_5m > '2024-08-08T12:01:00Z') FROM landing.raw_blobs_5m)",
    );
    assert_eq!(queue.text(ROWS), "2024-08-08 12:00 BTCUSDT empty f, 2024-08-08 12:05 BTCUSDT loaded t");
    // A failure of a later version leaves what is stored as it is.
    proxy.on(When::any().key("00000"), Fault::access_denied());
    queue.run(&format!("UPDATE landing.raw_blobs_5m SET s3_uri = s3_uri WHERE bucket_5m = '{}'", bucket(1)));
    queue.wait_status(&slice.uri, "quarantined");
    assert_eq!(queue.text(ROWS), "2024-08-08 12:00 BTCUSDT empty f, 2024-08-08 12:05 BTCUSDT quarantined t");
}
