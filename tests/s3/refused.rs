//! What is refused before a request is sent.

use super::*;

#[test]
fn a_uri_that_may_not_be_read_is_refused_before_any_connection() {
    let db = ServerFixture::shared().db();
    let silence = SilentEndpoint::new();
    let cases = [
        ("s3://elsewhere/x.parquet", "S3002"),
        ("s3://landing/BTCUSDT/x.parquet", "S3002"),
        ("s3://landing-2/BTC/x.parquet", "S3002"),
        ("s3://landing/BTC/x.parquet?versionId=1", "S3001"),
        ("s3://landing/BTC/x.parquet#part", "S3001"),
        ("http://landing/BTC/x.parquet", "S3001"),
        ("https://127.0.0.1/landing/BTC/x.parquet", "S3001"),
        ("file:///etc/passwd", "S3001"),
        ("s3a://landing/BTC/x.parquet", "S3001"),
        ("s3://landing/BTC/../x.parquet", "S3001"),
        ("s3://landing/BTC/", "S3001"),
        ("s3://landing", "S3001"),
        ("", "S3001"),
    ];
    let mut client = session(&db, &silence.endpoint(), &[("btc_ingest.allowed_prefixes", "s3://landing/BTC")]);
    for (uri, sqlstate) in cases {
        for sql in [
            "SELECT * FROM btc_ingest.load_s3_slice($1)",
            "SELECT * FROM btc_ingest.inspect_s3($1)",
            "SELECT * FROM btc_ingest.register_s3_slice($1, 'BTCUSDT')",
        ] {
            let refusal = Refusal::from(client.query(sql, &[&uri]).unwrap_err());
            assert_eq!(refusal.sqlstate, sqlstate, "{sql} {uri}: {refusal:?}");
            assert!(refusal.message.contains(uri) && !refusal.hint.is_empty(), "{refusal:?}");
            if sqlstate == "S3002" {
                assert_eq!(refusal.detail, "Allowed are: s3://landing/BTC.");
            }
        }
    }
    silence.must_be_unused();
    assert_eq!(traces(&mut client), []);
}

#[test]
fn an_empty_list_allows_nothing() {
    let db = ServerFixture::shared().db();
    let silence = SilentEndpoint::new();
    let mut client = session(&db, &silence.endpoint(), &[("btc_ingest.allowed_prefixes", "")]);
    let refusal = refused(&mut client, "s3://landing/x.parquet", "", "S3002");
    assert_eq!(refusal.detail, "btc_ingest.allowed_prefixes is empty, which denies every uri.");
    assert!(refusal.hint.contains("ALTER SYSTEM SET btc_ingest.allowed_prefixes"), "{refusal:?}");
    silence.must_be_unused();
}

#[test]
fn a_null_uri_is_refused() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let error = client.query("SELECT * FROM btc_ingest.load_s3_slice(NULL)", &[]).unwrap_err();
    assert_eq!(Refusal::from(error).sqlstate, "S3001");
}
