//! Schema versions and missing tables.

use btc_ingest_kit::sql::wait_until_true;

use super::*;

#[test]
fn tables_of_a_newer_schema_version_are_left_alone() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    let newer = SCHEMA_VERSION + 1;
    execute(&mut client, &format!("UPDATE ingestion.schema_version SET version = {newer}"));
    let migrate = refusal(&mut client, "SELECT btc_ingest.migrate()", "TK011");
    assert!(
        migrate.message.contains(&format!("version {newer}, this library knows only {SCHEMA_VERSION}"))
            && migrate.hint.contains("ALTER EXTENSION"),
        "{migrate:?}"
    );
    let load = refused(&mut client, &uri, "", "TK011");
    let expected = format!("have schema version {newer}, the library needs {SCHEMA_VERSION}");
    assert!(load.message.contains(&expected), "{load:?}");
    execute(&mut client, "DROP EXTENSION btc_ingest");
    refusal(&mut client, INSTALL, "TK011");
    execute(&mut client, "UPDATE ingestion.schema_version SET version = 1");
    execute(&mut client, INSTALL);
    assert_eq!(loaded(&mut client, &uri, "").inserted, 5);
}

#[test]
fn tables_of_version_1_get_what_version_2_added_and_keep_their_rows() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    assert_eq!(loaded(&mut client, &uri, "").inserted, 5);
    execute(
        &mut client,
        "UPDATE ingestion.schema_version SET version = 1;
         DROP TABLE ingestion.backfill_chunks, ingestion.backfill_workers, ingestion.control;
         ALTER TABLE ingestion.objects DROP COLUMN listed_etag, DROP COLUMN listed_size, DROP COLUMN backfill,
             DROP COLUMN span_from, DROP COLUMN span_to, DROP COLUMN rows_staged;
         ALTER TABLE ingestion.backfills DROP COLUMN bytes_total, DROP COLUMN objects_known, DROP COLUMN requested_by,
             DROP COLUMN sqlstate, DROP COLUMN message",
    );
    // The guard finds missing tables before it reads the version; the hint is the same.
    assert!(refused(&mut client, &uri, "", "TK009").hint.contains("SELECT btc_ingest.migrate()"));
    execute(&mut client, "SELECT btc_ingest.migrate()");
    assert_eq!(loaded(&mut client, &uri, "").outcome, "already loaded");
    let call = format!("CALL btc_ingest.backfill(ARRAY['{uri}'])");
    execute(&mut client, &call);
    let status = "SELECT format('%s %s %s', status, objects_total, objects_known) FROM btc_ingest.backfill_status()";
    assert_eq!(texts(&mut client, status), ["done 1 1"]);
}

#[test]
fn tables_of_version_2_get_what_version_3_added_and_their_pending_rows_are_loaded_by_a_sweep() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let (old, new) = (ticks(1, 5), ticks(50_000_000, 5));
    let (done, waiting) = (put(&db, "a.parquet", &old), put(&db, "b.parquet", &new));
    assert_eq!(loaded(&mut client, &done, "").inserted, 5);
    let wanted = shape(&mut client);
    // As version 2 left them: a producer's row waits, and no process has looked at it.
    execute(
        &mut client,
        "UPDATE ingestion.schema_version SET version = 2;
         DROP INDEX landing.raw_blobs_5m_unqueued_idx, ingestion.objects_due_idx;
         DROP TRIGGER registry_wake ON landing.raw_blobs_5m;
         CREATE INDEX objects_live_idx ON ingestion.objects (registered_at, s3_uri)
             WHERE status = 'pending' AND backfill IS NULL;
         ALTER TABLE landing.raw_blobs_5m DISABLE TRIGGER registry_pending, DROP COLUMN queued_at,
             DROP COLUMN registered_at",
    );
    client
        .execute(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
             VALUES ('2024-08-08T12:05:00Z', 'ETHUSDT', $1)",
            &[&waiting],
        )
        .unwrap();
    execute(&mut client, "ALTER TABLE landing.raw_blobs_5m ENABLE TRIGGER registry_pending");
    refusal(&mut client, "SELECT btc_ingest.sweep()", "TK011");

    execute(&mut client, "SELECT btc_ingest.migrate()");
    must_be_equal(&shape(&mut client), &wanted, "after migrate()");
    let swept = "SELECT format('%s %s %s', uri = $1, outcome, rows_inserted) FROM btc_ingest.sweep()"
        .replace("$1", &format!("'{waiting}'"));
    assert_eq!(texts(&mut client, &swept), ["t loaded 5"]);
    assert_eq!(stored(&mut client).rows, 10);
    assert_eq!(texts(&mut client, &swept), [] as [String; 0]);
}

