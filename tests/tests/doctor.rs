//! What an operator and a producer see: doctor(), inspect_s3(), register_s3_slice() and the registry.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod doctor_bench;

use std::net::TcpListener;

use btc_ingest_tests::stand::{ACCESS, BUCKET, Refusal, SECRET, loaded, refused, session};
use btc_ingest_tests::ticks::{Tick, time_text, time_us};
use btc_ingest_tests::{Cluster, FaultProxy, Generator, ParquetFile, S3Server, Stand, TestDb, When};
use doctor_bench::{doctor, failing};
use parquet::basic::Compression;
use postgres::{Client, Row};

const NOON: &str = "2024-08-08T12:00:00Z";

fn ticks(slices: usize) -> Vec<Tick> {
    Generator::new(1, "BTCUSDT", time_us(NOON), 1).per_second(2.0).next_slices(slices)
}

fn put(key: &str, file: ParquetFile, ticks: &[Tick]) -> String {
    Stand::shared().put(&format!("doctor/{key}"), file.bytes(ticks))
}

// ── doctor ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_healthy_installation_passes_every_check() {
    let stand = Stand::shared();
    let db = stand.db();
    let checks = doctor(&mut db.client());
    assert_eq!(failing(&checks), [""; 0], "{checks:#?}");
    let names: Vec<&str> = checks.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "AWS credentials",
            "PostgreSQL version",
            "S3 reachable",
            "S3 region",
            "allowed_prefixes",
            "btc_ingest version",
            "chunk interval",
            "clock",
            "compression",
            "failures",
            "free disk",
            "hypertable",
            "indexes",
            "preload btc_ingest",
            "preload timescaledb",
            "queue",
            "restore mode",
            "retention",
            "standby",
            "tables",
            "timescaledb edition",
            "timescaledb version",
            "vector version",
            "workers",
        ]
    );
    assert_eq!(checks["AWS credentials"].detail, "from EnvironmentVariable");
    assert_eq!(checks["S3 region"].detail, "us-east-1");
    assert_eq!(checks["S3 reachable"].detail, format!("s3://{BUCKET}/ at {}", stand.s3.endpoint()));
    assert_eq!(checks["allowed_prefixes"].detail, format!("s3://{BUCKET}"));
    assert!(checks["retention"].detail.contains("ops.retention_jobs"), "{checks:#?}");
}

#[test]
fn an_empty_allow_list_is_found_and_the_hint_mends_it() {
    let stand = Stand::shared();
    let db = stand.db();
    let mut client = session(&db, &stand.s3.endpoint(), &[("btc_ingest.allowed_prefixes", "")]);
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["allowed_prefixes"]);
    let check = &checks["allowed_prefixes"];
    assert_eq!(check.detail, "empty, which denies every uri");
    assert!(check.hint.starts_with("ALTER SYSTEM SET btc_ingest.allowed_prefixes = "), "{check:?}");
    // Nothing may be read, so nothing is asked.
    assert!(!checks.contains_key("S3 reachable"), "{checks:?}");

    client.batch_execute("SET btc_ingest.allowed_prefixes = 's3://landing, http://x'").unwrap();
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["allowed_prefixes"]);
    assert!(checks["allowed_prefixes"].detail.contains("http://x"), "{checks:?}");
}

#[test]
fn missing_credentials_are_found() {
    let cluster = Cluster::builder().setting("btc_ingest.allowed_prefixes", "s3://landing").start();
    let db = TestDb::with_extension(&cluster);
    let checks = doctor(&mut session(&db, "http://127.0.0.1:1", &[]));
    assert_eq!(failing(&checks), ["AWS credentials"]);
    let check = &checks["AWS credentials"];
    assert!(check.detail.contains("have none") && check.hint.contains("instance role"), "{check:?}");
}

#[test]
fn an_s3_that_is_down_is_found() {
    let db = Stand::shared().db();
    let down = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let checks = doctor(&mut session(&db, &down, &[("btc_ingest.s3_max_attempts", "1")]));
    assert_eq!(failing(&checks), ["S3 reachable"]);
    let check = &checks["S3 reachable"];
    assert!(check.detail.contains(&down) && check.detail.contains("Connection refused"), "{check:?}");
    assert!(check.hint.contains("btc_ingest.s3_endpoint"), "{check:?}");
}

