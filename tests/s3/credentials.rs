//! https and credentials.

use super::*;

#[test]
fn https_with_an_authority_of_ones_own_works_once_it_is_trusted() {
    let server = S3Server::https(ACCESS, SECRET);
    server.create_bucket(BUCKET);
    let (bytes, sums) = small(9);
    let uri = server.put(BUCKET, "secure.parquet", bytes);
    let db = ServerFixture::shared().db();

    let mut stranger = session(&db, &server.endpoint(), &[("btc_ingest.s3_max_attempts", "1")]);
    let refusal = refused(&mut stranger, &uri, "", "S3007");
    assert!(refusal.message.to_lowercase().contains("certificate"), "{refusal:?}");
    assert!(refusal.hint.contains("btc_ingest.s3_ca_file"), "{refusal:?}");

    // Another authority is as bad as none.
    let other = S3Server::https(ACCESS, SECRET);
    let ca = other.ca_file().to_str().unwrap();
    stranger.batch_execute(&format!("SET btc_ingest.s3_ca_file = '{ca}'")).unwrap();
    refused(&mut stranger, &uri, "", "S3007");
    assert_eq!(server.requests().len(), 0);

    let ca = server.ca_file().to_str().unwrap();
    let mut client = session(&db, &server.endpoint(), &[("btc_ingest.s3_ca_file", ca)]);
    loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&sums, "over https");
}

#[test]
fn a_ca_file_that_is_none_is_s3014_and_named() {
    let server = S3Server::https(ACCESS, SECRET);
    let db = ServerFixture::shared().db();
    let dir = server.ca_file().parent().unwrap().to_owned();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).unwrap();
        dir.join(name).to_str().unwrap().to_owned()
    };
    let cases = [
        dir.join("missing.pem").to_str().unwrap().to_owned(),
        file("empty.pem", ""),
        file("text.pem", "no certificate at all"),
        file("broken.pem", "-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n"),
        file("hollow.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        file("open.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"),
    ];
    for ca in cases {
        let mut client = session(&db, &server.endpoint(), &[("btc_ingest.s3_ca_file", &ca)]);
        let refusal = refused(&mut client, "s3://landing/x.parquet", "", "S3014");
        assert!(refusal.message.contains("btc_ingest.s3_ca_file") && refusal.message.contains(&ca), "{refusal:?}");
        client.query_one("SELECT 1", &[]).unwrap();
    }
}

#[test]
fn credentials_of_an_instance_role_may_rotate_between_two_loads() {
    let imds = FakeImds::start("ROLEKEY1", "role-secret-1", "role-token-1");
    let server = S3Server::start("OTHERKEY", "other-secret");
    server.keys().allow_with_token("ROLEKEY1", "role-secret-1", "role-token-1");
    server.create_bucket(BUCKET);
    let (first, second) = (small(10), small(11));
    let uris = [server.put(BUCKET, "first.parquet", first.0), server.put(BUCKET, "second.parquet", second.0)];
    let cluster = Cluster::builder()
        .env("AWS_EC2_METADATA_DISABLED", "false")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.endpoint())
        .setting("btc_ingest.allowed_prefixes", "s3://landing")
        .setting("btc_ingest.s3_endpoint", &server.endpoint())
        .setting("btc_ingest.s3_force_path_style", "on")
        .start();
    let db = TestDb::with_extension(&cluster);
    let mut client = db.client();

    let report = loaded(&mut client, &uris[0], "");
    assert_eq!(report.inserted as u64, first.1.rows);
    assert_eq!(imds.handed_out(), 1);

    imds.rotate("ROLEKEY2", "role-secret-2", "role-token-2");
    server.keys().allow_with_token("ROLEKEY2", "role-secret-2", "role-token-2");
    server.revoke("ROLEKEY1");
    let report = loaded(&mut client, &uris[1], r#"options => '{"symbol": "SECOND"}'"#);
    assert_eq!(report.inserted as u64, second.1.rows);
    assert_eq!(imds.handed_out(), 2);

    // If S3 does not know the role's new keys, the error shows neither pair.
    server.revoke("ROLEKEY2");
    let refusal = refused(&mut client, &uris[1], "force => true", "S3005");
    for text in [format!("{refusal:?}"), cluster.log()] {
        for secret in ["role-secret", "role-token"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn a_server_without_credentials_is_s3013() {
    let cluster = Cluster::builder().setting("btc_ingest.allowed_prefixes", "s3://landing").start();
    let db = TestDb::with_extension(&cluster);
    let silence = SilentEndpoint::new();
    let mut client = session(&db, &silence.endpoint(), &[]);
    let refusal = refused(&mut client, "s3://landing/x.parquet", "", "S3013");
    assert!(refusal.message.contains("s3://landing/x.parquet: no AWS credentials"), "{refusal:?}");
    assert!(refusal.detail.contains("have none") && refusal.hint.contains("instance role"), "{refusal:?}");
    silence.must_be_unused();
}
