//! DROP EXTENSION and CREATE EXTENSION.

use super::*;

#[test]
fn dropping_the_extension_leaves_all_data_and_creating_it_adopts_them() {
    let db = ServerFixture::shared().db();
    let (all, uris) = filled(&db);
    let mut client = db.client();
    let (sums, rows, before) = (stored(&mut client), records(&mut client), shape(&mut client));

    execute(&mut client, "DROP EXTENSION btc_ingest");
    assert_eq!(stored(&mut client), sums);
    must_be_equal(&records(&mut client), &rows, "records after DROP");
    let gone = |line: &&String| {
        line.starts_with("member ")
            || line.contains("btc_ingest_internal.registry_pending")
            || line.contains("btc_ingest_internal.registry_wake")
            || line.contains("btc_ingest_internal.gather_ids")
            || line.contains("btc_ingest_internal.retention_")
            || line.contains("btc_ingest_internal.staged_for_lease")
            || line.starts_with("grant function")
            || line.starts_with("schema btc_ingest")
            || line.starts_with("grant schema btc_ingest")
    };
    let wanted: Vec<String> = before.iter().filter(|line| !gone(line)).cloned().collect();
    assert!(wanted.iter().any(|line| line.starts_with("grant table market_data.btc_ticks")), "{wanted:#?}");
    must_be_equal(&shape(&mut client), &wanted, "after DROP");
    // Clients use the tables without the extension.
    execute(
        &mut client,
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2030-01-01', 'X', 'x');
         DELETE FROM landing.raw_blobs_5m WHERE asset = 'X'",
    );

    execute(&mut client, INSTALL);
    must_be_equal(&shape(&mut client), &before, "after CREATE");
    must_be_equal(&records(&mut client), &rows, "records after CREATE");
    for uri in &uris {
        assert_eq!(loaded(&mut client, uri, "").outcome, "already loaded");
    }
    let uri = put(&db, "fresh.parquet", &ticks(50_000_000, 10));
    assert_eq!(loaded(&mut client, &uri, "").inserted, 10);
    assert_eq!(stored(&mut client).rows, all.len() as i64 + 3 + 10);
}

#[test]
fn drop_extension_needs_no_cascade_and_timescaledb_cannot_be_dropped_before_it() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    refusal(&mut client, "DROP EXTENSION timescaledb", "2BP01");
    execute(&mut client, "DROP EXTENSION btc_ingest");
    assert_eq!(texts(&mut client, "SELECT to_regnamespace('btc_ingest')::text"), ["null"]);
    assert_eq!(texts(&mut client, "SELECT count(*)::text FROM pg_roles WHERE rolname LIKE 'btc_ingest%'"), ["4"]);
}

#[test]
fn migrate_twice_changes_nothing() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let (before, rows) = (shape(&mut client), records(&mut client));
    for _ in 0..2 {
        let answer = texts(&mut client, "SELECT btc_ingest.migrate()");
        assert_eq!(answer, [format!("schema version {SCHEMA_VERSION}; nothing was missing")]);
        must_be_equal(&shape(&mut client), &before, "after migrate()");
        must_be_equal(&records(&mut client), &rows, "after migrate()");
    }
}

#[test]
fn migrate_changes_no_row_of_a_chunk_whose_privileges_are_right() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let uri = put(&db, "a.parquet", &ticks(1, 10));
    loaded(&mut client, &uri, "");
    let chunk = texts(
        &mut client,
        "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
          WHERE hypertable_name = 'btc_ticks'",
    )
    .remove(0);
    // A row that is changed has another version, and autovacuum may hold a lock on it.
    let version = format!("SELECT ctid::text || xmin FROM pg_class WHERE oid = '{chunk}'::regclass");
    let before = texts(&mut client, &version);
    execute(&mut client, "SELECT btc_ingest.migrate()");
    assert_eq!(texts(&mut client, &version), before);
    // A privilege that a chunk lacks is granted all the same.
    execute(&mut client, &format!("REVOKE ALL ON {chunk} FROM btc_ingest_reader; SELECT btc_ingest.migrate()"));
    let granted = format!("SELECT has_table_privilege('btc_ingest_reader', '{chunk}', 'SELECT')::text");
    assert_eq!(texts(&mut client, &granted), ["true"]);
}

#[test]
fn two_databases_of_one_cluster_have_the_extension_side_by_side() {
    let server = ServerFixture::shared();
    let (one, two) = (server.db(), server.db());
    let uri = put(&one, "a.parquet", &ticks(1, 10));
    for db in [&one, &two] {
        assert_eq!(loaded(&mut db.client(), &uri, "").inserted, 10, "each database has its own state");
    }
    execute(&mut one.client(), "DROP EXTENSION btc_ingest");
    assert_eq!(loaded(&mut two.client(), &uri, "").outcome, "already loaded");
    let granted = "SELECT has_table_privilege('btc_ingest_reader', 'market_data.btc_ticks', 'SELECT')::text";
    assert_eq!(texts(&mut one.client(), granted), ["true"]);
    assert_eq!(texts(&mut two.client(), granted), ["true"]);
}

#[test]
fn a_role_of_ours_that_can_log_in_is_refused() {
    let cluster = Cluster::builder().start();
    let db = TestDb::new(&cluster);
    let mut client = db.client();
    execute(&mut client, "CREATE ROLE btc_ingest_loader LOGIN");
    let refused = refusal(&mut client, INSTALL, "42710");
    assert!(refused.hint.contains("ALTER ROLE btc_ingest_loader NOLOGIN"), "{refused:?}");
    execute(&mut client, "ALTER ROLE btc_ingest_loader NOLOGIN");
    execute(&mut client, INSTALL);
}

#[test]
fn extensions_in_other_schemas_are_found() {
    let server = ServerFixture::shared();
    let db = TestDb::new(&server.cluster);
    let mut client = db.client();
    execute(
        &mut client,
        "SET client_min_messages = warning; CREATE SCHEMA \"Time Scale\"; CREATE SCHEMA \"Vec tor\";
         CREATE EXTENSION timescaledb SCHEMA \"Time Scale\"; CREATE EXTENSION vector SCHEMA \"Vec tor\";
         CREATE EXTENSION btc_ingest",
    );
    let uri = put(&db, "a.parquet", &ticks(1, 10));
    assert_eq!(loaded(&mut client, &uri, "").inserted, 10);
    let kind = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute
                 WHERE attrelid = 'signals.btc_embeddings'::regclass AND attname = 'feature_vector'";
    assert_eq!(texts(&mut client, kind), ["\"Vec tor\".vector(256)"]);
    assert_eq!(
        texts(&mut client, "SELECT btc_ingest.migrate()"),
        [format!("schema version {SCHEMA_VERSION}; nothing was missing")]
    );
    execute(&mut client, "DROP EXTENSION btc_ingest");
    execute(&mut client, "CREATE EXTENSION btc_ingest");
    assert_eq!(loaded(&mut client, &uri, "").outcome, "already loaded");
}