#[test]
fn tables_of_version_3_get_the_names_of_version_4_and_keep_their_backfills() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    execute(&mut client, &format!("CALL btc_ingest.backfill(ARRAY['{uri}'])"));
    // One that looks once more would read the old names.
    let gone = "NOT EXISTS (SELECT FROM pg_stat_activity
                             WHERE backend_type = 'btc_ingest backfill' AND datname = current_database())";
    wait_until_true(&mut client, "the end of the workers", gone);
    let wanted = shape(&mut client);
    execute(
        &mut client,
        "UPDATE ingestion.schema_version SET version = 3;
         ALTER TABLE ingestion.backfills ALTER COLUMN mode SET DEFAULT 'slice', DROP CONSTRAINT backfills_mode_check;
         UPDATE ingestion.backfills SET mode = 'slice';
         ALTER TABLE ingestion.backfill_chunks DROP CONSTRAINT backfill_chunks_status_check,
             ADD CONSTRAINT backfill_chunks_status_check CHECK (status IN ('pending', 'attached', 'slices', 'done'));
         INSERT INTO ingestion.backfill_chunks (backfill, chunk_from, chunk_to, status)
         SELECT id, '2024-08-08', '2024-08-15', 'slices' FROM ingestion.backfills",
    );
    execute(&mut client, "SELECT btc_ingest.migrate()");
    must_be_equal(&shape(&mut client), &wanted, "after migrate()");
    assert_eq!(texts(&mut client, "SELECT mode FROM ingestion.backfills"), ["object"]);
    assert_eq!(texts(&mut client, "SELECT status FROM ingestion.backfill_chunks"), ["objects"]);
}

#[test]
fn tables_of_version_4_get_what_version_5_added_and_their_wrong_registrations_are_named() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    assert_eq!(loaded(&mut client, &uri, "").inserted, 5);
    let wanted = shape(&mut client);
    // As version 4 left it: a row for a bucket of which the object holds no tick is loaded.
    execute(
        &mut client,
        "UPDATE ingestion.schema_version SET version = 4;
         DROP TABLE ingestion.outages, ingestion.candles;
         DROP INDEX landing.raw_blobs_5m_empty_idx, ingestion.objects_conflicts_idx;
         ALTER TABLE ingestion.objects DROP COLUMN queued_at, DROP COLUMN watch;
         ALTER TABLE landing.raw_blobs_5m DROP COLUMN registered_at, DROP CONSTRAINT raw_blobs_5m_status_check,
             ADD CONSTRAINT raw_blobs_5m_status_check
                 CHECK (status IN ('pending', 'loaded', 'failed', 'quarantined', 'skipped'))",
    );
    let wrong = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, status)
                 VALUES ('2031-01-01T00:00:00Z', 'BTCUSDT', $1, 'loaded')";
    client.execute(wrong, &[&uri]).unwrap();
    execute(&mut client, "SELECT btc_ingest.migrate()");
    must_be_equal(&shape(&mut client), &wanted, "after migrate()");
    let statuses = "SELECT to_char(bucket_5m, 'YYYY ') || status FROM landing.raw_blobs_5m ORDER BY 1";
    assert_eq!(texts(&mut client, statuses), ["2024 loaded", "2031 empty"]);
}

