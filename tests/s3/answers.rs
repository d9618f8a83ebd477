//! What S3 answers.

use super::*;

#[test]
fn a_missing_bucket_is_s3003() {
    let fixture = S3Fixture::new();
    // The server of these tests says NoSuchKey here, unlike S3.
    fixture.proxy.on(When::any().key("/no-such-bucket/"), Fault::answer(404, "NoSuchBucket"));
    let allowed = [("btc_ingest.allowed_prefixes", "s3://landing, s3://no-such-bucket")];
    let refusal = fixture.refuses(&allowed, "s3://no-such-bucket/x.parquet", "S3003");
    assert!(refusal.message.contains("\"no-such-bucket\" does not exist"), "{refusal:?}");
}

#[test]
fn a_missing_key_is_s3004() {
    let fixture = S3Fixture::new();
    fixture.refuses(&[], "s3://landing/no/such/key.parquet", "S3004");
}

#[test]
fn a_wrong_secret_is_s3005() {
    // The same user, but this server knows another secret.
    let other = S3Server::start(ACCESS, "not-what-the-cluster-has");
    other.create_bucket(BUCKET);
    let uri = other.put(BUCKET, "x.parquet", small(1).0);
    let fixture = S3Fixture { db: ServerFixture::shared().db(), proxy: FaultProxy::before(&other) };
    let refusal = fixture.refuses(&[], &uri, "S3005");
    assert!(refusal.message.contains("403, SignatureDoesNotMatch"), "{refusal:?}");
}

#[test]
fn a_policy_that_denies_is_s3005() {
    let fixture = S3Fixture::new();
    let uri = ServerFixture::shared().put("denied.parquet", small(1).0);
    let head = fixture.proxy.on(When::head(), Fault::access_denied());
    let get = fixture.proxy.on(When::get(), Fault::access_denied());
    let refusal = fixture.refuses(&[], &uri, "S3005");
    assert!(refusal.message.contains("403, AccessDenied"), "{refusal:?}");
    // The SDK does not repeat a refused request.
    assert_eq!((fixture.proxy.acted(head), fixture.proxy.acted(get)), (0, 1));
    fixture.proxy.clear();

    // For a loaded object, the GET only reads the reason: a HEAD's answer has no body.
    let mut client = fixture.session(&[]);
    loaded(&mut client, &uri, "");
    let head = fixture.proxy.on(When::head(), Fault::access_denied());
    let get = fixture.proxy.on(When::get(), Fault::access_denied());
    let refusal = refused(&mut client, &uri, "", "S3005");
    assert!(refusal.message.contains("403, AccessDenied"), "{refusal:?}");
    assert_eq!((fixture.proxy.acted(head), fixture.proxy.acted(get)), (1, 1));
}

#[test]
fn another_region_is_s3006_and_named() {
    let fixture = S3Fixture::new();
    let uri = ServerFixture::shared().put("elsewhere.parquet", small(1).0);
    for fault in [Fault::moved_to("eu-central-1"), Fault::wrong_region("eu-central-1")] {
        fixture.proxy.on(When::any(), fault);
        let refusal = fixture.refuses(&[], &uri, "S3006");
        assert!(refusal.message.contains("not in region \"us-east-1\""), "{refusal:?}");
        assert_eq!(refusal.detail, "S3 says that it is in \"eu-central-1\".");
        assert_eq!(refusal.hint, "Set btc_ingest.s3_region to the bucket's region.");
        fixture.proxy.clear();
    }
}

#[test]
fn a_server_that_stays_overloaded_is_s3009() {
    let fixture = S3Fixture::new();
    let uri = ServerFixture::shared().put("overloaded.parquet", small(1).0);
    let rule = fixture.proxy.on(When::any(), Fault::slow_down());
    let refusal = fixture.refuses(&[("btc_ingest.s3_max_attempts", "2")], &uri, "S3009");
    assert!(refusal.message.contains("503, SlowDown"), "{refusal:?}");
    assert_eq!(fixture.proxy.acted(rule), 2);
    fixture.proxy.clear();

    // For a loaded object: two HEADs, and two GETs that read the reason.
    let mut client = fixture.session(&[("btc_ingest.s3_max_attempts", "2")]);
    loaded(&mut client, &uri, "");
    let rule = fixture.proxy.on(When::any(), Fault::slow_down());
    refused(&mut client, &uri, "", "S3009");
    assert_eq!(fixture.proxy.acted(rule), 4);
}

#[test]
fn an_overloaded_server_is_asked_again() {
    let fixture = S3Fixture::new();
    let (bytes, sums) = small(2);
    let uri = ServerFixture::shared().put("slow-down-twice.parquet", bytes);
    let slow = fixture.proxy.on(When::get().times(1), Fault::slow_down());
    let broken = fixture.proxy.on(When::head().times(1), Fault::internal_error());
    let mut client = fixture.session(&[]);
    loaded(&mut client, &uri, "");
    loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&sums, "after two repetitions");
    assert_eq!((fixture.proxy.acted(slow), fixture.proxy.acted(broken)), (1, 1));
    assert_eq!((fixture.proxy.count("HEAD"), fixture.proxy.count("GET")), (2, 2));

    // The same request twice in a row.
    let twice = fixture.proxy.on(When::get().times(2), Fault::slow_down());
    let report = loaded(&mut client, &uri, "force => true");
    assert_eq!((report.duplicate as u64, fixture.proxy.acted(twice)), (sums.rows, 2));
}
