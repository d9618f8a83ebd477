//! Dump and restore, DROP and CREATE again, adoption of tables that stood already, and what refuses to be adopted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use btc_ingest_tests::dump::{copy, dump, restore};
use btc_ingest_tests::rows::{must_hold, ticks};
use btc_ingest_tests::stand::{Refusal, loaded, refused, stored};
use btc_ingest_tests::ticks::{Tick, time_us};
use btc_ingest_tests::{Cluster, Generator, ParquetFile, Stand, TestDb};
use postgres::Client;

const INSTALL: &str = "SET client_min_messages = warning; CREATE EXTENSION btc_ingest CASCADE";

#[track_caller]
fn texts(client: &mut Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".to_owned())).collect()
}

#[track_caller]
fn execute(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

#[track_caller]
fn refusal(client: &mut Client, sql: &str, sqlstate: &str) -> Refusal {
    let refusal = Refusal::from(client.batch_execute(sql).expect_err("a refusal"));
    assert_eq!(refusal.sqlstate, sqlstate, "{refusal:?}");
    refusal
}

fn put(db: &TestDb<'_>, key: &str, ticks: &[Tick]) -> String {
    Stand::shared().put(&format!("{}/{key}", db.name()), ParquetFile::new().bytes(ticks))
}

/// Everything about our tables that a person could miss: columns, keys, indexes, triggers, owners, grants, comments.
fn shape(client: &mut Client) -> Vec<String> {
    texts(
        client,
        r"WITH spaces AS (
              SELECT * FROM pg_namespace WHERE nspname IN ('landing', 'market_data', 'signals', 'ingestion', 'ops', 'btc_ingest')
          ), tables AS (
              SELECT c.* FROM pg_class c WHERE c.relnamespace IN (SELECT oid FROM spaces) AND c.relkind = 'r'
              UNION
              SELECT c.* FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
               WHERE i.inhparent = to_regclass('market_data.btc_ticks')
          ), acl AS (
              SELECT 'schema ' || nspname AS what, nspacl AS acl FROM spaces
              UNION ALL SELECT 'table ' || oid::regclass, relacl FROM tables
              UNION ALL SELECT 'function ' || oid::regprocedure, proacl FROM pg_proc WHERE pronamespace IN (SELECT oid FROM spaces)
          )
          SELECT line FROM (
              SELECT concat_ws(' ', 'column', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
                               a.attnotnull, a.attidentity, a.attcollation::regcollation,
                               pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)) AS line
                FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
               WHERE a.attrelid IN (SELECT oid FROM tables) AND a.attnum > 0 AND NOT a.attisdropped
              UNION ALL
              SELECT concat_ws(' ', 'constraint', conrelid::regclass, pg_get_constraintdef(oid))
                FROM pg_constraint WHERE conrelid IN (SELECT oid FROM tables)
              UNION ALL
              SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN (SELECT oid FROM tables)
              UNION ALL
              SELECT concat_ws(' ', pg_get_triggerdef(t.oid), (
                         SELECT 'depends on ' || extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                          WHERE d.objid = t.oid AND d.deptype = 'x'))
                FROM pg_trigger t WHERE t.tgrelid IN (SELECT oid FROM tables) AND NOT t.tgisinternal
              UNION ALL
              SELECT concat_ws(' ', 'table', oid::regclass, relowner::regrole, obj_description(oid, 'pg_class')) FROM tables
              UNION ALL
              SELECT concat_ws(' ', 'schema', nspname, nspowner::regrole, obj_description(oid, 'pg_namespace')) FROM spaces
              UNION ALL
              SELECT concat_ws(' ', 'grant', what, g.grantor::regrole, g.grantee::regrole, g.privilege_type, g.is_grantable)
                FROM acl, aclexplode(acl.acl) AS g
              UNION ALL
              SELECT concat_ws(' ', 'member', pg_describe_object(classid, objid, objsubid))
                FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
                 AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'btc_ingest')
              UNION ALL
              SELECT concat_ws(' ', 'dimension', hypertable_name, column_name, time_interval)
                FROM timescaledb_information.dimensions
          ) AS all_of_it ORDER BY line COLLATE pg_catalog.default",
    )
}

#[track_caller]
fn must_be_equal(found: &[String], wanted: &[String], what: &str) {
    let missing: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).collect();
    let extra: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "{what}: missing {missing:#?}, too many {extra:#?}");
}