#[test]
fn an_s3_whose_answer_stops_halfway_is_not_waited_for_for_ever() {
    let stand = Stand::shared();
    let db = stand.db();
    let proxy = FaultProxy::before(&stand.s3);
    let rule = proxy.on(When::list(), btc_ingest_tests::Fault::StallAfter(20));
    let settings = [("btc_ingest.s3_read_timeout", "300ms"), ("btc_ingest.s3_max_attempts", "2")];
    let mut client = session(&db, &proxy.endpoint(), &settings);
    client.batch_execute("SET statement_timeout = '30s'").unwrap();
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["S3 reachable"]);
    assert!(checks["S3 reachable"].detail.contains("did not answer"), "{checks:?}");
    assert_eq!(proxy.acted(rule), 2, "tried again, as after any silence");
    proxy.release();
    assert_eq!(failing(&doctor(&mut client)), [""; 0]);
}

#[test]
fn a_wrong_secret_is_found_and_never_shown() {
    let other = S3Server::start(ACCESS, "not-what-the-cluster-has");
    other.create_bucket(BUCKET);
    let db = Stand::shared().db();
    let checks = doctor(&mut session(&db, &other.endpoint(), &[]));
    assert_eq!(failing(&checks), ["S3 reachable"]);
    assert!(checks["S3 reachable"].detail.contains("403"), "{checks:?}");
    assert!(!db.log().contains(SECRET));
}

#[test]
fn every_prefix_is_tried() {
    let stand = Stand::shared();
    let db = stand.db();
    let proxy = FaultProxy::before(&stand.s3);
    let allowed = [("btc_ingest.allowed_prefixes", "s3://landing/a, s3://no-such-bucket, s3://landing/b")];
    let mut client = session(&db, &proxy.endpoint(), &allowed);
    let sql = "SELECT ok, detail FROM btc_ingest.doctor() WHERE \"check\" = 'S3 reachable'";
    let found: Vec<(bool, String)> =
        client.query(sql, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found.iter().map(|(ok, _)| *ok).collect::<Vec<_>>(), [true, false, true], "{found:?}");
    assert!(found[1].1.contains("bucket \"no-such-bucket\" does not exist"), "{found:?}");
    assert_eq!((proxy.count("GET"), proxy.requests().len()), (3, 3));
}

#[test]
fn a_region_that_is_wrong_is_found() {
    let stand = Stand::shared();
    let db = stand.db();
    let proxy = FaultProxy::before(&stand.s3);
    proxy.on(When::list(), btc_ingest_tests::Fault::moved_to("eu-central-1"));
    let checks = doctor(&mut session(&db, &proxy.endpoint(), &[]));
    assert_eq!(failing(&checks), ["S3 reachable"]);
    assert!(checks["S3 reachable"].hint.contains("btc_ingest.s3_region"), "{checks:?}");
}

#[test]
fn a_restore_that_was_not_finished_is_found() {
    let db = Stand::shared().db();
    let mut client = db.client();
    client.batch_execute("SET timescaledb.restoring = on").unwrap();
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["restore mode", "tables"]);
    assert_eq!(checks["restore mode"].hint, "SELECT timescaledb_post_restore();");
}

