//! Claims and places of workers are proved held before each load: code of the tables' owner may release them.

use btc_ingest_kit::sql::Session;

use crate::queue_fixture::QueueFixture;

/// Releases all advisory locks of the session at every result of a load and at every attempt.
const RELEASES: &str = "
    CREATE FUNCTION public.releases() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_unlock_all();
        RETURN NULL;
    END $$;
    CREATE TRIGGER releases AFTER INSERT ON ingestion.load_history
        FOR EACH ROW EXECUTE FUNCTION public.releases();
    CREATE TRIGGER releases AFTER UPDATE ON ingestion.objects
        FOR EACH ROW EXECUTE FUNCTION public.releases()";

/// Does the same when a load, and the record of its attempt, commit.
const RELEASES_AT_COMMIT: &str = "
    CREATE FUNCTION public.releases() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_unlock_all();
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER releases AFTER INSERT ON ingestion.load_history DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.releases();
    CREATE CONSTRAINT TRIGGER releases AFTER UPDATE ON ingestion.objects DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.releases();
    CREATE CONSTRAINT TRIGGER releases AFTER UPDATE ON ingestion.backfill_workers DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.releases()";

/// Every result, with how often it occurs.
const RESULTS: &str = "SELECT coalesce(string_agg(DISTINCT concat_ws(' ', outcome, sqlstate), ', '), 'none')
                         FROM ingestion.load_history";

/// Loaders of this database that do not hold the lock of their place.
const HOMELESS: &str = "SELECT count(*) FROM pg_stat_activity a
                         WHERE a.backend_type = 'btc_ingest loader' AND a.datname = current_database()
                           AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted
                                              AND l.locktype = 'advisory' AND l.objsubid = 21040 + 3)";

#[test]
fn claims_that_a_trigger_releases_are_taken_again_and_each_object_is_loaded_once() {
    for releases in [RELEASES, RELEASES_AT_COMMIT] {
        let mut queue = QueueFixture::with(&[("workers", "4")]);
        queue.run(releases);
        queue.run("SELECT btc_ingest.pause_ingest()");
        let slices = queue.register_slices("BTCUSDT", 0..80);
        queue.run("SELECT btc_ingest.resume_ingest()");
        queue.wait_loaded(&slices);
        assert_eq!(queue.text(RESULTS), "loaded");
        assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history"), 80);
        assert_eq!(queue.text("SELECT string_agg(DISTINCT attempts::text, ' ') FROM ingestion.objects"), "1");
        queue.must_hold(&slices);
    }
}

#[test]
fn a_loader_that_has_lost_its_place_takes_it_again_or_ends() {
    let mut queue = QueueFixture::with(&[("workers", "2"), ("poll_interval", "200ms")]);
    queue.run(RELEASES);
    let slices = queue.register_slices("BTCUSDT", 0..20);
    queue.wait_loaded(&slices);
    queue.wait_for("loaders at their places", &format!("({HOMELESS}) = 0"));
    let loaders = queue.pids("loader").len();
    assert!((1..=2).contains(&loaders), "{loaders} loaders");
    queue.must_hold(&slices);
}

#[test]
fn a_sweep_that_has_lost_its_claim_takes_it_again() {
    let mut queue = QueueFixture::with(&[("workers", "0")]);
    queue.run(RELEASES);
    let slices = queue.register_slices("BTCUSDT", 0..40);
    let connection = queue.db.connection_string();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let connection = &connection;
            scope.spawn(move || {
                let mut client = postgres::Client::connect(connection, postgres::NoTls).unwrap();
                client.batch_execute("CALL btc_ingest.run_sweep()").unwrap();
            });
        }
    });
    queue.run("CALL btc_ingest.run_sweep()");
    assert_eq!(queue.text(RESULTS), "loaded");
    assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history"), 40);
    queue.must_hold(&slices);
}

#[test]
fn a_backfills_workers_share_their_objects_also_if_a_trigger_releases_their_claims() {
    for releases in [RELEASES, RELEASES_AT_COMMIT] {
        let mut queue = QueueFixture::with(&[("workers", "0")]);
        queue.run(releases);
        let slices: Vec<_> = (0..60).map(|n| queue.put("BTCUSDT", n)).collect();
        let prefixes = [format!("s3://landing/{}/", queue.db.name())];
        let called = btc_ingest_kit::fixture::called::call(&queue.db.connection_string(), &prefixes, "parallel => 3");
        assert_eq!(called.refusal, None, "{called:#?}");
        assert_eq!(queue.text(RESULTS), "loaded");
        assert_eq!(queue.number("SELECT count(*) FROM ingestion.load_history"), 60);
        queue.must_hold(&slices);
    }
}
