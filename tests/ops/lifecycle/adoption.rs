//! CREATE EXTENSION adopts tables that exist.

use super::*;

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
/// Rows in all of them. An object below holds the first two of the three ticks, one of them with another price.
const ROWS: &str = r#"
    INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes, metadata)
        VALUES ('2024-08-08T12:00:00Z', 'BTCUSDT', 's3://landing/old', 5, '{"sha256": "x"}'),
               ('2024-08-08T12:05:00Z', 'BTCUSDT', 's3://landing/older', NULL, NULL);
    INSERT INTO market_data.btc_ticks VALUES
        ('2024-08-08T12:00:00Z', '2024-08-08T12:00:00.000001Z', '2024-08-08T12:00:00Z', 'BTCUSDT', 1, 60000, 1, '2',
            '3', true, '2024-08-09T00:00:00Z'),
        ('2024-08-08T12:00:00Z', '2024-08-08T12:00:01.000001Z', '2024-08-08T12:00:01Z', 'BTCUSDT', 2, 1, 1, '4', '5',
            false, now()),
        ('2024-07-08T12:00:00Z', '2024-07-08T12:00:01.000001Z', NULL, 'ETHUSDT', 7, 2500, 1, NULL, NULL, NULL, now());
    INSERT INTO signals.btc_embeddings (bucket, exchange, feature_vector)
        VALUES ('2024-08-08T12:00:00Z', 'binance', array_fill(0.5::real, ARRAY[256])::vector);
    INSERT INTO ingestion.stream_offsets VALUES ('binance_ws', 5, '2024-08-08T12:00:00Z', '{"a": 1}');
    INSERT INTO ops.retention_jobs (job_name, hypertable, policy)
        VALUES ('ticks', 'market_data.btc_ticks', '{"compress_after": "7 days", "drop_after": "90 days"}')"#;

fn documented(extra: &[&str]) -> TestDb<'static> {
    let db = TestDb::new(&ServerFixture::shared().cluster);
    let mut client = db.client();
    execute(&mut client, "SET client_min_messages = warning; CREATE EXTENSION timescaledb; CREATE EXTENSION vector");
    execute(&mut client, DOCUMENTED);
    for sql in extra {
        execute(&mut client, sql);
    }
    db
}

/// The documented columns of every row, without those that were added.
fn documented_rows(client: &mut Client) -> Vec<String> {
    [
        "SELECT concat_ws('|', bucket_5m, asset, s3_uri, object_size_bytes, ingested_tick_span, metadata, created_at)
           FROM landing.raw_blobs_5m WHERE s3_uri LIKE 's3://landing/old%' ORDER BY 1",
        "SELECT concat_ws('|', bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity, buyer_order_id,
                          seller_order_id, is_market_maker, ingested_at) FROM market_data.btc_ticks
          WHERE (symbol, trade_id) IN (('BTCUSDT', 1), ('BTCUSDT', 2), ('ETHUSDT', 7))
            AND bucket_5m <= '2024-08-08T12:00:00Z' AND price IN (1, 2500, 60000) ORDER BY 1",
        "SELECT concat_ws('|', bucket, exchange, feature_vector, label_snapshot, created_at)
           FROM signals.btc_embeddings",
        "SELECT t::text FROM ingestion.stream_offsets t WHERE source = 'binance_ws'",
        "SELECT t::text FROM ops.retention_jobs t",
    ]
    .iter()
    .flat_map(|sql| texts(client, sql))
    .collect()
}