/// Every row of the tables beside the ticks.
fn books(client: &mut Client) -> Vec<String> {
    let tables = [
        "landing.raw_blobs_5m",
        "landing.rejected_ticks",
        "ingestion.objects",
        "ingestion.object_slices",
        "ingestion.load_history",
        "ingestion.stream_offsets",
        "ingestion.schema_version",
        "ops.retention_jobs",
        "signals.btc_embeddings",
    ];
    tables
        .iter()
        .flat_map(|table| texts(client, &format!("SELECT '{table} ' || t::text FROM {table} t ORDER BY 1")))
        .collect()
}

/// Some weeks of ticks, so that there are several chunks, and rows in every other table.
fn filled(db: &TestDb<'_>) -> (Vec<Tick>, Vec<String>) {
    let mut client = db.client();
    let mut all = Vec::new();
    let mut uris = Vec::new();
    for (n, day) in ["2024-08-01", "2024-08-08", "2024-08-15"].iter().enumerate() {
        let start = time_us(&format!("{day}T12:00:00Z"));
        let ticks = Generator::new(n as u64, "BTCUSDT", start, 1 + 1_000_000 * n as i64).per_second(2.0).next_slices(2);
        let uri = put(db, &format!("Binance/BTCUSDT/{n}.parquet"), &ticks);
        loaded(&mut client, &uri, "");
        all.extend(ticks);
        uris.push(uri);
    }
    let bad = Stand::shared()
        .put(&format!("{}/bad.parquet", db.name()), ParquetFile::new().null("price", &[3]).bytes(&ticks(1, 10)[..4]));
    loaded(&mut client, &bad, r#"on_bad_row => 'reject', options => '{"symbol": "BAD"}'"#);
    execute(
        &mut client,
        r#"INSERT INTO signals.btc_embeddings (bucket, exchange, feature_vector)
               VALUES ('2024-08-08T12:00:00Z', 'binance', array_fill(0.5::real, ARRAY[256])::vector);
           INSERT INTO ops.retention_jobs (job_name, hypertable, policy) VALUES ('j', 'market_data.btc_ticks', '{}')"#,
    );
    (all, uris)
}

/// Restores a dump and proves that the copy is equal and works.
#[track_caller]
fn must_survive_a_dump(db: &TestDb<'_>, format: &str, loaded_uri: &str, what: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("dump");
    dump(db, format, &file);
    let copy = TestDb::new(&Stand::shared().cluster);
    restore(&copy, format, &file);

    let (mut old, mut new) = (db.client(), copy.client());
    assert_eq!(stored(&mut new), stored(&mut old), "{what}: sums");
    must_be_equal(&shape(&mut new), &shape(&mut old), what);
    must_be_equal(&books(&mut new), &books(&mut old), what);
    assert_eq!(texts(&mut new, "SELECT pg_relation_size('market_data.btc_ticks')::text"), ["0"], "{what}: the root");

    // It works: what was loaded is known, what is new is loaded, a producer's row is pending, ids go on.
    assert_eq!(loaded(&mut new, loaded_uri, "").outcome, "already loaded", "{what}");
    let before = stored(&mut new).rows;
    let fresh = Generator::new(9, "BTCUSDT", time_us("2024-09-08T12:00:00Z"), 900_000_000).per_second(1.0).next_slice();
    let uri = put(&copy, "fresh.parquet", &fresh);
    let report = loaded(&mut new, &uri, "");
    assert_eq!(report.inserted, fresh.len() as i64, "{what}");
    assert_eq!(stored(&mut new).rows, before + report.inserted, "{what}");
    let forced = loaded(&mut new, loaded_uri, "force => true");
    assert_eq!((forced.inserted, forced.duplicate), (0, forced.read), "{what}");
    let status =
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES (now(), 'X', 'x') RETURNING status";
    assert_eq!(texts(&mut new, status), ["pending"]);
    let answer = texts(&mut new, "SELECT btc_ingest.migrate()");
    assert!(answer[0].ends_with("nothing was missing"), "{what}: {answer:?}");
}

// ── dump and restore ────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_dump_in_custom_format_restores_by_timescales_procedure() {
    let db = Stand::shared().db();
    let (_, uris) = filled(&db);
    must_survive_a_dump(&db, "c", &uris[0], "custom format");
}

