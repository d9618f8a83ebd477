//! Objects that take more locks than there are, or for which resources run out: they are given up, and others go on.

use btc_ingest_kit::ParquetFile;
use btc_ingest_kit::rows::weekly;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::wait::wait_until;

use crate::queue_fixture::{MOST_ATTEMPTS, QueueFixture, SOON};

/// Lets every tick of a symbol fail as PostgreSQL does when its table of locks is full.
const SHORT: &str = "
    CREATE FUNCTION public.is_short() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.symbol = 'FULLUSDT' THEN RAISE 'out of shared memory' USING ERRCODE = '53200'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER is_short BEFORE INSERT ON market_data.btc_ticks
        FOR EACH ROW EXECUTE FUNCTION public.is_short()";

#[test]
fn an_object_in_two_thousand_weeks_is_quarantined_at_once_and_no_other_waits() {
    let mut queue = QueueFixture::with(&[("min_time", "1970-01-01")]);
    queue.run("SELECT btc_ingest.pause_ingest()");
    let ticks = weekly("FARUSDT", 1, "1980-01-06T00:00:00Z", 2_000);
    let far: Vec<String> = (0..3)
        .map(|number| queue.put_bytes(&format!("far{number}.parquet"), ParquetFile::new().bytes(&ticks)))
        .collect();
    for (number, uri) in far.iter().enumerate() {
        queue.register_uri(uri, "FARUSDT", number as i64);
    }
    let others = queue.register_slices("BTCUSDT", 10..20);
    queue.run("SELECT btc_ingest.resume_ingest()");
    queue.wait_loaded(&others);
    for uri in &far {
        queue.wait_status(uri, "quarantined");
        assert_eq!(queue.state(uri), "quarantined quarantined 1");
        assert_eq!(queue.history(uri), "quarantined TK033");
    }
    let more = queue.register_slices("BTCUSDT", 20..22);
    queue.run("CALL btc_ingest.run_sweep()");
    queue.wait_loaded(&more);
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history WHERE sqlstate ^@ '53'"), 0);
    queue.must_hold(&[others, more].concat());
}

#[test]
fn an_object_for_which_resources_run_out_while_others_load_is_quarantined() {
    let mut queue = QueueFixture::new();
    queue.run(SHORT);
    let short = queue.register_slices("FULLUSDT", 0..1);
    let uri = short[0].uri.clone();
    queue.wait_for("a failure", "EXISTS (SELECT FROM ingestion.load_history WHERE sqlstate = '53200')");
    let others = queue.register_slices("BTCUSDT", 0..6);
    queue.wait_loaded(&others);
    queue.wait_status(&uri, "quarantined");
    assert_eq!(queue.state(&uri), format!("quarantined quarantined {MOST_ATTEMPTS}"));
    let said = queue.text("SELECT last_error FROM ingestion.objects WHERE status = 'quarantined'");
    assert!(said.contains("no other object meets that") && said.contains("max_locks_per_transaction"), "{said}");
    queue.run("DROP TRIGGER is_short ON market_data.btc_ticks");
    queue.run("SELECT btc_ingest.requeue_failed()");
    queue.wait_loaded(&short);
    queue.must_hold(&[short, others].concat());
}

#[test]
fn a_lack_of_resources_that_strikes_every_object_counts_against_none() {
    let mut queue = QueueFixture::new();
    queue.run(SHORT);
    let short = queue.register_slices("FULLUSDT", 0..2);
    for slice in &short {
        let tries = format!(
            "(SELECT count(*) > {MOST_ATTEMPTS} FROM ingestion.load_history
               WHERE s3_uri = '{}' AND outcome = 'failed' AND sqlstate = '53200')",
            slice.uri
        );
        queue.wait_for("more tries than an object has", &tries);
    }
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.objects WHERE status = 'quarantined'"), 0);
    queue.run("DROP TRIGGER is_short ON market_data.btc_ticks");
    queue.wait_loaded(&short);
    queue.must_hold(&short);
}

#[test]
fn a_sweep_of_more_objects_than_one_transaction_may_lock_ends_in_order() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    let slices = queue.register_slices("BTCUSDT", 0..60);
    // Other locks of the session stand for thousands of objects that it has loaded before.
    let mut sweeping = queue.session();
    let held = "BEGIN; SELECT count(pg_advisory_xact_lock(n)) FROM generate_series(1, 4500) AS n";
    sweeping.batch_execute(held).unwrap();
    let sql = "SELECT count(*) FROM btc_ingest.sweep() WHERE outcome = 'loaded'";
    let mut sweep = || -> i64 { sweeping.query_one(sql, &[]).unwrap().get(0) };
    let mut loaded = sweep();
    assert!(0 < loaded && loaded < 60, "{loaded}");
    assert_eq!(sweep(), 0);
    sweeping.batch_execute("COMMIT").unwrap();
    wait_until("the other objects", SOON, || {
        loaded += sweeping.query_one(sql, &[]).unwrap().get::<_, i64>(0);
        loaded == 60
    });
    queue.must_hold(&slices);
}
