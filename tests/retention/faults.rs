//! A server that is killed between the proof of a chunk and its drop, and between the drop and its record.

use btc_ingest_kit::ServerFixture;
use btc_ingest_kit::fixture::must_hold_sums;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::wait::{SOON, wait_until};

use crate::retention_fixture::{DROPPED, RUN, RetentionFixture};

/// Makes a session wait where a row of a table is written: for a lock that the test holds.
fn stop_at(fixture: &mut RetentionFixture, event: &str, table: &str) {
    fixture.run(&format!(
        "CREATE TABLE public.stop ();
         CREATE FUNCTION public.stop_here() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
         $$ BEGIN LOCK TABLE public.stop IN ACCESS EXCLUSIVE MODE; RETURN NULL; END $$;
         CREATE TRIGGER stop_here AFTER {event} ON {table} FOR EACH ROW EXECUTE FUNCTION public.stop_here()"
    ));
}

fn killed_at(event: &str, table: &str) {
    let server: &'static ServerFixture = Box::leak(Box::new(ServerFixture::start()));
    let mut fixture = RetentionFixture::of(server);
    let weeks = fixture.load_weeks(0..1);
    fixture.drop_before(1);
    stop_at(&mut fixture, event, table);
    let mut holder = fixture.db.client();
    holder.batch_execute("BEGIN; LOCK TABLE public.stop IN ACCESS SHARE MODE").unwrap();
    let heads = server.s3.count("HEAD");
    let mut runner = fixture.db.client();
    let run = std::thread::spawn(move || runner.batch_execute(RUN).is_err());
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'public.stop'::regclass";
    wait_until("the run to come there", SOON, || fixture.number(waits) == 1);
    // The proof is done and committed, and the chunk is locked for its drop.
    assert_eq!(fixture.number("SELECT count(*) FROM ops.retention_checks WHERE proven_at IS NOT NULL"), 1);
    assert_eq!(server.s3.count("HEAD"), heads + 1);
    let locked = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                   WHERE l.mode = 'AccessExclusiveLock' AND l.granted AND c.relname ~ '^_hyper_.*_chunk$'";
    assert_eq!(fixture.number(locked), 1);
    server.cluster.kill();
    assert!(run.join().unwrap(), "the run is ended by the kill");
    server.cluster.start();
    fixture.client = fixture.db.client();
    must_hold_sums(&mut fixture.client, &weeks[0]);
    assert_eq!(fixture.lines(DROPPED), [""; 0], "nothing is claimed");
    fixture.run(&format!("DROP TRIGGER stop_here ON {table}"));
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), [""; 0]);
    assert_eq!(fixture.lines(DROPPED), [format!("2024-08-08 BTCUSDT {} 1", weeks[0].len())]);
}

#[test]
fn a_kill_between_proof_and_drop_loses_nothing_and_claims_nothing() {
    killed_at("INSERT", "ops.dropped_ranges");
}

#[test]
fn a_kill_between_drop_and_record_loses_nothing_and_claims_nothing() {
    // The last statement of the transaction: the chunk is dropped and recorded, and nothing is committed.
    killed_at("DELETE", "ops.retention_checks");
}