#[test]
fn a_plain_dump_restores_by_timescales_procedure() {
    let db = Stand::shared().db();
    let (_, uris) = filled(&db);
    must_survive_a_dump(&db, "p", &uris[0], "plain format");
}

#[test]
fn a_dump_of_a_restored_database_restores_too() {
    let db = Stand::shared().db();
    let (_, uris) = filled(&db);
    must_survive_a_dump(&copy(&db), "c", &uris[0], "second generation");
}

#[test]
fn a_database_whose_extension_was_created_again_survives_a_dump() {
    let db = Stand::shared().db();
    let (_, uris) = filled(&db);
    let mut client = db.client();
    let before = shape(&mut client);
    execute(&mut client, "DROP EXTENSION btc_ingest");
    execute(&mut client, INSTALL);
    must_be_equal(&shape(&mut client), &before, "after DROP and CREATE");
    must_survive_a_dump(&db, "c", &uris[0], "created again");
}

// ── DROP and CREATE ─────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn dropping_the_extension_leaves_all_data_and_creating_it_adopts_them() {
    let db = Stand::shared().db();
    let (all, uris) = filled(&db);
    let mut client = db.client();
    let (sums, rows, before) = (stored(&mut client), books(&mut client), shape(&mut client));

    execute(&mut client, "DROP EXTENSION btc_ingest");
    assert_eq!(stored(&mut client), sums);
    must_be_equal(&books(&mut client), &rows, "books after DROP");
    let gone = |line: &&String| {
        line.starts_with("member ")
            || line.contains("btc_ingest.registry_pending")
            || line.contains("btc_ingest.registry_wake")
            || line.starts_with("grant function")
            || line.starts_with("schema btc_ingest")
            || line.starts_with("grant schema btc_ingest")
    };
    let wanted: Vec<String> = before.iter().filter(|line| !gone(line)).cloned().collect();
    assert!(wanted.iter().any(|line| line.starts_with("grant table market_data.btc_ticks")), "{wanted:#?}");
    must_be_equal(&shape(&mut client), &wanted, "after DROP");
    // Life goes on without it.
    execute(
        &mut client,
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2030-01-01', 'X', 'x');
         DELETE FROM landing.raw_blobs_5m WHERE asset = 'X'",
    );

    execute(&mut client, INSTALL);
    must_be_equal(&shape(&mut client), &before, "after CREATE");
    must_be_equal(&books(&mut client), &rows, "books after CREATE");
    for uri in &uris {
        assert_eq!(loaded(&mut client, uri, "").outcome, "already loaded");
    }
    let uri = put(&db, "fresh.parquet", &ticks(50_000_000, 10));
    assert_eq!(loaded(&mut client, &uri, "").inserted, 10);
    assert_eq!(stored(&mut client).rows, all.len() as i64 + 3 + 10);
}

#[test]
fn drop_extension_needs_no_cascade_and_timescaledb_cannot_be_dropped_before_it() {
    let db = Stand::shared().db();
    let mut client = db.client();
    refusal(&mut client, "DROP EXTENSION timescaledb", "2BP01");
    execute(&mut client, "DROP EXTENSION btc_ingest");
    assert_eq!(texts(&mut client, "SELECT to_regnamespace('btc_ingest')::text"), ["null"]);
    assert_eq!(texts(&mut client, "SELECT count(*)::text FROM pg_roles WHERE rolname LIKE 'btc_ingest%'"), ["3"]);
}

#[test]
fn migrate_twice_changes_nothing() {
    let db = Stand::shared().db();
    let mut client = db.client();
    let (before, rows) = (shape(&mut client), books(&mut client));
    for _ in 0..2 {
        let answer = texts(&mut client, "SELECT btc_ingest.migrate()");
        assert_eq!(answer, ["schema version 3; nothing was missing"]);
        must_be_equal(&shape(&mut client), &before, "after migrate()");
        must_be_equal(&books(&mut client), &rows, "after migrate()");
    }
}

#[test]
fn two_databases_of_one_cluster_have_the_extension_side_by_side() {
    let stand = Stand::shared();
    let (one, two) = (stand.db(), stand.db());
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
    let stand = Stand::shared();
    let db = TestDb::new(&stand.cluster);
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
    assert_eq!(texts(&mut client, "SELECT btc_ingest.migrate()"), ["schema version 3; nothing was missing"]);
    execute(&mut client, "DROP EXTENSION btc_ingest");
    execute(&mut client, "CREATE EXTENSION btc_ingest");
    assert_eq!(loaded(&mut client, &uri, "").outcome, "already loaded");
}