/// Installs over the documented tables, and checks that they work and that nothing was lost.
#[track_caller]
fn must_adopt(db: &TestDb<'_>, what: &str) {
    let mut client = db.client();
    let before = documented_rows(&mut client);
    assert_eq!(before.len(), 8);
    execute(&mut client, "SET client_min_messages = warning; CREATE EXTENSION btc_ingest");
    assert_eq!(documented_rows(&mut client), before, "{what}");
    assert_eq!(texts(&mut client, "SELECT pg_relation_size('market_data.btc_ticks')::text"), ["0"], "{what}");

    // The shape is that of a fresh install: only what an adopted table may keep as it is differs.
    let fresh = ServerFixture::shared().db();
    let mut wanted = shape(&mut fresh.client());
    let mut found = shape(&mut client);
    for lines in [&mut wanted, &mut found] {
        // TimescaleDB's own index, which create_hypertable() makes unless it is told not to, may stay.
        lines.retain(|line| !line.contains("_timescaledb_internal") && !line.contains("(bucket_5m DESC)"));
        for line in lines.iter_mut() {
            // A table with ticks keeps its collation; names of indexes and triggers may differ.
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
    assert_eq!(texts(&mut client, status), ["pending"], "{what}: it is not known yet whether they are loaded");

    // A load merges with the ticks that exist, and the key includes the asset.
    let object = ticks(1, 20);
    let uri = put(db, "a.parquet", &object);
    let report = loaded(&mut client, &uri, "");
    assert_eq!(report.counts(), [20, 18, 1, 1, 0, 0], "{what}");
    let uri = put(db, "b.parquet", &ticks(1, 20));
    assert_eq!(loaded(&mut client, &uri, r#"options => '{"symbol": "ETHUSDT"}'"#).inserted, 20, "{what}");
    let assets = "SELECT string_agg(asset, ',' ORDER BY asset) FROM landing.raw_blobs_5m
                   WHERE bucket_5m = '2024-08-08T12:00:00Z'";
    assert_eq!(texts(&mut client, assets), ["BTCUSDT,ETHUSDT"], "{what}");
    assert_eq!(documented_rows(&mut client), before, "{what}: after loads");
    assert_eq!(loaded(&mut client, &uri, "").outcome, "already loaded");
    let rows = stored(&mut client).rows;
    assert_eq!(rows, 41, "{what}");

    // No table and no chunk belongs to the extension.
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
    assert!(!refused.message.contains("landing.raw_blobs_5m"), "only what belongs to another role: {refused:?}");
    assert!(refused.hint.contains("OWNER TO postgres"), "{refused:?}");
    execute(&mut client, "ALTER TABLE market_data.btc_ticks OWNER TO postgres");
    execute(&mut client, INSTALL);
    // And later, at a call of migrate() or a load.
    execute(&mut client, &format!("ALTER TABLE landing.raw_blobs_5m OWNER TO {role}"));
    refusal(&mut client, "SELECT btc_ingest.migrate()", "42501");
    let uri = put(&db, "a.parquet", &ticks(1, 5));
    btc_ingest_kit::fixture::refused(&mut client, &uri, "", "42501");
    execute(&mut client, &format!("ALTER TABLE landing.raw_blobs_5m OWNER TO postgres; DROP ROLE {role}"));
}

#[test]
fn a_schema_of_another_role_is_refused() {
    let db = documented(&[]);
    let mut client = db.client();
    let role = format!("schema_of_{}", db.name());
    execute(&mut client, &format!("CREATE ROLE {role}; ALTER SCHEMA ops OWNER TO {role}"));
    let refused = refusal(&mut client, INSTALL, "42501");
    assert!(refused.message.contains(&format!("not its owner's: ops of \"{role}\"")), "{refused:?}");
    assert!(refused.hint.contains("ALTER SCHEMA … OWNER TO postgres"), "{refused:?}");
    execute(&mut client, &format!("ALTER SCHEMA ops OWNER TO postgres; DROP ROLE {role}"));
    execute(&mut client, INSTALL);
}

#[test]
fn a_trigger_that_runs_another_roles_function_is_refused() {
    let db = documented(&[]);
    let mut client = db.client();
    let role = format!("trigger_of_{}", db.name());
    execute(
        &mut client,
        &format!(
            "CREATE ROLE {role}; CREATE SCHEMA other AUTHORIZATION {role};
             CREATE FUNCTION other.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             ALTER FUNCTION other.fire() OWNER TO {role};
             CREATE TRIGGER fire BEFORE INSERT ON landing.raw_blobs_5m FOR EACH ROW EXECUTE FUNCTION other.fire()"
        ),
    );
    let refused = refusal(&mut client, INSTALL, "42501");
    let what = format!("triggers of other roles: other.fire() on landing.raw_blobs_5m of \"{role}\"");
    assert!(refused.message.contains(&what), "{refused:?}");
    execute(&mut client, "DROP TRIGGER fire ON landing.raw_blobs_5m");
    execute(&mut client, INSTALL);
    execute(&mut client, &format!("DROP SCHEMA other CASCADE; DROP ROLE {role}"));
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
         ALTER TABLE signals.btc_embeddings DROP COLUMN feature_vector, ADD COLUMN feature_vector real[]"]);
    let mut client = db.client();
    let before = texts(&mut client, "SELECT count(*)::text FROM pg_class");
    let refused = refusal(&mut client, INSTALL, "42804");
    for problem in [
        "market_data.btc_ticks.price is double precision, expected numeric(18,8)",
        "market_data.btc_ticks has no column quantity numeric(24,12)",
        "landing.raw_blobs_5m.metadata is text, expected jsonb",
        "signals.btc_embeddings.feature_vector is real[], expected public.vector(256)",
    ] {
        assert!(refused.message.contains(problem), "{problem}: {refused:?}");
    }
    assert!(!refused.hint.is_empty());
    assert_eq!(texts(&mut client, "SELECT count(*)::text FROM pg_class"), before, "nothing was left behind");
}