#[test]
fn tables_that_are_missing_old_or_somebodys_are_found() {
    let db = Stand::shared().db();
    let mut client = db.client();
    let cases = [
        ("DROP TABLE landing.rejected_ticks", "missing: landing.rejected_ticks"),
        ("UPDATE ingestion.schema_version SET version = 0", "schema version 0"),
        ("ALTER TABLE ingestion.objects ENABLE ROW LEVEL SECURITY", "row-level security"),
        ("ALTER TABLE ingestion.objects OWNER TO btc_ingest_reader", "different owners"),
    ];
    for (damage, found) in cases {
        client.batch_execute(&format!("BEGIN; {damage}")).unwrap();
        let checks = doctor(&mut client);
        assert_eq!(failing(&checks), ["tables"], "{damage}");
        assert!(checks["tables"].detail.contains(found), "{damage}: {checks:?}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

// ── inspect_s3 ──────────────────────────────────────────────────────────────────────────────────────────────────────

fn inspect(client: &mut Client, uri: &str) -> Row {
    client
        .query_one(
            "SELECT etag, size_bytes, row_count, row_groups, writer, schema_fingerprint,
                    (extract(epoch FROM time_from) * 1000000)::bigint AS time_from,
                    (extract(epoch FROM time_to) * 1000000)::bigint AS time_to, codecs, problem,
                    jsonb_array_length(columns) AS columns,
                    (SELECT string_agg(c ->> 'used_as', ',') FROM jsonb_array_elements(columns) AS c) AS used
               FROM btc_ingest.inspect_s3($1)",
            &[&uri],
        )
        .unwrap_or_else(|e| panic!("{uri}: {e:?}"))
}

#[test]
fn a_footer_is_shown_and_nothing_else_is_read() {
    let stand = Stand::shared();
    let db = stand.db();
    let proxy = FaultProxy::before(&stand.s3);
    let mut client = session(&db, &proxy.endpoint(), &[]);
    // A few hundred kilobytes, and tens of megabytes.
    let many = Generator::new(2, "BTCUSDT", time_us(NOON), 1).per_second(500.0).next_slices(2);
    let plain = ParquetFile::new().plain().codec(Compression::UNCOMPRESSED).row_group_rows(100_000);
    for (key, ticks) in [("modest.parquet", &many[..10_000]), ("huge.parquet", &many[..])] {
        let bytes = plain.clone().created_by("kit version 1").bytes(ticks);
        let size = bytes.len() as i64;
        let uri = stand.put(&format!("doctor/{key}"), bytes);
        proxy.forget();
        let row = inspect(&mut client, &uri);
        assert_eq!(row.get::<_, i64>("size_bytes"), size);
        assert_eq!(row.get::<_, i64>("row_count"), ticks.len() as i64);
        assert_eq!(row.get::<_, i32>("row_groups"), ticks.len().div_ceil(100_000) as i32);
        assert_eq!(row.get::<_, Option<String>>("writer").as_deref(), Some("kit version 1"));
        assert_eq!(row.get::<_, Option<i64>>("time_from"), Some(ticks[0].event_time_us));
        assert_eq!(row.get::<_, Option<i64>>("time_to"), Some(ticks[ticks.len() - 1].event_time_us));
        assert_eq!(row.get::<_, Vec<String>>("codecs").len(), 1);
        assert_eq!((row.get::<_, i32>("columns"), row.get::<_, Option<String>>("problem")), (9, None));
        let etag = stand.s3.etag(BUCKET, &format!("doctor/{key}"));
        assert_eq!(row.get::<_, String>("etag"), etag.trim_matches('"'));
        assert_eq!((proxy.count("HEAD"), proxy.count("GET")), (1, 1));
        println!("{key}: {} of {size} bytes were read", proxy.bytes());
        assert!(proxy.bytes() <= 64 << 10 && size as u64 > 5 * proxy.bytes(), "{} of {size}", proxy.bytes());
    }
    let loads: i64 = client.query_one("SELECT count(*) FROM ingestion.objects", &[]).unwrap().get(0);
    assert_eq!(loads, 0);
}

#[test]
fn what_keeps_a_file_from_being_loaded_is_shown() {
    let db = Stand::shared().db();
    let mut client = db.client();
    let file = ParquetFile::new().without("price").rename("quantity", "size").without_statistics();
    let row = inspect(&mut client, &put("no price.parquet", file, &ticks(1)));
    let problem: String = row.get("problem");
    assert!(problem.contains("price is missing") && problem.contains("quantity is missing"), "{problem}");
    assert_eq!(row.get::<_, Option<i64>>("time_from"), None);
    assert!(row.get::<_, String>("used").contains("trade_id"));
}

#[test]
fn what_is_no_parquet_has_an_sqlstate_of_its_own() {
    let stand = Stand::shared();
    let db = stand.db();
    let mut client = db.client();
    let whole = ParquetFile::new().bytes(&ticks(1));
    let cases = [
        ("text.parquet", bytes::Bytes::from_static(b"event_time,price\n1,2\n"), "PQ002"),
        ("empty.parquet", bytes::Bytes::new(), "PQ001"),
        ("cut.parquet", whole.slice(..whole.len() / 2), "PQ003"),
        ("zeros.parquet", bytes::Bytes::from(vec![0; 1 << 20]), "PQ002"),
        ("two bytes.parquet", bytes::Bytes::from_static(b"PA"), "PQ002"),
    ];
    for (key, bytes, sqlstate) in cases {
        let uri = stand.put(&format!("doctor/{key}"), bytes);
        let error = client.query("SELECT * FROM btc_ingest.inspect_s3($1)", &[&uri]).unwrap_err();
        let refusal = Refusal::from(error);
        assert_eq!(refusal.sqlstate, sqlstate, "{refusal:?}");
        assert!(refusal.message.contains(&uri) && !refusal.hint.is_empty(), "{refusal:?}");
        assert_eq!(refused(&mut client, &uri, "", sqlstate), refusal, "a load says the same");
    }
}

// ── register_s3_slice and the registry ──────────────────────────────────────────────────────────────────────────────

/// Bucket, asset, uri and status of every registry row.
fn registry(client: &mut Client) -> Vec<(String, String, String, String)> {
    let sql = "SELECT to_char(bucket_5m, 'YYYY-MM-DD HH24:MI'), asset, s3_uri, status
                 FROM landing.raw_blobs_5m ORDER BY bucket_5m, asset";
    client.query(sql, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

fn line(bucket: &str, uri: &str, status: &str) -> (String, String, String, String) {
    (bucket.to_owned(), "BTCUSDT".to_owned(), uri.to_owned(), status.to_owned())
}

fn register(client: &mut Client, args: &str) -> Result<(Option<String>, String, String, String), Refusal> {
    let sql = format!(
        "SELECT to_char(registered_bucket, 'YYYY-MM-DD HH24:MI'), registered_asset, object_status, note
           FROM btc_ingest.register_s3_slice({args})"
    );
    let row = client.query_one(&sql, &[]).map_err(Refusal::from)?;
    Ok((row.get(0), row.get(1), row.get(2), row.get(3)))
}

#[test]
fn a_slice_is_registered_in_the_bucket_that_is_named_without_asking_s3() {
    let db = Stand::shared().db();
    let silence = TcpListener::bind("127.0.0.1:0").unwrap();
    silence.set_nonblocking(true).unwrap();
    let mut client = session(&db, &format!("http://{}", silence.local_addr().unwrap()), &[]);
    let uri = "s3://landing/not/there/yet.parquet";
    let args = format!("'{uri}', 'BTCUSDT', '2024-08-08 12:07:31+00', '{{\"rows\": 3}}'");
    let registered = register(&mut client, &args).unwrap();
    let expected = (Some("2024-08-08 12:05".into()), "BTCUSDT".into(), "pending".into(), "registered".into());
    assert_eq!(registered, expected);
    assert_eq!(registry(&mut client), [line("2024-08-08 12:05", uri, "pending")]);
    let row = client.query_one("SELECT s3_uri, status, metadata ->> 'rows' FROM ingestion.objects", &[]).unwrap();
    let (object, status, rows): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((object.as_str(), status.as_str(), rows.as_str()), (uri, "pending", "3"));
    // Twice is once.
    register(&mut client, &args).unwrap();
    assert_eq!(registry(&mut client).len(), 1);
    assert!(silence.accept().is_err());
}

#[test]
fn a_slice_is_registered_in_the_bucket_that_its_footer_tells() {
    let stand = Stand::shared();
    let db = stand.db();
    let proxy = FaultProxy::before(&stand.s3);
    let mut client = session(&db, &proxy.endpoint(), &[]);
    let uri = put("by footer.parquet", ParquetFile::new(), &ticks(2));
    let registered = register(&mut client, &format!("'{uri}', 'BTCUSDT'")).unwrap();
    assert_eq!(registered.0.as_deref(), Some("2024-08-08 12:00"));
    assert_eq!((proxy.count("HEAD"), proxy.count("GET")), (1, 1));

    let uri = put("no statistics.parquet", ParquetFile::new().without_statistics(), &ticks(1));
    let refusal = register(&mut client, &format!("'{uri}', 'BTCUSDT'")).unwrap_err();
    assert_eq!(refusal.sqlstate, "TK002");
    assert!(refusal.message.contains("\"bucket_5m\"") && refusal.message.contains("no statistics"), "{refusal:?}");
    let refusal = register(&mut client, &format!("'{uri}', ''")).unwrap_err();
    assert!(refusal.sqlstate == "TK002" && refusal.message.contains("\"asset\""), "{refusal:?}");
    assert_eq!(registry(&mut client).len(), 1);
}

#[test]
fn a_second_object_of_a_bucket_is_registered_beside_the_first() {
    let db = Stand::shared().db();
    let mut client = db.client();
    let all = ticks(1);
    let (one, two) = all.split_at(all.len() / 2);
    let first = put("beside/first.parquet", ParquetFile::new(), one);
    let second = put("beside/second.parquet", ParquetFile::new(), two);
    register(&mut client, &format!("'{first}', 'BTCUSDT'")).unwrap();
    let registered = register(&mut client, &format!("'{second}', 'BTCUSDT'")).unwrap();
    assert!(registered.3.contains(&first) && registered.3.contains("beside it"), "{registered:?}");
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &first, "pending")]);

    // The row is loaded when its own object is.
    loaded(&mut client, &second, "");
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &first, "pending")]);
    loaded(&mut client, &first, "");
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &first, "loaded")]);
    let sql = "SELECT count(*) FROM ingestion.object_slices";
    assert_eq!(client.query_one(sql, &[]).unwrap().get::<_, i64>(0), 2);
}