// ── adoption ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The tables as the requirements document them.
const DOCUMENTED: &str = "
    CREATE SCHEMA landing; CREATE SCHEMA market_data; CREATE SCHEMA signals; CREATE SCHEMA ingestion; CREATE SCHEMA ops;
    CREATE TABLE landing.raw_blobs_5m (
        bucket_5m TIMESTAMPTZ PRIMARY KEY,
        asset TEXT NOT NULL,
        s3_uri TEXT NOT NULL,
        object_size_bytes BIGINT,
        ingested_tick_span TSRANGE,
        metadata JSONB,
        created_at TIMESTAMPTZ DEFAULT now());
    CREATE UNIQUE INDEX ON landing.raw_blobs_5m (asset, bucket_5m);
    CREATE TABLE market_data.btc_ticks (
        bucket_5m TIMESTAMPTZ NOT NULL,
        event_time TIMESTAMPTZ NOT NULL,
        trade_time TIMESTAMPTZ,
        symbol TEXT NOT NULL,
        trade_id BIGINT NOT NULL,
        price NUMERIC(18,8),
        quantity NUMERIC(24,12),
        buyer_order_id TEXT,
        seller_order_id TEXT,
        is_market_maker BOOLEAN,
        ingested_at TIMESTAMPTZ DEFAULT now(),
        PRIMARY KEY (bucket_5m, symbol, trade_id));
    CREATE TABLE signals.btc_embeddings (
        bucket TIMESTAMPTZ PRIMARY KEY,
        exchange TEXT NOT NULL,
        feature_vector vector(256),
        label_snapshot JSONB,
        created_at TIMESTAMPTZ DEFAULT now());
    CREATE INDEX ON signals.btc_embeddings USING ivfflat (feature_vector) WITH (lists = 200);
    CREATE TABLE ingestion.stream_offsets (
        source TEXT PRIMARY KEY,
        last_sequence BIGINT,
        last_ts TIMESTAMPTZ,
        state JSONB,
        updated_at TIMESTAMPTZ DEFAULT now());
    CREATE TABLE ops.retention_jobs (
        job_name TEXT PRIMARY KEY,
        hypertable TEXT NOT NULL,
        policy JSONB NOT NULL,
        enabled BOOLEAN DEFAULT TRUE,
        created_at TIMESTAMPTZ DEFAULT now());";
const HYPERTABLE: &str = "
    SELECT create_hypertable('market_data.btc_ticks', 'bucket_5m', chunk_time_interval => INTERVAL '7 days');
    CREATE INDEX ON market_data.btc_ticks (symbol, event_time DESC);
    CREATE INDEX ON market_data.btc_ticks (bucket_5m);";
/// Rows in all of them; three ticks, of which an object below has the first two, one of these with another price.
const ROWS: &str = r#"
    INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes, metadata)
        VALUES ('2024-08-08T12:00:00Z', 'BTCUSDT', 's3://landing/old', 5, '{"sha256": "x"}'),
               ('2024-08-08T12:05:00Z', 'BTCUSDT', 's3://landing/older', NULL, NULL);
    INSERT INTO market_data.btc_ticks VALUES
        ('2024-08-08T12:00:00Z', '2024-08-08T12:00:00.000001Z', '2024-08-08T12:00:00Z', 'BTCUSDT', 1, 60000, 1, '2', '3', true, '2024-08-09T00:00:00Z'),
        ('2024-08-08T12:00:00Z', '2024-08-08T12:00:01.000001Z', '2024-08-08T12:00:01Z', 'BTCUSDT', 2, 1, 1, '4', '5', false, now()),
        ('2024-07-08T12:00:00Z', '2024-07-08T12:00:01.000001Z', NULL, 'ETHUSDT', 7, 2500, 1, NULL, NULL, NULL, now());
    INSERT INTO signals.btc_embeddings (bucket, exchange, feature_vector)
        VALUES ('2024-08-08T12:00:00Z', 'binance', array_fill(0.5::real, ARRAY[256])::vector);
    INSERT INTO ingestion.stream_offsets VALUES ('binance_ws', 5, '2024-08-08T12:00:00Z', '{"a": 1}');
    INSERT INTO ops.retention_jobs (job_name, hypertable, policy)
        VALUES ('ticks', 'market_data.btc_ticks', '{"compress_after": "7 days", "drop_after": "90 days"}')"#;

