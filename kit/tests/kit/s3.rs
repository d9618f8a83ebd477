//! The S3 server.

use super::*;

#[test]
fn objects_are_stored_read_in_ranges_listed_and_removed() {
    let server = server();
    let user = user(&server.endpoint());
    let uri = server.put("landing", "a/b.bin", "0123456789");
    assert_eq!(uri, "s3://landing/a/b.bin");
    assert_eq!(user.get("landing", "a/b.bin").unwrap(), "0123456789");
    assert_eq!(user.get_range("landing", "a/b.bin", 2..5).unwrap(), "234");
    assert_eq!(user.head("landing", "a/b.bin").unwrap().size, 10);
    assert_eq!(user.list("landing", "a/").unwrap(), ["a/b.bin"]);
    server.delete("landing", "a/b.bin");
    assert!(user.get("landing", "a/b.bin").unwrap_err().contains("NoSuchKey"));
    assert_eq!((server.count("GET"), server.count("HEAD"), server.count("PUT")), (4, 1, 0));
}

#[test]
fn an_etag_changes_with_the_content_and_only_with_it() {
    let server = server();
    server.put("landing", "a", "one");
    let one = server.etag("landing", "a");
    assert!(one.starts_with('"') && one.ends_with('"'), "{one}");
    server.put("landing", "a", "two");
    assert_ne!(server.etag("landing", "a"), one);
    server.put("landing", "a", "one");
    assert_eq!(server.etag("landing", "a"), one);
}

#[test]
fn wrong_and_revoked_keys_are_refused() {
    let server = server();
    server.put("landing", "a", "one");
    let stranger = S3Client::new(&server.endpoint(), "ACCESS", "wrong", None);
    assert!(stranger.get("landing", "a").unwrap_err().contains("SignatureDoesNotMatch"));
    let user = user(&server.endpoint());
    assert!(user.get("landing", "a").is_ok());
    server.revoke("ACCESS");
    assert!(user.get("landing", "a").unwrap_err().contains("InvalidAccessKeyId"));
    server.keys().allow_with_token("ACCESS", "secret", "token");
    assert!(user.get("landing", "a").unwrap_err().contains("InvalidToken"));
    server.allow("ACCESS", "secret");
    assert!(user.get("landing", "a").is_ok());
}

#[test]
fn a_server_over_tls_is_trusted_by_its_own_authority_only() {
    let server = S3Server::https("ACCESS", "secret");
    server.create_bucket("landing");
    server.put("landing", "a", "one");
    let ca = std::fs::read_to_string(server.ca_file()).unwrap();
    let trusting = S3Client::new(&server.endpoint(), "ACCESS", "secret", Some(&ca));
    assert_eq!(trusting.get("landing", "a").unwrap(), "one");
    let other = S3Server::https("ACCESS", "secret");
    let ca = std::fs::read_to_string(other.ca_file()).unwrap();
    let stranger = S3Client::new(&server.endpoint(), "ACCESS", "secret", Some(&ca));
    assert!(stranger.get("landing", "a").unwrap_err().contains("certificate"));
}