#[test]
fn a_producers_row_is_pending_until_its_object_is_loaded_and_again_when_it_is_replaced() {
    let db = Stand::shared().db();
    let producer = format!("producer_{}", db.name());
    let mut client = db.client();
    client.batch_execute(&format!("CREATE ROLE {producer} LOGIN; GRANT btc_ingest_loader TO {producer}")).unwrap();
    let mut producer = db.client_as(&producer);
    let all = ticks(1);
    let (bytes, rows) = (ParquetFile::new().created_by("kit version 2").bytes(&all), all.len());
    let size = bytes.len() as i64;
    let uri = Stand::shared().put("doctor/producer.parquet", bytes);
    let noon = time_text(all[0].bucket_us(), "%Y-%m-%d %H:%M:%S+00");
    let upsert = |uri: &str| {
        format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes, metadata)
             VALUES ('{noon}', 'BTCUSDT', '{uri}', NULL, '{{\"exchange\": \"kit\", \"batch\": 7}}')
             ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri"
        )
    };
    producer.batch_execute(&upsert(&uri)).unwrap();
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &uri, "pending")]);

    loaded(&mut client, &uri, "");
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &uri, "loaded")]);
    let row = client
        .query_one(
            "SELECT object_size_bytes, ingested_tick_span::text, loaded_at IS NOT NULL, created_at IS NOT NULL,
                    metadata ->> 'etag', metadata ->> 'writer', metadata ->> 'schema_fingerprint',
                    (metadata ->> 'row_count')::bigint, metadata ->> 'batch'
               FROM landing.raw_blobs_5m",
            &[],
        )
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), size);
    let from = "SELECT tsrange(min(event_time) AT TIME ZONE 'UTC', max(event_time) AT TIME ZONE 'UTC', '[]')::text
                  FROM market_data.btc_ticks";
    assert_eq!(row.get::<_, String>(1), client.query_one(from, &[]).unwrap().get::<_, String>(0));
    assert!(row.get::<_, bool>(2) && row.get::<_, bool>(3));
    let etag = Stand::shared().s3.etag(BUCKET, "doctor/producer.parquet");
    assert_eq!(row.get::<_, String>(4), etag.trim_matches('"'));
    assert_eq!(row.get::<_, String>(5), "kit version 2");
    assert_eq!(row.get::<_, String>(6), inspect(&mut client, &uri).get::<_, String>("schema_fingerprint"));
    assert_eq!((row.get::<_, i64>(7), row.get::<_, String>(8)), (rows as i64, "7".to_owned()));
    // The producer's keys went into the load.
    let sources = "SELECT string_agg(source, ',') FROM ingestion.stream_offsets";
    assert_eq!(client.query_one(sources, &[]).unwrap().get::<_, String>(0), "s3:kit:BTCUSDT");

    // The same object upserted again: pending, and loaded by one HEAD, with what is known of it.
    producer.batch_execute(&upsert(&uri)).unwrap();
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &uri, "pending")]);
    assert_eq!(loaded(&mut client, &uri, "").outcome, "already loaded");
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &uri, "loaded")]);

    // Another object in its place: pending until that one is loaded, whatever becomes of the first.
    let more = Generator::new(1, "BTCUSDT", time_us(NOON), 1).per_second(2.0).next_slice();
    let other = put("producer, second.parquet", ParquetFile::new(), &more[..rows / 2]);
    producer.batch_execute(&upsert(&other)).unwrap();
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &other, "pending")]);
    let sql = "SELECT object_size_bytes, loaded_at IS NULL FROM landing.raw_blobs_5m";
    let row = client.query_one(sql, &[]).unwrap();
    assert_eq!((row.get::<_, Option<i64>>(0), row.get::<_, bool>(1)), (None, true));
    loaded(&mut client, &uri, "force => true");
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &other, "pending")]);
    loaded(&mut client, &other, "");
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &other, "loaded")]);

    // Other columns are the producer's to change, without making it pending.
    producer.batch_execute("UPDATE landing.raw_blobs_5m SET metadata = metadata || '{\"seen\": true}'").unwrap();
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &other, "loaded")]);
}

