//! register_s3_slice() and the registry.

use super::*;

/// Returns bucket, asset, uri and status of every registry row.
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
    let db = ServerFixture::shared().db();
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
    // To register it twice changes nothing.
    register(&mut client, &args).unwrap();
    assert_eq!(registry(&mut client).len(), 1);
    assert!(silence.accept().is_err());
}

#[test]
fn a_slice_is_registered_in_the_bucket_that_its_footer_tells() {
    let server = ServerFixture::shared();
    let db = server.db();
    let proxy = FaultProxy::before(&server.s3);
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
    let db = ServerFixture::shared().db();
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

/// Checks that the registry row tells size, span, etag, writer, fingerprint and rows of the object that was loaded.
#[track_caller]
fn must_tell_what_was_loaded(client: &mut Client, uri: &str, size: i64, rows: usize) {
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
    let etag = ServerFixture::shared().s3.etag(BUCKET, uri.strip_prefix("s3://landing/").unwrap());
    assert_eq!(row.get::<_, String>(4), etag.trim_matches('"'));
    assert_eq!(row.get::<_, String>(5), "kit version 2");
    assert_eq!(row.get::<_, String>(6), super::inspect::inspect(client, uri).get::<_, String>("schema_fingerprint"));
    assert_eq!((row.get::<_, i64>(7), row.get::<_, String>(8)), (rows as i64, "7".to_owned()));
}

#[test]
fn a_producers_row_is_pending_until_its_object_is_loaded_and_again_when_it_is_replaced() {
    let db = ServerFixture::shared().db();
    let producer = format!("producer_{}", db.name());
    let mut client = db.client();
    client.batch_execute(&format!("CREATE ROLE {producer} LOGIN; GRANT btc_ingest_loader TO {producer}")).unwrap();
    let mut producer = db.client_as(&producer);
    let all = ticks(1);
    let (bytes, rows) = (ParquetFile::new().created_by("kit version 2").bytes(&all), all.len());
    let size = bytes.len() as i64;
    let uri = ServerFixture::shared().put("doctor/producer.parquet", bytes);
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
    must_tell_what_was_loaded(&mut client, &uri, size, rows);
    // The load has used the producer's keys.
    let sources = "SELECT string_agg(source, ',') FROM ingestion.stream_offsets";
    assert_eq!(client.query_one(sources, &[]).unwrap().get::<_, String>(0), "s3:kit:BTCUSDT");

    // The same object is upserted again: it is pending, and one HEAD is enough to find it loaded.
    producer.batch_execute(&upsert(&uri)).unwrap();
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &uri, "pending")]);
    assert_eq!(loaded(&mut client, &uri, "").outcome, "already loaded");
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &uri, "loaded")]);

    // Another object in its place: pending until that one is loaded, also when the first one is loaded.
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

    // A producer may change the other columns, which does not make the row pending.
    producer.batch_execute("UPDATE landing.raw_blobs_5m SET metadata = metadata || '{\"seen\": true}'").unwrap();
    assert_eq!(registry(&mut client), [line("2024-08-08 12:00", &other, "loaded")]);
}

#[test]
fn what_a_producer_said_of_one_object_is_not_held_against_the_next() {
    let db = ServerFixture::shared().db();
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
    // Another object replaces one that was never loaded: the claim about the first one goes, the other keys stay.
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
    let server = ServerFixture::shared();
    let db = server.db();
    let mut client = db.client();
    let all = ticks(1);
    let bytes = ParquetFile::new().bytes(&all);
    let (rows, size) = (all.len(), bytes.len());
    let uri = server.put("doctor/claims.parquet", bytes);
    // PostgreSQL computes the digest, because the tests' SDK offers none.
    let file = server.s3.root().join(BUCKET).join("doctor/claims.parquet");
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
        // The function does the same.
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
