//! Times that no producer meant: they are bad rows, and doctor() names those that are stored.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray, TimestampMillisecondArray};
use btc_ingest_kit::fixture::{Refusal, loaded, refused};
use btc_ingest_kit::rows::ticks;
use btc_ingest_kit::sql::{execute, text, texts};
use btc_ingest_kit::ticks::time_us;
use btc_ingest_kit::{ParquetFile, ServerFixture, TestDb};
use postgres::Client;

const ROWS: usize = 3;

fn put(db: &TestDb<'_>, key: &str, file: &ParquetFile) -> String {
    ServerFixture::shared().put(&format!("{}/{key}.parquet", db.name()), file.bytes(&ticks(1, ROWS)))
}

fn noon() -> i64 {
    time_us("2024-08-08T12:00:00Z")
}

fn integers(first: i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(|row| first + row)))
}

fn with_times(event_time: ArrayRef) -> ParquetFile {
    ParquetFile::new().without("trade_time").column("event_time", event_time)
}

/// Returns the line of doctor() about the times of ticks.
fn doctor(client: &mut Client) -> [String; 3] {
    let sql = r#"SELECT ok::text, detail, coalesce(hint, '') FROM btc_ingest.doctor() WHERE name = 'times of ticks'"#;
    let row = client.query_one(sql, &[]).unwrap();
    [0, 1, 2].map(|column| row.get(column))
}

#[test]
fn times_in_another_unit_are_refused_with_the_unit_that_makes_sense() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let us = noon();
    for (raw, given, right) in
        [(us, "ms", "us"), (us / 1000, "us", "ms"), (us * 1000, "ms", "ns"), (us / 1_000_000, "ms", "s")]
    {
        let uri = put(&db, &format!("{given}-for-{right}"), &with_times(integers(raw)));
        let options = format!(r#"options => '{{"time_unit": "{given}"}}'"#);
        let refusal = refused(&mut client, &uri, &options, "TK001");
        let said = format!("in the unit \"{right}\" it would be 2024-08-08T12:00:00");
        assert!(refusal.message.contains(&said), "{refusal:?}");
        let inspect = format!(r#"SELECT problem FROM btc_ingest.inspect_s3('{uri}', '{{"time_unit": "{given}"}}')"#);
        assert!(text(&mut client, &inspect).contains(&said));
        let options = format!(r#"options => '{{"time_unit": "{right}"}}'"#);
        assert_eq!(loaded(&mut client, &uri, &options).rejected, 0);
    }
    let chunks = "SELECT count(*)::text FROM timescaledb_information.chunks WHERE hypertable_name = 'btc_ticks'";
    assert_eq!(text(&mut client, chunks), "1");
}

#[test]
fn a_time_of_a_type_with_the_wrong_unit_is_a_bad_row_and_the_rules_for_bad_rows_apply() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let ms = noon() / 1000;
    let wild = Arc::new(TimestampMillisecondArray::from(vec![ms, ms * 1000, ms + 1]));
    let uri = put(&db, "typed", &with_times(wild));
    let refusal = refused(&mut client, &uri, "", "TK001");
    let said = "event_time is +56573-06-13T00:00:00.000000Z, later than btc_ingest.max_time_ahead allows; in the unit \
                \"us\" it would be 2024-08-08T12:00:00.000000Z";
    assert!(refusal.message.contains("row 1 ") && refusal.message.contains(said), "{refusal:?}");
    let report = loaded(&mut client, &uri, "on_bad_row => 'reject'");
    assert_eq!((report.inserted, report.rejected), (2, 1));
    assert_eq!(texts(&mut client, "SELECT reason FROM landing.rejected_ticks"), [said]);
    // A trade time, too.
    let wild = Arc::new(TimestampMicrosecondArray::from(vec![noon(), ms, noon()]));
    let uri = put(&db, "trade-time", &ParquetFile::new().column("trade_time", wild));
    let refusal = refused(&mut client, &uri, "", "TK001");
    assert!(refusal.message.contains("trade_time is 1970-01-20T"), "{refusal:?}");
}

#[test]
fn the_settings_say_which_times_are_plausible() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let now: i64 = client.query_one("SELECT (extract(epoch FROM now()) * 1000000)::bigint", &[]).unwrap().get(0);
    let hour = 3_600_000_000;
    let old = put(&db, "old", &with_times(Arc::new(TimestampMicrosecondArray::from(vec![-hour, 0, hour]))));
    let ahead = put(&db, "ahead", &with_times(Arc::new(TimestampMicrosecondArray::from(vec![now + 30 * hour; ROWS]))));
    let near = put(&db, "near", &with_times(Arc::new(TimestampMicrosecondArray::from(vec![now + 20 * hour; ROWS]))));
    refused(&mut client, &old, "", "TK001");
    refused(&mut client, &ahead, "", "TK001");
    assert_eq!(loaded(&mut client, &near, "").inserted, ROWS as i64);
    execute(&mut client, "SET btc_ingest.min_time = '1969-12-31T23:00:00Z'; SET btc_ingest.max_time_ahead = '2d'");
    assert_eq!(loaded(&mut client, &old, "").inserted, ROWS as i64);
    assert_eq!(loaded(&mut client, &ahead, "").inserted, ROWS as i64);
    execute(&mut client, "SET btc_ingest.min_time = ''");
    for wrong in ["yesterday", "2009", "2009-13-01"] {
        let error = client.batch_execute(&format!("SET btc_ingest.min_time = '{wrong}'")).unwrap_err();
        assert_eq!(Refusal::from(error).sqlstate, "22023", "{wrong}");
    }
}

