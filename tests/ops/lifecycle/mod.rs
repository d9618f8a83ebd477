//! Dump and restore, DROP and CREATE again, adoption of existing tables, and tables that are refused.

mod adoption;
mod drop_and_create;
mod dump;
mod installing;
mod migration_file;
mod upgrade;
mod versions;

use btc_ingest_kit::dump::{copy, dump, restore};
use btc_ingest_kit::fixture::{Refusal, SCHEMA_VERSION, loaded, refused, stored};
use btc_ingest_kit::rows::{but, must_hold, ticks};
use btc_ingest_kit::sql::{execute, texts};
use btc_ingest_kit::ticks::{Tick, time_us};
use btc_ingest_kit::{Cluster, Generator, ParquetFile, ServerFixture, TestDb};
use postgres::Client;

const INSTALL: &str = "SET client_min_messages = warning; CREATE EXTENSION btc_ingest CASCADE";

#[track_caller]
fn refusal(client: &mut Client, sql: &str, sqlstate: &str) -> Refusal {
    let refusal = Refusal::from(client.batch_execute(sql).expect_err("a refusal"));
    assert_eq!(refusal.sqlstate, sqlstate, "{refusal:?}");
    refusal
}

fn put(db: &TestDb<'_>, key: &str, ticks: &[Tick]) -> String {
    ServerFixture::shared().put(&format!("{}/{key}", db.name()), ParquetFile::new().bytes(ticks))
}

/// Returns everything about our tables: columns, keys, indexes, triggers, owners, grants, comments.
fn shape(client: &mut Client) -> Vec<String> {
    texts(
        client,
        r"WITH spaces AS (
              SELECT * FROM pg_namespace
                  WHERE nspname IN ('landing', 'market_data', 'signals', 'ingestion', 'ops', 'btc_ingest',
                                  'btc_ingest_internal')
          ), tables AS (
              SELECT c.* FROM pg_class c WHERE c.relnamespace IN (SELECT oid FROM spaces) AND c.relkind = 'r'
              UNION
              SELECT c.* FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
               WHERE i.inhparent = to_regclass('market_data.btc_ticks')
          ), acl AS (
              SELECT 'schema ' || nspname AS what, nspacl AS acl FROM spaces
              UNION ALL SELECT 'table ' || oid::regclass, relacl FROM tables
              UNION ALL SELECT 'function ' || oid::regprocedure, proacl FROM pg_proc
                  WHERE pronamespace IN (SELECT oid FROM spaces)
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
              SELECT concat_ws(' ', 'table', oid::regclass, relowner::regrole, obj_description(oid, 'pg_class'))
                  FROM tables
              UNION ALL
              SELECT concat_ws(' ', 'schema', nspname, nspowner::regrole, obj_description(oid, 'pg_namespace'))
                  FROM spaces
              UNION ALL
              SELECT concat_ws(' ', 'grant', what, g.grantor::regrole, g.grantee::regrole, g.privilege_type,
                  g.is_grantable)
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

/// Returns every row of the tables beside the ticks.
fn records(client: &mut Client) -> Vec<String> {
    let tables = [
        "landing.raw_blobs_5m",
        "landing.rejected_ticks",
        "ingestion.objects",
        "ingestion.object_slices",
        "ingestion.gap_notes",
        "ingestion.load_history",
        "ingestion.stream_offsets",
        "ingestion.schema_version",
        "ops.retention_jobs",
        "signals.btc_embeddings",
        "ingestion.work_units",
        "ingestion.staged_slices",
        "ingestion.staged_candles",
        "ops.slice_digests",
        "ops.slice_candles",
    ];
    tables
        .iter()
        .flat_map(|table| texts(client, &format!("SELECT '{table} ' || t::text FROM {table} t ORDER BY 1")))
        .collect()
}

/// Loads some weeks of ticks, so that there are several chunks, and fills every other table.
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
    let bad = ServerFixture::shared()
        .put(&format!("{}/bad.parquet", db.name()), ParquetFile::new().null("price", &[3]).bytes(&ticks(1, 10)[..4]));
    loaded(&mut client, &bad, r#"on_bad_row => 'reject', options => '{"symbol": "BAD"}'"#);
    execute(
        &mut client,
        r#"INSERT INTO signals.btc_embeddings (bucket, exchange, feature_vector)
               VALUES ('2024-08-08T12:00:00Z', 'binance', array_fill(0.5::real, ARRAY[256])::vector);
           INSERT INTO ops.retention_jobs (job_name, hypertable, policy, enabled)
               VALUES ('j', 'market_data.btc_ticks', '{"drop_after": "90 days", "max_runtime": "1 hour"}', false)"#,
    );
    // A unit that is published, and one in the middle of its work.
    let staged = "INSERT INTO ingestion.staged_slices (token, part, bucket_5m)
                      SELECT u.token, '00000000-0000-0000-0000-000000000001', unnest(u.buckets)
                        FROM ingestion.work_units u WHERE u.state = 'leased';
                  INSERT INTO ingestion.staged_candles (token, part, minute)
                      SELECT s.token, s.part, s.bucket_5m FROM ingestion.staged_slices s";
    execute(
        &mut client,
        &format!(
            "SELECT FROM btc_ingest.work_units('2024-08-01', '2024-08-02'); {staged};
             SELECT btc_ingest.finish_unit(token) FROM ingestion.work_units;
             SELECT FROM btc_ingest.work_units('2024-08-08', '2024-08-09', assets => '{{BTCUSDT}}'); {staged}"
        ),
    );
    (all, uris)
}

/// Restores a dump, and checks that the copy is equal and works.
#[track_caller]
fn must_survive_a_dump(db: &TestDb<'_>, format: &str, loaded_uri: &str, what: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("dump");
    dump(db, format, &file);
    let copy = TestDb::new(&ServerFixture::shared().cluster);
    restore(&copy, format, &file);

    let (mut old, mut new) = (db.client(), copy.client());
    assert_eq!(stored(&mut new), stored(&mut old), "{what}: sums");
    must_be_equal(&shape(&mut new), &shape(&mut old), what);
    must_be_equal(&records(&mut new), &records(&mut old), what);
    assert_eq!(texts(&mut new, "SELECT pg_relation_size('market_data.btc_ticks')::text"), ["0"], "{what}: the root");

    // A loaded object is known, a new one is loaded, a producer's row is pending, and ids continue.
    assert_eq!(loaded(&mut new, loaded_uri, "").outcome, "already loaded", "{what}");
    let before = stored(&mut new).rows;
    let fresh = Generator::new(9, "BTCUSDT", time_us("2024-09-08T12:00:00Z"), 900_000_000).per_second(1.0).next_slice();
    let uri = put(&copy, "fresh.parquet", &fresh);
    let report = loaded(&mut new, &uri, "");
    assert_eq!(report.inserted, fresh.len() as i64, "{what}");
    assert_eq!(stored(&mut new).rows, before + report.inserted, "{what}");
    let forced = loaded(&mut new, loaded_uri, "force => true");
    assert_eq!((forced.inserted, forced.duplicate), (0, forced.read), "{what}");
    let status = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
                  VALUES (date_bin('5 minutes', now(), 'epoch'), 'X', 'x') RETURNING status";
    assert_eq!(texts(&mut new, status), ["pending"]);
    let answer = texts(&mut new, "SELECT btc_ingest.migrate()");
    assert!(answer[0].ends_with("nothing was missing"), "{what}: {answer:?}");
}