#[test]
fn what_a_producer_said_of_one_object_is_not_held_against_the_next() {
    let db = Stand::shared().db();
    let mut client = db.client();
    let all = ticks(1);
    let first = put("claims, first.parquet", ParquetFile::new(), &all);
    let second = put("claims, second.parquet", ParquetFile::new(), &all[..all.len() / 2]);
    let register = |uri: &str, metadata: &str| {
        format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
             VALUES ('2024-08-08 12:00Z', 'BTCUSDT', '{uri}', '{metadata}')
             ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri"
        )
    };
    client.batch_execute(&register(&first, &format!("{{\"rows\": {}, \"exchange\": \"kit\"}}", all.len()))).unwrap();
    // Never loaded, another object: the claim about the first one goes, the other keys stay.
    client.batch_execute(&register(&second, "{}")).unwrap();
    assert_eq!(loaded(&mut client, &second, "").outcome, "loaded");
    let sql = "SELECT metadata ->> 'rows', metadata ->> 'exchange', metadata ->> 'row_count' FROM landing.raw_blobs_5m";
    let row = client.query_one(sql, &[]).unwrap();
    assert_eq!(row.get::<_, Option<String>>(0), None);
    assert_eq!(row.get::<_, String>(1), "kit");
    assert_eq!(row.get::<_, String>(2), (all.len() / 2).to_string());
}