#[test]
fn tables_of_version_4_get_the_columns_of_version_5_and_their_objects_the_order_of_loads() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let wrong = ticks(1, 20);
    let right: Vec<_> = wrong[..1].iter().map(|tick| but(tick, |tick| tick.price += 1)).collect();
    let uris = [put(&db, "z.parquet", &wrong), put(&db, "y.parquet", &right), put(&db, "a.parquet", &ticks(100, 3))];
    loaded(&mut client, &uris[0], "");
    execute(&mut client, "SET btc_ingest.max_conflict_fraction = 1");
    loaded(&mut client, &uris[1], r#"options => '{"on_conflict": "replace"}'"#);
    loaded(&mut client, &uris[2], "");
    let wanted = shape(&mut client);
    execute(
        &mut client,
        "UPDATE ingestion.schema_version SET version = 4;
         ALTER TABLE ingestion.objects DROP COLUMN on_conflict, DROP COLUMN load_order, DROP COLUMN reload;
         ALTER TABLE ingestion.backfills DROP COLUMN force;
         UPDATE ingestion.objects SET rows_read = rows_read WHERE s3_uri LIKE '%z.parquet'",
    );
    execute(&mut client, "SELECT btc_ingest.migrate()");
    must_be_equal(&shape(&mut client), &wanted, "after migrate()");
    let places = "SELECT regexp_replace(s3_uri, '.*/', '') || ' ' || on_conflict
                    FROM ingestion.objects ORDER BY load_order";
    assert_eq!(texts(&mut client, places), ["z.parquet keep", "y.parquet replace", "a.parquet keep"]);
    execute(&mut client, "SELECT * FROM btc_ingest.reload_slice('BTCUSDT', '2024-08-08 12:00+00')");
    must_hold(&mut client, right.iter().chain(&wrong[1..]).chain(&ticks(100, 3)));
    let next = put(&db, "0.parquet", &ticks(200, 3));
    loaded(&mut client, &next, "");
    assert_eq!(texts(&mut client, places).last().unwrap(), "0.parquet keep");
}

#[test]
fn slices_of_version_4_have_no_gaps_of_their_own() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let all = ticks(1, 30);
    assert_eq!(loaded(&mut client, &put(&db, "a.parquet", &all[..10]), "").inserted, 10);
    let wanted = shape(&mut client);
    execute(
        &mut client,
        "UPDATE ingestion.schema_version SET version = 4;
         DROP TABLE ingestion.gap_notes, ingestion.assets, ingestion.verifications, ingestion.verification_findings;
         DROP INDEX ingestion.object_slices_asset_first_trade_id_idx;
         ALTER TABLE ingestion.object_slices DROP COLUMN ids, DROP COLUMN missing_ids, DROP COLUMN out_of_order,
             DROP COLUMN max_time_skew, DROP COLUMN skewed, DROP COLUMN duplicates, DROP COLUMN conflicts,
             DROP COLUMN unregistered, DROP COLUMN first_seen",
    );
    execute(&mut client, "SELECT btc_ingest.migrate()");
    must_be_equal(&shape(&mut client), &wanted, "after migrate()");
    let gaps = "SELECT format('%s-%s', first_trade_id, last_trade_id) FROM btc_ingest.gaps";
    assert_eq!(texts(&mut client, gaps), [] as [String; 0]);
    loaded(&mut client, &put(&db, "b.parquet", &all[20..]), "");
    assert_eq!(texts(&mut client, gaps), ["11-20"]);
}

#[test]
fn tables_of_version_5_get_the_ids_of_their_slices_gathered() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let all = ticks(1, 30);
    loaded(&mut client, &put(&db, "a.parquet", &all[..10]), "");
    let wanted = shape(&mut client);
    execute(
        &mut client,
        "UPDATE ingestion.schema_version SET version = 5; DROP TABLE ingestion.id_sets;
         DROP TRIGGER slices_added ON ingestion.object_slices;
         DROP TRIGGER slices_changed ON ingestion.object_slices;
         DROP TRIGGER slices_removed ON ingestion.object_slices;
         DROP TRIGGER slices_truncated ON ingestion.object_slices",
    );
    execute(&mut client, "SELECT btc_ingest.migrate()");
    must_be_equal(&shape(&mut client), &wanted, "after migrate()");
    loaded(&mut client, &put(&db, "b.parquet", &all[20..]), "");
    let gaps = "SELECT format('%s-%s', first_trade_id, last_trade_id) FROM btc_ingest.gaps";
    assert_eq!(texts(&mut client, gaps), ["11-20"]);
}

