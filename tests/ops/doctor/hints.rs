//! Every hint of doctor() is SQL that is pasted as it is printed: it runs, and it mends.

use btc_ingest_kit::fixture::backfill::owned_by;
use btc_ingest_kit::fixture::{SCHEMA_VERSION, loaded};
use btc_ingest_kit::rows::ticks;
use btc_ingest_kit::sql::{execute, text};
use btc_ingest_kit::{ParquetFile, ServerFixture, TestDb};

use super::doctor_fixture::{Check, lines};

/// A fault that SQL makes and the hint alone mends: the name of the line, and the statements that make the fault.
const FAULTS: [(&str, &str); 19] = [
    ("queue", "SELECT btc_ingest.pause_ingest()"),
    ("indexes", "DROP INDEX landing.raw_blobs_5m_s3_uri_idx; DROP INDEX ingestion.objects_waiting_idx"),
    ("triggers", "ALTER TABLE landing.raw_blobs_5m DISABLE TRIGGER registry_wake"),
    ("triggers", "DROP TRIGGER registry_pending ON landing.raw_blobs_5m"),
    ("triggers", "DROP TRIGGER slices_added ON ingestion.object_slices"),
    ("triggers", "ALTER TABLE ingestion.object_slices DISABLE TRIGGER slices_removed"),
    ("privileges", "REVOKE EXECUTE ON FUNCTION btc_ingest.sweep(integer) FROM btc_ingest_loader"),
    ("privileges", "REVOKE SELECT ON btc_ingest.lag FROM btc_ingest_reader"),
    ("privileges", "REVOKE SELECT ON market_data.btc_ticks FROM btc_ingest_reader"),
    ("tables", "UPDATE ingestion.schema_version SET version = 4"),
    ("tables", "DROP TABLE landing.rejected_ticks"),
    ("tables", "ALTER TABLE ingestion.objects ENABLE ROW LEVEL SECURITY"),
    ("tables", "ALTER TABLE ingestion.objects OWNER TO btc_ingest_reader"),
    ("chunk interval", "SELECT set_chunk_time_interval('market_data.btc_ticks', interval '1 day')"),
    ("restore mode", "SELECT timescaledb_pre_restore()"),
    (
        "times of ticks",
        "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity)
         VALUES ('1971-01-01 00:00+00', '1971-01-01 00:00+00', 'BTCUSDT', 1, 1, 1)",
    ),
    (
        "backfills",
        "INSERT INTO ingestion.backfills (prefixes, status, sqlstate, message)
         VALUES ('{s3://landing/it''s empty/}', 'stopped', '53100', 'no space left on device')",
    ),
    (
        "watches",
        "SELECT btc_ingest.watch('s3://landing/it''s watched/');
         UPDATE ingestion.stream_offsets
            SET state = state || '{\"last\": {\"problem\": {\"sqlstate\": \"S3003\", \"message\": \"no bucket\"}}}'",
    ),
    (
        "hypertable",
        "CREATE TABLE market_data.other (LIKE market_data.btc_ticks INCLUDING DEFAULTS);
         SELECT create_hypertable('market_data.other', 'event_time', create_default_indexes => false);
         DROP TABLE market_data.btc_ticks; ALTER TABLE market_data.other RENAME TO btc_ticks",
    ),
];

/// Runs a hint as psql does that a superuser has pasted it into.
#[track_caller]
fn paste(db: &TestDb<'_>, hint: &str) {
    db.psql(hint).unwrap_or_else(|error| panic!("{hint}\n{error}"));
}

/// Returns the failing lines with this name, as a new session sees them.
fn failing(db: &TestDb<'_>, name: &str) -> Vec<Check> {
    let found = lines(&mut db.client(), "").into_iter();
    found.filter(|(other, check)| other == name && !check.ok).map(|(_, check)| check).collect()
}

#[track_caller]
fn must_be_mended(db: &TestDb<'_>, name: &str) {
    let found = failing(db, name);
    assert!(!found.is_empty(), "doctor() does not see it: {name}");
    found.iter().for_each(|check| paste(db, &check.hint));
    let left = failing(db, name);
    assert!(left.is_empty(), "{found:#?}\nwas pasted, and still: {left:#?}");
}

#[test]
fn every_hint_runs_as_it_is_printed_and_mends() {
    let server = ServerFixture::start();
    for (name, fault) in FAULTS {
        let db = server.db();
        assert_eq!(failing(&db, name), [], "{name} before");
        db.psql(&format!("SET client_min_messages = error; {fault};")).unwrap();
        must_be_mended(&db, name);
    }
}

#[test]
fn a_role_that_was_dropped_is_made_again_by_the_hint_with_all_privileges() {
    let server = ServerFixture::start();
    let db = server.db();
    let privileges = "SELECT string_agg(format('%s %s', p.oid::regprocedure,
                                    has_function_privilege('btc_ingest_loader', p.oid, 'EXECUTE')),
                                    E'\n' ORDER BY p.oid::regprocedure::text)
                        FROM pg_proc p WHERE p.pronamespace = 'btc_ingest'::regnamespace";
    let before = text(&mut db.client(), privileges);
    db.psql("DROP OWNED BY btc_ingest_loader; DROP ROLE btc_ingest_loader;").unwrap();
    must_be_mended(&db, "privileges");
    assert_eq!(text(&mut db.client(), privileges), before);
}

