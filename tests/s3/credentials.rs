//! https and credentials.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use btc_ingest_kit::sql::{text, wait_until_true};

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

    // If S3 does not know the role's new keys, the error shows neither pair. They were fetched once more.
    server.revoke("ROLEKEY2");
    let refusal = refused(&mut client, &uris[1], "force => true", "S3017");
    assert!(refusal.message.contains("InvalidAccessKeyId"), "{refusal:?}");
    assert_eq!(imds.handed_out(), 3);
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

/// Makes a cluster whose worker reads the keys from a profile's file.
fn cluster_with_profile(server: &S3Server, access: &str, secret: &str) -> (Cluster, PathBuf) {
    let cluster = Cluster::builder()
        .preload("btc_ingest")
        .setting("btc_ingest.database", "postgres")
        .setting("btc_ingest.retry_backoff", "50ms")
        .setting("btc_ingest.retry_backoff_max", "200ms")
        .reading_s3(BUCKET, &server.endpoint())
        .start();
    let file = cluster.dir().join("aws-credentials");
    write_profile(&file, access, secret);
    cluster.set_env("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap());
    cluster.restart();
    cluster.install_extension("postgres");
    (cluster, file)
}

fn write_profile(file: &Path, access: &str, secret: &str) {
    let text = format!("[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n");
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn keys_that_are_rotated_in_a_profiles_file_are_taken_without_a_restart() {
    let server = S3Server::start("PROFILEKEY1", "profile-secret-1");
    server.create_bucket(BUCKET);
    let (cluster, file) = cluster_with_profile(&server, "PROFILEKEY1", "profile-secret-1");
    let mut client = cluster.client("postgres");
    let mut generator = Generator::new(12, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).per_second(0.3);
    let mut all = Vec::new();
    let mut put = |key: &str| {
        let ticks = generator.next_slice();
        let uri = server.put(BUCKET, key, ParquetFile::new().bytes(&ticks));
        all.extend(ticks);
        uri
    };
    let register = |client: &mut Client, uri: &str| {
        client.query("SELECT btc_ingest.discover('s3://landing/')", &[]).unwrap();
        wait_until_true(
            client,
            &format!("an attempt at {uri}"),
            &format!("SELECT attempts > 0 OR status = 'loaded' FROM ingestion.objects WHERE s3_uri = '{uri}'"),
        );
    };
    let first = put("a.parquet");
    register(&mut client, &first);

    // The worker, which has a connection, meets keys that S3 no longer knows, and finds the new ones in the file.
    server.allow("PROFILEKEY2", "profile-secret-2");
    write_profile(&file, "PROFILEKEY2", "profile-secret-2");
    server.revoke("PROFILEKEY1");
    let second = put("b.parquet");
    register(&mut client, &second);
    wait_until_true(
        &mut client,
        "both",
        "SELECT count(*) = 2 FROM ingestion.objects WHERE status = 'loaded' AND attempts <= 1",
    );
    let failed = "SELECT count(*)::text FROM ingestion.load_history WHERE sqlstate IS NOT NULL";
    assert_eq!(text(&mut client, failed), "0");

    // Until the file has keys that S3 knows, no object is given up.
    server.revoke("PROFILEKEY2");
    let third = put("c.parquet");
    refused(&mut client, &third, "", "S3017");
    server.allow("PROFILEKEY3", "profile-secret-3");
    write_profile(&file, "PROFILEKEY3", "profile-secret-3");
    register(&mut client, &third);
    wait_until_true(&mut client, "all", "SELECT count(*) = 3 FROM ingestion.objects WHERE status = 'loaded'");
    stored(&mut client).must_be(&Sums::of(&all), "three objects under three pairs of keys");
    for secret in ["profile-secret-1", "profile-secret-2", "profile-secret-3"] {
        assert!(!cluster.log().contains(secret));
    }
}

#[test]
fn a_token_of_an_instance_role_that_has_ended_is_replaced_while_the_worker_runs() {
    let imds = FakeImds::start("ROLEKEY1", "role-secret-1", "role-token-1");
    let server = S3Server::start("OTHERKEY", "other-secret");
    server.keys().allow_with_token("ROLEKEY1", "role-secret-1", "role-token-1");
    server.create_bucket(BUCKET);
    let cluster = Cluster::builder()
        .env("AWS_EC2_METADATA_DISABLED", "false")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.endpoint())
        .preload("btc_ingest")
        .setting("btc_ingest.database", "postgres")
        .reading_s3(BUCKET, &server.endpoint())
        .start();
    cluster.install_extension("postgres");
    let mut client = cluster.client("postgres");
    let mut generator = Generator::new(13, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).per_second(0.3);
    for key in ["a.parquet", "b.parquet"] {
        server.put(BUCKET, key, ParquetFile::new().bytes(&generator.next_slice()));
        client.query("SELECT btc_ingest.discover('s3://landing/')", &[]).unwrap();
        wait_until_true(
            &mut client,
            key,
            &format!("SELECT status = 'loaded' AND attempts <= 1 FROM ingestion.objects WHERE s3_uri ~ '{key}'"),
        );
        // S3 answers 'InvalidToken' to the old one, although its time is not over.
        imds.rotate("ROLEKEY1", "role-secret-1", "role-token-2");
        server.keys().allow_with_token("ROLEKEY1", "role-secret-1", "role-token-2");
    }
    let failed = "SELECT count(*)::text FROM ingestion.load_history WHERE sqlstate IS NOT NULL";
    assert_eq!(text(&mut client, failed), "0");
}