#[test]
fn what_a_producer_says_of_an_object_must_be_true() {
    let stand = Stand::shared();
    let db = stand.db();
    let mut client = db.client();
    let all = ticks(1);
    let bytes = ParquetFile::new().bytes(&all);
    let (rows, size) = (all.len(), bytes.len());
    let uri = stand.put("doctor/claims.parquet", bytes);
    // The SDK of the tests knows no digest of its own, PostgreSQL does.
    let file = stand.s3.root().join(BUCKET).join("doctor/claims.parquet");
    let content = std::fs::read(file).unwrap();
    let sha256: String = client.query_one("SELECT encode(sha256($1), 'hex')", &[&content.as_slice()]).unwrap().get(0);

    let wrong = [
        ("NULL", format!("{{\"rows\": {}}}", rows + 1), "rows"),
        ("NULL", format!("{{\"object_size_bytes\": {}}}", size + 1), "object_size_bytes"),
        ("NULL", format!("{{\"sha256\": \"{}\"}}", "0".repeat(64)), "sha256"),
        ("1", "{}".to_owned(), "object_size_bytes"),
    ];
    for (size_column, metadata, what) in wrong {
        client
            .batch_execute(&format!(
                "BEGIN; INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes, metadata)
                 VALUES ('{NOON}', 'BTCUSDT', '{uri}', {size_column}, '{metadata}'); SAVEPOINT s"
            ))
            .unwrap();
        let refusal = refused(&mut client, &uri, "", "TK003");
        assert!(refusal.message.contains(&format!("{what} is ")), "{refusal:?}");
        client.batch_execute("ROLLBACK").unwrap();
        // The same by the function.
        if size_column == "NULL" {
            client.batch_execute("BEGIN").unwrap();
            register(&mut client, &format!("'{uri}', 'BTCUSDT', metadata => '{metadata}'")).unwrap();
            client.batch_execute("SAVEPOINT s").unwrap();
            refused(&mut client, &uri, "", "TK003");
            client.batch_execute("ROLLBACK").unwrap();
        }
    }
    let right =
        format!("{{\"rows\": {rows}, \"object_size_bytes\": {size}, \"sha256\": \"{}\"}}", sha256.to_uppercase());
    client
        .batch_execute(&format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes, metadata)
             VALUES ('{NOON}', 'BTCUSDT', '{uri}', {size}, '{right}')"
        ))
        .unwrap();
    assert_eq!(loaded(&mut client, &uri, "").inserted as usize, rows);
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &uri, "loaded")]);
}