#[test]
fn hints_beside_what_is_well_run_as_well() {
    let server = ServerFixture::start();
    let db = server.db();
    for (name, check) in lines(&mut db.client(), "") {
        assert!(check.ok || name == "free disk", "{name}: {check:?}");
        paste(&db, &check.hint);
    }
    let found = lines(&mut db.client(), "");
    let preload = found.iter().find(|(name, _)| name == "preload btc_ingest").unwrap();
    assert_eq!(preload.1.detail, "preloaded", "its hint was pasted");
}

#[test]
fn the_hints_about_objects_mend_after_their_cause_is_fixed() {
    let server = ServerFixture::start();
    let db = server.db();
    let mut client = db.client();
    let good = ParquetFile::new().bytes(&ticks(1, 10));
    let (bad, gone) = (server.put("hints/bad.parquet", "no parquet"), "s3://landing/hints/gone.parquet");
    execute(
        &mut client,
        &format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
             VALUES ('2024-08-08T12:00:00Z', 'A', '{bad}'), ('2024-08-08T12:00:00Z', 'B', '{gone}');
             ALTER TABLE landing.raw_blobs_5m DISABLE TRIGGER registry_pending;
             INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
             VALUES ('2024-08-08T12:00:00Z', 'C', 's3://landing/' || repeat('x', 2000));
             ALTER TABLE landing.raw_blobs_5m ENABLE TRIGGER registry_pending"
        ),
    );
    // Without workers, the hint about the queue is a sweep.
    must_be_mended(&db, "queue");
    // One line per reason, each with an example.
    let details: Vec<String> = failing(&db, "quarantined").into_iter().map(|check| check.detail).collect();
    assert_eq!(details.len(), 2, "{details:?}");
    for (code, uri) in [("PQ00", bad.as_str()), ("S3004", gone)] {
        let said = |detail: &String| detail.starts_with(&format!("1 objects with {code}")) && detail.contains(uri);
        assert!(details.iter().any(said), "{code}: {details:?}");
    }
    let dead = failing(&db, "dead letters");
    assert!(
        dead[0].detail.starts_with("1 registry rows cannot be enqueued, the first in bucket 2024-08-08"),
        "{dead:?}"
    );
    must_be_mended(&db, "dead letters");

    server.put("hints/bad.parquet", good.clone());
    server.put("hints/gone.parquet", ParquetFile::new().bytes(&ticks(11, 10)));
    must_be_mended(&db, "quarantined");
    execute(&mut client, "SELECT btc_ingest.sweep()");
    assert_eq!(text(&mut client, "SELECT count(*)::text FROM market_data.btc_ticks"), "20");
}

#[test]
fn conflicts_and_rejected_rows_are_findings_since_a_time() {
    let server = ServerFixture::shared();
    let db = server.db();
    let mut client = db.client();
    let own = |key: &str| format!("{}/{key}.parquet", db.name());
    let mut other = ticks(1, 10);
    other[0].price += 1;
    let first = server.put(&own("first"), ParquetFile::new().bytes(&ticks(1, 10)));
    assert_eq!(loaded(&mut client, &first, "").inserted, 10);
    assert_eq!(failing(&db, "conflicts and rejects"), []);
    let second = server.put(&own("second"), ParquetFile::new().bytes(&other));
    execute(&mut client, "SET btc_ingest.max_conflict_fraction = 1");
    assert_eq!(loaded(&mut client, &second, "").conflicting, 1);
    let found = failing(&db, "conflicts and rejects");
    assert!(found[0].detail.starts_with("1 ticks conflict and 0 rows were rejected, in 1 loads since 20"), "{found:?}");
    assert!(found[0].detail.ends_with(&second), "{found:?}");
    assert!(db.psql(&found[0].hint).unwrap().contains(&second), "{found:?}");
    let later = lines(&mut client, "since => '0 s'");
    assert!(later.iter().all(|(name, check)| name != "conflicts and rejects" || check.ok), "{later:?}");
}

#[test]
fn for_an_owner_who_is_no_superuser_it_says_what_migrate_will_say_and_how_to_call_it_then() {
    let server = ServerFixture::shared();
    let db = server.db();
    let mut client = db.client();
    let of = |client: &mut _, name: &str| lines(client, "").into_iter().find(|(other, _)| other == name).unwrap().1;
    assert_eq!(of(&mut client, "migration").detail, "migrate() finds nothing to refuse");
    execute(&mut client, &owned_by("migration_owner"));
    let found = of(&mut client, "migration");
    let refusal = client.batch_execute("SELECT btc_ingest.migrate()").unwrap_err();
    let said = refusal.as_db_error().unwrap().message().to_owned();
    assert!(found.ok && found.detail == format!("migrate() will refuse: {said}"), "{found:?}\n{said}");

    execute(&mut client, &format!("UPDATE ingestion.schema_version SET version = {}", SCHEMA_VERSION - 1));
    must_be_mended(&db, "tables");
    let owners = "SELECT string_agg(DISTINCT relowner::regrole::text, ',') FROM pg_class
                   WHERE oid IN ('ingestion.objects'::regclass, 'market_data.btc_ticks'::regclass)";
    assert_eq!(text(&mut client, owners), "migration_owner");
}