fn documented(extra: &[&str]) -> TestDb<'static> {
    let db = TestDb::new(&Stand::shared().cluster);
    let mut client = db.client();
    execute(&mut client, "SET client_min_messages = warning; CREATE EXTENSION timescaledb; CREATE EXTENSION vector");
    execute(&mut client, DOCUMENTED);
    for sql in extra {
        execute(&mut client, sql);
    }
    db
}

/// The documented columns of every row, whatever was added.
fn documented_rows(client: &mut Client) -> Vec<String> {
    [
        "SELECT concat_ws('|', bucket_5m, asset, s3_uri, object_size_bytes, ingested_tick_span, metadata, created_at)
           FROM landing.raw_blobs_5m WHERE s3_uri LIKE 's3://landing/old%' ORDER BY 1",
        "SELECT concat_ws('|', bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity, buyer_order_id,
                          seller_order_id, is_market_maker, ingested_at) FROM market_data.btc_ticks
          WHERE (symbol, trade_id) IN (('BTCUSDT', 1), ('BTCUSDT', 2), ('ETHUSDT', 7))
            AND bucket_5m <= '2024-08-08T12:00:00Z' AND price IN (1, 2500, 60000) ORDER BY 1",
        "SELECT concat_ws('|', bucket, exchange, feature_vector, label_snapshot, created_at) FROM signals.btc_embeddings",
        "SELECT t::text FROM ingestion.stream_offsets t WHERE source = 'binance_ws'",
        "SELECT t::text FROM ops.retention_jobs t",
    ]
    .iter()
    .flat_map(|sql| texts(client, sql))
    .collect()
}

