//! An error of the owner's own code keeps its SQLSTATE, also one that no list of PostgreSQL's knows.

use btc_ingest_kit::fixture::Refusal;
use btc_ingest_kit::fixture::called::call;

use crate::queue_fixture::{QueueFixture, Session};

/// What each trigger raises.
const SQLSTATE: &str = "ZZ123";

/// Has a trigger refuse what is written to a table.
fn refuse_on(queue: &mut QueueFixture, table: &str) {
    queue.run(&format!(
        "CREATE OR REPLACE FUNCTION public.refuses() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             RAISE EXCEPTION 'no % on %', lower(TG_OP), TG_ARGV[0]
                 USING ERRCODE = '{SQLSTATE}', DETAIL = 'its detail', HINT = 'its hint';
         END $$;
         CREATE TRIGGER refuses BEFORE INSERT OR UPDATE ON {table}
             FOR EACH ROW EXECUTE FUNCTION public.refuses('{table}')"
    ));
}

/// Checks that a statement fails by the trigger of a table, in all that a client sees of it.
#[track_caller]
fn must_refuse(queue: &mut QueueFixture, table: &str, sql: &str) {
    refuse_on(queue, table);
    let refusal = Refusal::from(queue.client.batch_execute(sql).expect_err(sql));
    assert_eq!(refusal.sqlstate, SQLSTATE, "{table}, {sql}: {refusal:?}");
    assert!(refusal.message.contains(&format!(" on {table}")), "{table}, {sql}: {refusal:?}");
    assert!(refusal.detail.contains("its detail"), "{table}, {sql}: {refusal:?}");
    assert_eq!(refusal.hint, "its hint", "{table}, {sql}: {refusal:?}");
    queue.run(&format!("DROP TRIGGER refuses ON {table}"));
}

#[test]
fn a_call_that_a_trigger_refuses_has_the_triggers_error() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    let slice = queue.put("BTCUSDT", 0);
    let prefix = format!("s3://landing/{}/", queue.db.name());
    let load = format!("SELECT btc_ingest.load_s3_slice('{}')", slice.uri);
    for table in [
        "market_data.btc_ticks",
        "ingestion.objects",
        "ingestion.object_slices",
        "ingestion.stream_offsets",
        "ingestion.load_history",
        "landing.raw_blobs_5m",
    ] {
        must_refuse(&mut queue, table, &load);
    }
    let register =
        format!("SELECT btc_ingest.register_s3_slice('{}', '{}', '{}')", slice.uri, slice.asset, slice.bucket);
    for table in ["ingestion.objects", "landing.raw_blobs_5m"] {
        must_refuse(&mut queue, table, &register);
    }
    must_refuse(&mut queue, "ingestion.stream_offsets", &format!("SELECT btc_ingest.watch('{prefix}')"));
    must_refuse(&mut queue, "ingestion.backfills", &format!("CALL btc_ingest.backfill('{prefix}')"));
    // A statement whose own error is caught and raised again, and one in a function of the caller's.
    let caught = format!(
        "DO $do$ BEGIN BEGIN {}; EXCEPTION WHEN SQLSTATE '{SQLSTATE}' THEN RAISE; END; END $do$",
        load.replace("SELECT", "PERFORM")
    );
    must_refuse(&mut queue, "ingestion.objects", &caught);
    queue.register(&slice);
    queue.run("SELECT btc_ingest.sweep()");
    queue.run("UPDATE ingestion.objects SET status = 'quarantined'");
    must_refuse(&mut queue, "ingestion.objects", &format!("SELECT btc_ingest.retry('{}')", slice.uri));
}

/// An error that PostgreSQL's own lists call XX000 stays one, also after another one was caught.
#[test]
fn an_internal_error_keeps_its_own_sqlstate() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    let slice = queue.put("BTCUSDT", 0);
    queue.run(
        "CREATE FUNCTION public.refuses() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             BEGIN
                 RAISE EXCEPTION 'caught' USING ERRCODE = 'ZZ123';
             EXCEPTION WHEN SQLSTATE 'ZZ123' THEN
                 RAISE EXCEPTION 'internal' USING ERRCODE = 'XX000';
             END;
         END $$;
         CREATE TRIGGER refuses BEFORE INSERT ON ingestion.objects FOR EACH ROW EXECUTE FUNCTION public.refuses()",
    );
    let sql = format!("SELECT btc_ingest.load_s3_slice('{}')", slice.uri);
    let refusal = Refusal::from(queue.client.batch_execute(&sql).expect_err("a refusal"));
    assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("internal")), ("XX000", true), "{refusal:?}");
}

#[test]
fn a_worker_records_the_triggers_error() {
    let mut queue = QueueFixture::with(&[("workers", "1")]);
    refuse_on(&mut queue, "market_data.btc_ticks");
    let live = queue.register_slices("BTCUSDT", 0..1);
    queue.wait_status(&live[0].uri, "quarantined");
    queue.set(&[("workers", "0")]);
    let swept = queue.register_slices("BTCUSDT", 1..2);
    queue.run("CALL btc_ingest.run_sweep()");
    let called = queue.register_slices("BTCUSDT", 2..3);
    queue.run("SELECT btc_ingest.sweep()");
    let filled = queue.put("ETHUSDT", 3);
    let prefix = format!("s3://landing/{}/ETHUSDT/", queue.db.name());
    call(&queue.db.connection_string(), &[prefix], "");
    for slice in live.iter().chain(&swept).chain(&called).chain([&filled]) {
        let uri = &slice.uri;
        assert_eq!(queue.history(uri), format!("quarantined {SQLSTATE}"), "{uri}");
        let recorded = "SELECT concat_ws(' ', last_sqlstate, last_error) FROM ingestion.objects WHERE s3_uri = ";
        let recorded = queue.text(&format!("{recorded}'{uri}'"));
        assert!(recorded.contains(&format!("{SQLSTATE} ")) && recorded.contains("no insert on"), "{uri}: {recorded}");
    }
}

/// A deferred trigger fires when the worker commits.
#[test]
fn a_worker_reports_the_error_of_a_deferred_trigger() {
    let mut queue = QueueFixture::with(&[("workers", "1"), ("poll_interval", "200ms")]);
    queue.run(
        "CREATE FUNCTION public.refuses() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'not at the commit' USING ERRCODE = 'ZZ123'; END $$;
         CREATE CONSTRAINT TRIGGER refuses AFTER INSERT ON ingestion.object_slices DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION public.refuses()",
    );
    let slice = queue.register_slices("BTCUSDT", 0..1).remove(0);
    queue.wait_status(&slice.uri, "quarantined");
    let recorded = queue.text("SELECT concat_ws(' ', last_sqlstate, last_error) FROM ingestion.objects");
    assert!(recorded.starts_with("ZZ123 ") && recorded.contains("not at the commit"), "{recorded}");
}