#[test]
fn outages_of_version_6_get_the_time_of_their_end() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let wanted = shape(&mut client);
    execute(
        &mut client,
        "UPDATE ingestion.schema_version SET version = 6; ALTER TABLE ingestion.outages DROP COLUMN ended_at;
         INSERT INTO ingestion.outages (prefix, sqlstate, message, s3_uri)
         VALUES ('s3://a/', 'S3009', '503', 's3://a/b')",
    );
    execute(&mut client, "SELECT btc_ingest.migrate()");
    must_be_equal(&shape(&mut client), &wanted, "after migrate()");
    assert_eq!(texts(&mut client, "SELECT prefix FROM btc_ingest.outages"), ["s3://a/"]);
}

#[test]
fn tables_of_a_newer_schema_version_need_a_newer_library_says_doctor() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    execute(&mut client, &format!("UPDATE ingestion.schema_version SET version = {}", SCHEMA_VERSION + 1));
    let said = "SELECT concat_ws(' ', ok, hint) FROM btc_ingest.doctor() WHERE name = 'tables'";
    let hint = texts(&mut client, said).remove(0);
    assert!(hint.starts_with("f -- Install the newer btc_ingest") && !hint.contains("migrate()"), "{hint}");
    assert_eq!(refused(&mut client, "s3://landing/a", "", "TK011").hint, hint.trim_start_matches("f -- "));
}

#[test]
fn tables_of_an_older_schema_version_are_migrated_before_they_are_loaded() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    for sql in ["UPDATE ingestion.schema_version SET version = 0", "DELETE FROM ingestion.schema_version"] {
        execute(&mut client, sql);
        let refused = refused(&mut client, &uri, "", "TK011");
        assert!(refused.hint.contains("SELECT btc_ingest.migrate();"), "{refused:?}");
        execute(&mut client, "SELECT btc_ingest.migrate()");
        let version = texts(&mut client, "SELECT version::text FROM ingestion.schema_version");
        assert_eq!(version, [SCHEMA_VERSION.to_string()]);
    }
    execute(&mut client, "DROP TABLE ingestion.schema_version");
    refused(&mut client, &uri, "", "TK009");
    execute(&mut client, "SELECT btc_ingest.migrate()");
    assert_eq!(loaded(&mut client, &uri, "").inserted, 5);
}

#[test]
fn a_missing_table_is_named_and_migrate_makes_it_again() {
    for table in [
        "ingestion.load_history",
        "ingestion.objects",
        "ingestion.object_slices",
        "landing.rejected_ticks",
        "landing.raw_blobs_5m",
    ] {
        let db = ServerFixture::shared().db();
        let mut client = db.client();
        let uri = put(&db, "a.parquet", &ticks(1, 5));
        let before = shape(&mut client);
        execute(&mut client, &format!("DROP TABLE {table}"));
        let refused = refused(&mut client, &uri, "", "TK009");
        assert!(refused.message.contains(&format!("missing: {table}")), "{refused:?}");
        assert!(refused.hint.contains("btc_ingest.migrate()"), "{refused:?}");
        let answer = texts(&mut client, "SELECT btc_ingest.migrate()");
        assert!(answer[0].contains(table), "{answer:?}");
        must_be_equal(&shape(&mut client), &before, table);
        assert_eq!(loaded(&mut client, &uri, "").inserted, 5);
    }
}

