//! inspect_s3().

use super::*;

pub fn inspect(client: &mut Client, uri: &str) -> Row {
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
    let server = ServerFixture::shared();
    let db = server.db();
    let proxy = FaultProxy::before(&server.s3);
    let mut client = session(&db, &proxy.endpoint(), &[]);
    // A few hundred kilobytes, and tens of megabytes.
    let many = Generator::new(2, "BTCUSDT", time_us(NOON), 1).per_second(500.0).next_slices(2);
    let plain = ParquetFile::new().plain().codec(Compression::UNCOMPRESSED).row_group_rows(100_000);
    for (key, ticks) in [("modest.parquet", &many[..10_000]), ("huge.parquet", &many[..])] {
        let bytes = plain.clone().created_by("kit version 1").bytes(ticks);
        let size = bytes.len() as i64;
        let uri = server.put(&format!("doctor/{key}"), bytes);
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
        let etag = server.s3.etag(BUCKET, &format!("doctor/{key}"));
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
    let db = ServerFixture::shared().db();
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
    let server = ServerFixture::shared();
    let db = server.db();
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
        let uri = server.put(&format!("doctor/{key}"), bytes);
        let error = client.query("SELECT * FROM btc_ingest.inspect_s3($1)", &[&uri]).unwrap_err();
        let refusal = Refusal::from(error);
        assert_eq!(refusal.sqlstate, sqlstate, "{refusal:?}");
        assert!(refusal.message.contains(&uri) && !refusal.hint.is_empty(), "{refusal:?}");
        assert_eq!(refused(&mut client, &uri, "", sqlstate), refusal, "a load says the same");
    }
}