#[test]
fn doctor_names_stored_ticks_with_implausible_times_and_their_objects() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let good = put(&db, "good", &ParquetFile::new());
    loaded(&mut client, &good, "");
    assert_eq!(doctor(&mut client)[0], "true");
    let late = put(&db, "late", &with_times(integers(noon())));
    let early = put(&db, "early", &with_times(integers(noon() / 1_000_000)));
    execute(&mut client, "SET btc_ingest.max_time_ahead = 2147483647");
    // 4,000 years are less than it takes, so the ticks of the year 56573 come as an INSERT.
    execute(
        &mut client,
        "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity)
         SELECT t, t, 'BTCUSDT', 1, 1, 1 FROM (VALUES (timestamptz '56573-06-13 00:00+00')) AS v (t)",
    );
    execute(&mut client, "SET btc_ingest.min_time = ''");
    loaded(&mut client, &early, r#"options => '{"time_unit": "ms"}'"#);
    execute(&mut client, "RESET btc_ingest.min_time; RESET btc_ingest.max_time_ahead");
    refused(&mut client, &late, r#"options => '{"time_unit": "ms"}'"#, "TK001");
    let lines = "SELECT ok || ' ' || detail FROM btc_ingest.doctor() WHERE name = 'times of ticks'";
    let found = texts(&mut client, lines);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("false 3 ticks are earlier than btc_ingest.min_time allows"), "{found:?}");
    assert!(found[0].ends_with(&format!("from {early}")), "{found:?}");
    assert!(found[1].starts_with("false 1 ticks are later than btc_ingest.max_time_ahead allows"), "{found:?}");
    let hints = r#"SELECT hint FROM btc_ingest.doctor() WHERE name = 'times of ticks'"#;
    for hint in texts(&mut client, hints) {
        execute(&mut client, &hint);
    }
    assert_eq!(doctor(&mut client)[0], "true");
    assert_eq!(text(&mut client, "SELECT count(*)::text FROM market_data.btc_ticks"), ROWS.to_string());
    assert_eq!(loaded(&mut client, &early, r#"options => '{"time_unit": "s"}'"#).rejected, 0);
}
