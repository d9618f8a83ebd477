//! Faults of the proxy.

use super::*;

#[test]
fn the_proxy_passes_signed_requests_and_notes_them() {
    let server = server();
    server.put("landing", "a/b.bin", "0123456789");
    let proxy = FaultProxy::before(&server);
    let user = user(&proxy.endpoint());
    assert_eq!(user.get_range("landing", "a/b.bin", 2..5).unwrap(), "234");
    assert_eq!(user.head("landing", "a/b.bin").unwrap().size, 10);
    user.put("landing", "c", "new").unwrap();
    assert_eq!(user.get("landing", "c").unwrap(), "new");
    let seen = proxy.requests();
    assert_eq!(seen[0].range.as_deref(), Some("bytes=2-4"));
    assert!(seen[0].path.starts_with("/landing/a/b.bin"));
    assert_eq!((proxy.count("GET"), proxy.count("HEAD"), proxy.bytes()), (2, 1, 6));
}

#[test]
fn an_answer_can_be_replaced_for_some_requests() {
    let server = server();
    server.put("landing", "a", "one");
    let proxy = FaultProxy::before(&server);
    let user = user(&proxy.endpoint());
    let rule = proxy.on(When::get().key("/landing/a").nth(2), Fault::access_denied());
    assert!(user.get("landing", "a").is_ok());
    assert!(user.get("landing", "a").unwrap_err().contains("AccessDenied"));
    assert!(user.get("landing", "a").is_ok());
    assert_eq!(proxy.acted(rule), 1);
    // The client tries again what may pass, as the extension's does.
    proxy.forget();
    proxy.on(When::get().times(1), Fault::slow_down());
    assert!(user.get("landing", "a").is_ok());
    assert_eq!(proxy.count("GET"), 2);
    proxy.on(When::head(), Fault::Etag("\"other\""));
    assert_eq!(user.head("landing", "a").unwrap().etag, "\"other\"");
    proxy.on(When::list(), Fault::moved_to("eu-central-1"));
    assert!(user.list("landing", "").unwrap_err().contains("PermanentRedirect"));
    assert!(user.get("landing", "a").is_ok());
}

#[test]
fn a_body_can_be_stalled_cut_shortened_and_spoiled() {
    let server = server();
    let content = vec![7_u8; 300_000];
    server.put("landing", "a", content.clone());
    let proxy = FaultProxy::before(&server);
    let user = user(&proxy.endpoint());

    proxy.on(When::get(), Fault::StallAfter(100_000));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| user.get("landing", "a"));
        proxy.wait_until_stalled(SOON);
        assert_eq!(proxy.bytes(), 100_000);
        assert!(!reader.is_finished());
        proxy.release();
        assert_eq!(reader.join().unwrap().unwrap(), content);
    });
    assert_eq!(proxy.stalled(), 0);

    proxy.on(When::get().times(1), Fault::CutAfter(100_000));
    user.get("landing", "a").unwrap_err();
    proxy.on(When::get().times(1), Fault::ShortenTo(1000));
    assert_eq!(user.get("landing", "a").unwrap().len(), 1000);
    proxy.on(When::get().times(1), Fault::FlipByte(200_000));
    let spoiled = user.get("landing", "a").unwrap();
    assert_eq!((spoiled[199_999], spoiled[200_000], spoiled[200_001]), (7, !7, 7));
    assert_eq!(user.get("landing", "a").unwrap(), content);
}

#[test]
fn a_connection_can_be_slow_dropped_hung_and_refused() {
    let server = server();
    server.put("landing", "a", "one");
    let proxy = FaultProxy::before(&server);
    let user = user(&proxy.endpoint());
    proxy.on(When::get().times(1), Fault::Latency(Duration::from_millis(150)));
    let start = Instant::now();
    user.get("landing", "a").unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));

    let drop = proxy.on(When::get().times(1), Fault::Drop);
    user.get("landing", "a").unwrap();
    assert_eq!(proxy.acted(drop), 1);

    proxy.on(When::get(), Fault::Hang);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| user.get("landing", "a"));
        proxy.wait_until_stalled(SOON);
        proxy.release();
        assert_eq!(reader.join().unwrap().unwrap(), "one");
    });

    proxy.refuse_connections(true);
    let address: SocketAddr = proxy.endpoint().trim_start_matches("http://").parse().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn the_metadata_service_hands_out_credentials_against_a_token_only() {
    let imds = FakeImds::start("ACCESS", "secret", "session");
    let ask = |request: &str| {
        use std::io::Write;
        let mut stream = TcpStream::connect(imds.endpoint().trim_start_matches("http://")).unwrap();
        write!(stream, "{request}\r\nHost: metadata\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let path = "/latest/meta-data/iam/security-credentials/btc-ingest-test-role";
    assert!(ask(&format!("GET {path} HTTP/1.1")).starts_with("HTTP/1.1 401"));
    assert!(ask("PUT /latest/api/token HTTP/1.1").starts_with("HTTP/1.1 400"));
    let answer = ask("PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60");
    let token = answer.lines().last().unwrap();
    let with = format!("GET {path} HTTP/1.1\r\nX-aws-ec2-metadata-token: {token}");
    assert!(ask(&with).contains(r#""SecretAccessKey":"secret""#));
    imds.rotate("ACCESS2", "secret2", "session2");
    assert!(ask(&with).contains(r#""AccessKeyId":"ACCESS2""#));
    assert_eq!(imds.handed_out(), 3);
}
