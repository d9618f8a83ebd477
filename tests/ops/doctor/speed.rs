//! How much the views and doctor() read of large tables. Blocks are counted and not milliseconds, because a machine
//! that runs tests is busy.

use btc_ingest_kit::ServerFixture;
use btc_ingest_kit::sql::{execute, text, texts};
use postgres::Client;

/// Objects that are loaded, each with its registry row, its slice and its history: some 4,000 blocks.
const LOADED: i64 = 40_000;

const DOCTOR: &str = "SELECT * FROM btc_ingest.doctor()";

/// Makes objects without loading them. The first ones are pending.
fn fill(client: &mut Client, pending: i64) {
    execute(
        client,
        &format!(
            "ALTER TABLE landing.raw_blobs_5m DISABLE TRIGGER USER;
             INSERT INTO ingestion.objects (s3_uri, etag, status, asset, span_from, metadata, registered_at,
                                            loaded_at)
             SELECT 's3://landing/Binance/BTCUSDT/' || i, md5(i::text),
                    CASE WHEN i <= {pending} THEN 'pending' ELSE 'loaded' END, 'A' || i % 10,
                    timestamptz '2020-01-01' + i * interval '5 minutes',
                    jsonb_build_object('writer', repeat(md5(i::text), 8), 'row_count', 4000),
                    now() - i * interval '1 hour', CASE WHEN i > {pending} THEN now() END
               FROM generate_series(1, {LOADED}) AS i;
             INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata, status, queued_at)
             SELECT span_from, asset, s3_uri, metadata, status, registered_at FROM ingestion.objects;
             INSERT INTO ingestion.object_slices
             SELECT s3_uri, etag, span_from, asset, 1, id / 10, id / 10, span_from, span_from
               FROM (SELECT *, substring(s3_uri FROM '[0-9]+$')::bigint AS id FROM ingestion.objects) AS o
              WHERE status = 'loaded';
             INSERT INTO ingestion.load_history (s3_uri, etag, outcome, rows_conflicting, rows_rejected, started_at)
             SELECT s3_uri, etag, 'loaded', 0, 0, registered_at FROM ingestion.objects;
             ALTER TABLE landing.raw_blobs_5m ENABLE TRIGGER USER"
        ),
    );
    // In a transaction block VACUUM is refused.
    for table in ["objects", "object_slices", "load_history"] {
        execute(client, &format!("VACUUM ANALYZE ingestion.{table}"));
    }
    execute(client, "VACUUM ANALYZE landing.raw_blobs_5m");
}

/// Returns the blocks that a statement reads, those of the functions that it calls included. The first run is not
/// counted: it plans, and reads the catalogs.
fn blocks(client: &mut Client, statement: &str) -> i64 {
    execute(client, statement);
    let plan = texts(client, &format!("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {statement}"));
    // The first such line is that of the whole statement: "Buffers: shared hit=12 read=3".
    let buffers = plan.iter().find(|line| line.contains("Buffers: shared")).expect("buffers");
    let counts = buffers.split([' ', '=']).filter_map(|word| word.parse::<i64>().ok());
    // doctor() reads catalogs that other sessions have just written, which may set hint bits.
    assert!(!buffers.contains("temp") && (statement == DOCTOR || !buffers.contains("dirtied")), "{buffers}");
    counts.sum()
}

#[test]
fn the_views_read_what_waits_and_not_what_is_loaded() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let doctor = blocks(&mut client, DOCTOR);
    fill(&mut client, 100);
    let whole = "SELECT (sum(pg_relation_size(c)) / 8192)::bigint::text
                   FROM unnest('{ingestion.objects,landing.raw_blobs_5m}'::regclass[]) AS c";
    let whole: i64 = text(&mut client, whole).parse().unwrap();
    assert!(whole > 2_000, "{whole} blocks");
    for statement in [
        "SELECT * FROM btc_ingest.queue",
        "SELECT * FROM btc_ingest.lag",
        "SELECT * FROM btc_ingest.failures",
        "SELECT * FROM btc_ingest.stats",
        "SELECT * FROM btc_ingest.gaps",
    ] {
        let read = blocks(&mut client, statement);
        println!("{statement}: {read} of {whole} blocks");
        assert!(read < whole / 2, "{statement}: {read} of {whole} blocks");
    }
    must_read_little_more(&mut client, doctor, whole);
}

/// Checks how much more doctor() reads of the large tables than of empty ones. Most of what it reads are catalogs.
#[track_caller]
fn must_read_little_more(client: &mut Client, before: i64, whole: i64) {
    let read = blocks(client, DOCTOR);
    println!("doctor(): {read} blocks, {before} before, of {whole}");
    assert!(read - before < whole / 4, "doctor(): {read} blocks, {before} before, of {whole}");
}

#[test]
fn a_limit_or_a_count_of_the_queue_does_not_read_every_waiting_object() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let doctor = blocks(&mut client, DOCTOR);
    fill(&mut client, LOADED);
    let whole: i64 = text(&mut client, "SELECT (pg_relation_size('ingestion.objects') / 8192)::text").parse().unwrap();
    for (statement, share) in [
        ("SELECT * FROM btc_ingest.queue LIMIT 10", 100),
        ("SELECT count(*) FROM btc_ingest.queue", 2),
        ("SELECT * FROM btc_ingest.lag", 2),
    ] {
        let read = blocks(&mut client, statement);
        println!("{statement}: {read} of {whole} blocks");
        assert!(read < whole / share, "{statement}: {read} of {whole} blocks");
    }
    must_read_little_more(&mut client, doctor, whole);
}