#[test]
fn ticks_that_are_no_hypertable_are_refused_and_migrate_fixes_it() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    execute(
        &mut client,
        "CREATE TABLE market_data.plain (LIKE market_data.btc_ticks INCLUDING ALL); DROP TABLE market_data.btc_ticks;
         ALTER TABLE market_data.plain RENAME TO btc_ticks",
    );
    let refused = refused(&mut client, &uri, "", "TK009");
    assert!(refused.message.contains("not a hypertable"), "{refused:?}");
    execute(&mut client, "SET client_min_messages = warning; SELECT btc_ingest.migrate()");
    assert_eq!(loaded(&mut client, &uri, "").inserted, 5);
}

#[test]
fn a_database_that_is_not_utf8_is_refused_at_install_and_at_a_load_and_doctor_says_so() {
    let server = ServerFixture::shared();
    let host = server.db();
    let mut admin = host.client();
    let name = "latin1_database";
    execute(
        &mut admin,
        &format!("CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"),
    );
    let mut latin = server.cluster.client(name);
    let refused_install = refusal(&mut latin, INSTALL, "TK021");
    assert_eq!(refused_install.message, "the database has encoding LATIN1, and btc_ingest needs UTF8");
    assert!(refused_install.hint.contains("ENCODING 'UTF8'"), "{refused_install:?}");
    drop(latin);
    execute(&mut admin, &format!("DROP DATABASE {name}"));

    // A database in which the extension was installed nevertheless.
    let db = server.db();
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    let sql =
        format!("UPDATE pg_database SET encoding = pg_char_to_encoding('LATIN1') WHERE datname = '{}'", db.name());
    execute(&mut admin, &sql);
    let mut client = db.client();
    let load = refused(&mut client, &uri, "", "TK021");
    assert!(load.message.ends_with("the database has encoding LATIN1, and btc_ingest needs UTF8"), "{load:?}");
    let said = r#"SELECT ok || ' ' || detail FROM btc_ingest.doctor() WHERE name = 'encoding'"#;
    assert_eq!(texts(&mut client, said), ["false the database has encoding LATIN1, and btc_ingest needs UTF8"]);
    refusal(&mut client, "SELECT btc_ingest.migrate()", "TK021");
}

#[test]
fn tables_of_version_7_get_the_columns_of_vectors_and_keep_those_that_others_wrote() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let wanted = shape(&mut client);
    execute(
        &mut client,
        "UPDATE ingestion.schema_version SET version = 7;
         ALTER TABLE signals.btc_embeddings DROP COLUMN feature_version, DROP COLUMN ticks, DROP COLUMN labelled_to;
         INSERT INTO signals.btc_embeddings (bucket, exchange, feature_vector)
         VALUES ('2024-08-08T12:00:00Z', 'kraken', array_fill(0.5, ARRAY[256])::vector)",
    );
    refusal(&mut client, "SELECT btc_ingest.embed('2024-08-08', '2024-08-09')", "TK011");
    execute(&mut client, "SELECT btc_ingest.migrate()");
    must_be_equal(&shape(&mut client), &wanted, "after migrate()");
    let rows = "SELECT concat_ws(' ', exchange, feature_version, ticks) FROM signals.btc_embeddings";
    assert_eq!(texts(&mut client, rows), ["kraken external"]);
}

#[test]
fn tables_of_version_9_get_those_of_work_units() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    assert_eq!(loaded(&mut client, &uri, "").inserted, 5);
    let wanted = shape(&mut client);
    execute(
        &mut client,
        "UPDATE ingestion.schema_version SET version = 9;
         DROP TABLE ingestion.work_units, ingestion.staged_slices, ingestion.staged_candles, ops.slice_digests,
                    ops.slice_candles",
    );
    let refused = refusal(&mut client, "SELECT * FROM btc_ingest.work_units('2024-08-08', '2024-08-09')", "TK009");
    assert!(refused.hint.contains("SELECT btc_ingest.migrate()"), "{refused:?}");
    execute(&mut client, "SELECT btc_ingest.migrate()");
    must_be_equal(&shape(&mut client), &wanted, "after migrate()");
    let units = "SELECT concat_ws(' ', asset, slices, ticks) FROM btc_ingest.work_units('2024-08-08', '2024-08-09')";
    assert_eq!(texts(&mut client, units), ["BTCUSDT 1 5"]);
}