/// Installs over the documented tables and proves that they work and that nothing was lost.
#[track_caller]
fn must_adopt(db: &TestDb<'_>, what: &str) {
    let mut client = db.client();
    let before = documented_rows(&mut client);
    assert_eq!(before.len(), 8);
    execute(&mut client, "SET client_min_messages = warning; CREATE EXTENSION btc_ingest");
    assert_eq!(documented_rows(&mut client), before, "{what}");
    assert_eq!(texts(&mut client, "SELECT pg_relation_size('market_data.btc_ticks')::text"), ["0"], "{what}");

    // The shape is that of a fresh install: only what an adopted table may keep as it is differs.
    let fresh = Stand::shared().db();
    let mut wanted = shape(&mut fresh.client());
    let mut found = shape(&mut client);
    for lines in [&mut wanted, &mut found] {
        // TimescaleDB's own index, which create_hypertable() makes unless it is told not to, may stay.
        lines.retain(|line| !line.contains("_timescaledb_internal") && !line.contains("(bucket_5m DESC)"));
        for line in lines.iter_mut() {
            // A table with ticks keeps its collation; names of indexes and triggers are anybody's.
            *line = line.replace("\"C\"", "\"default\"").replace(" COLLATE \"default\"", "");
            if line.starts_with("CREATE ") && line.contains(" INDEX ") {
                *line = line.split(" ON ").nth(1).unwrap().to_owned();
            }
        }
    }
    let retype = |line: &String| !line.starts_with("column") || line.contains("is_market_maker");
    must_be_equal(
        &found.iter().filter(|line| retype(line)).cloned().collect::<Vec<_>>(),
        &wanted.iter().filter(|line| retype(line)).cloned().collect::<Vec<_>>(),
        what,
    );
    let status = "SELECT string_agg(DISTINCT status, ',') FROM landing.raw_blobs_5m";
    assert_eq!(texts(&mut client, status), ["pending"], "{what}: nobody knows yet whether they are loaded");

    // A load merges with what stands, and the key is per asset now.
    let object = ticks(1, 20);
    let uri = put(db, "a.parquet", &object);
    let report = loaded(&mut client, &uri, "");
    assert_eq!(report.counts(), [20, 18, 1, 1, 0, 0], "{what}");
    let uri = put(db, "b.parquet", &ticks(1, 20));
    assert_eq!(loaded(&mut client, &uri, r#"options => '{"symbol": "ETHUSDT"}'"#).inserted, 20, "{what}");
    let assets = "SELECT string_agg(asset, ',' ORDER BY asset) FROM landing.raw_blobs_5m WHERE bucket_5m = '2024-08-08T12:00:00Z'";
    assert_eq!(texts(&mut client, assets), ["BTCUSDT,ETHUSDT"], "{what}");
    assert_eq!(documented_rows(&mut client), before, "{what}: after loads");
    assert_eq!(loaded(&mut client, &uri, "").outcome, "already loaded");
    let rows = stored(&mut client).rows;
    assert_eq!(rows, 41, "{what}");

    // Nothing of it belongs to the extension, the chunks neither.
    execute(&mut client, "DROP EXTENSION btc_ingest");
    assert_eq!(stored(&mut client).rows, rows, "{what}: after DROP EXTENSION");
    execute(&mut client, "CREATE EXTENSION btc_ingest");
    assert_eq!(loaded(&mut client, &uri, "").outcome, "already loaded");
    must_survive_a_dump(db, "c", &uri, what);
}

#[test]
fn documented_plain_tables_with_rows_are_adopted() {
    must_adopt(&documented(&[ROWS]), "plain tables");
}

#[test]
fn a_documented_hypertable_with_rows_is_adopted() {
    must_adopt(&documented(&[HYPERTABLE, ROWS]), "hypertable");
}

#[test]
fn documented_empty_tables_become_those_of_a_fresh_install() {
    for extra in [&[][..], &[HYPERTABLE][..]] {
        let db = documented(extra);
        let mut client = db.client();
        execute(&mut client, "SET client_min_messages = warning; CREATE EXTENSION btc_ingest");
        let symbol = "SELECT attcollation::regcollation::text FROM pg_attribute
                       WHERE attrelid = 'market_data.btc_ticks'::regclass AND attname = 'symbol'";
        assert_eq!(texts(&mut client, symbol), ["\"C\""], "no tick is there yet, so the collation can change");
        let all = ticks(1, 20);
        let uri = put(&db, "a.parquet", &all);
        assert_eq!(loaded(&mut client, &uri, "").counts(), [20, 20, 0, 0, 0, 0]);
        must_hold(&mut client, &all);
    }
}

#[test]
fn indexes_under_other_names_are_not_made_twice() {
    let db = documented(&[HYPERTABLE]);
    let mut client = db.client();
    execute(&mut client, "SET client_min_messages = warning; CREATE EXTENSION btc_ingest");
    let twice = "SELECT format('%s %s', indrelid::regclass, definition) FROM (
                     SELECT indrelid, substring(pg_get_indexdef(indexrelid) FROM 'USING .*') AS definition FROM pg_index
                      WHERE NOT indisprimary) AS i
                  WHERE indrelid IN ('market_data.btc_ticks'::regclass, 'landing.raw_blobs_5m'::regclass,
                                     'signals.btc_embeddings'::regclass)
                  GROUP BY indrelid, definition HAVING count(*) > 1";
    assert_eq!(texts(&mut client, twice), [] as [String; 0]);
}

#[test]
fn tables_of_another_owner_are_refused() {
    let db = documented(&[]);
    let mut client = db.client();
    let role = format!("owner_of_{}", db.name());
    execute(&mut client, &format!("CREATE ROLE {role}; ALTER TABLE market_data.btc_ticks OWNER TO {role}"));
    let refused = refusal(&mut client, INSTALL, "42501");
    assert!(refused.message.contains(&format!("market_data.btc_ticks is a table of \"{role}\"")), "{refused:?}");
    assert!(!refused.message.contains("landing.raw_blobs_5m"), "only what is somebody else's: {refused:?}");
    assert!(refused.hint.contains("OWNER TO postgres"), "{refused:?}");
    execute(&mut client, "ALTER TABLE market_data.btc_ticks OWNER TO postgres");
    execute(&mut client, INSTALL);
    // And later, when somebody calls migrate() or loads.
    execute(&mut client, &format!("ALTER TABLE landing.raw_blobs_5m OWNER TO {role}"));
    refusal(&mut client, "SELECT btc_ingest.migrate()", "42501");
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    btc_ingest_tests::stand::refused(&mut client, &uri, "", "42501");
    execute(&mut client, &format!("ALTER TABLE landing.raw_blobs_5m OWNER TO postgres; DROP ROLE {role}"));
}

#[test]
fn a_view_in_a_tables_place_is_refused() {
    let db = documented(&["DROP TABLE ops.retention_jobs; CREATE VIEW ops.retention_jobs AS SELECT 1 AS job_name"]);
    let refused = refusal(&mut db.client(), INSTALL, "42501");
    assert!(refused.message.contains("ops.retention_jobs is a view"), "{refused:?}");
}

#[test]
fn tables_of_another_shape_are_refused_naming_every_column() {
    let db = documented(&["ALTER TABLE market_data.btc_ticks ALTER price TYPE double precision;
         ALTER TABLE market_data.btc_ticks DROP COLUMN quantity;
         ALTER TABLE landing.raw_blobs_5m ALTER metadata TYPE text;
         ALTER TABLE signals.btc_embeddings ALTER feature_vector TYPE vector(64)"]);
    let mut client = db.client();
    let before = texts(&mut client, "SELECT count(*)::text FROM pg_class");
    let refused = refusal(&mut client, INSTALL, "42804");
    for problem in [
        "market_data.btc_ticks.price is double precision, expected numeric(18,8)",
        "market_data.btc_ticks has no column quantity numeric(24,12)",
        "landing.raw_blobs_5m.metadata is text, expected jsonb",
        "signals.btc_embeddings.feature_vector is public.vector(64), expected public.vector(256)",
    ] {
        assert!(refused.message.contains(problem), "{problem}: {refused:?}");
    }
    assert!(!refused.hint.is_empty());
    assert_eq!(texts(&mut client, "SELECT count(*)::text FROM pg_class"), before, "nothing was left behind");
}

// ── versions and missing tables ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn tables_of_a_newer_schema_version_are_left_alone() {
    let db = Stand::shared().db();
    let mut client = db.client();
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    execute(&mut client, "UPDATE ingestion.schema_version SET version = 4");
    let migrate = refusal(&mut client, "SELECT btc_ingest.migrate()", "TK011");
    assert!(
        migrate.message.contains("version 4, this library knows only 3") && migrate.hint.contains("ALTER EXTENSION"),
        "{migrate:?}"
    );
    let load = refused(&mut client, &uri, "", "TK011");
    assert!(load.message.contains("have schema version 4, the library needs 3"), "{load:?}");
    execute(&mut client, "DROP EXTENSION btc_ingest");
    refusal(&mut client, INSTALL, "TK011");
    execute(&mut client, "UPDATE ingestion.schema_version SET version = 1");
    execute(&mut client, INSTALL);
    assert_eq!(loaded(&mut client, &uri, "").inserted, 5);
}

#[test]
fn tables_of_version_1_get_what_version_2_added_and_keep_their_rows() {
    let db = Stand::shared().db();
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
    // Before the version is read, the guard misses tables; its hint is the same.
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
    let db = Stand::shared().db();
    let mut client = db.client();
    let (old, new) = (ticks(1, 5), ticks(50_000_000, 5));
    let (done, waiting) = (put(&db, "a.parquet", &old), put(&db, "b.parquet", &new));
    assert_eq!(loaded(&mut client, &done, "").inserted, 5);
    let wanted = shape(&mut client);
    // As version 2 left them: a producer's row waits, and nobody has ever looked at it.
    execute(
        &mut client,
        "UPDATE ingestion.schema_version SET version = 2;
         DROP INDEX landing.raw_blobs_5m_unqueued_idx, ingestion.objects_due_idx;
         DROP TRIGGER registry_wake ON landing.raw_blobs_5m;
         CREATE INDEX objects_live_idx ON ingestion.objects (registered_at, s3_uri) WHERE status = 'pending' AND backfill IS NULL;
         ALTER TABLE landing.raw_blobs_5m DISABLE TRIGGER registry_pending, DROP COLUMN queued_at",
    );
    client
        .execute(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2024-08-08T12:05:00Z', 'ETHUSDT', $1)",
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
fn tables_of_an_older_schema_version_are_migrated_before_they_are_loaded() {
    let db = Stand::shared().db();
    let mut client = db.client();
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    for sql in ["UPDATE ingestion.schema_version SET version = 0", "DELETE FROM ingestion.schema_version"] {
        execute(&mut client, sql);
        let refused = refused(&mut client, &uri, "", "TK011");
        assert!(refused.hint.contains("SELECT btc_ingest.migrate();"), "{refused:?}");
        execute(&mut client, "SELECT btc_ingest.migrate()");
        assert_eq!(texts(&mut client, "SELECT version::text FROM ingestion.schema_version"), ["3"]);
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
        let db = Stand::shared().db();
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
fn ticks_that_are_no_hypertable_are_refused_and_migrate_mends_it() {
    let db = Stand::shared().db();
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
