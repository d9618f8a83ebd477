//! What the network does.

use super::*;

#[test]
fn an_endpoint_that_is_down_is_s3007() {
    let fixture = S3Fixture::new();
    let down = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let settings = [("btc_ingest.s3_endpoint", down.as_str()), ("btc_ingest.s3_max_attempts", "2")];
    let refusal = fixture.refuses(&settings, "s3://landing/x.parquet", "S3007");
    assert!(refusal.message.contains("Connection refused"), "{refusal:?}");
    assert!(refusal.hint.contains("btc_ingest.s3_endpoint"), "{refusal:?}");
}

#[test]
fn a_connection_that_is_reset_is_s3007() {
    let fixture = S3Fixture::new();
    fixture.proxy.refuse_connections(true);
    fixture.refuses(&[("btc_ingest.s3_max_attempts", "1")], "s3://landing/x.parquet", "S3007");
}

/// An address with a full queue of connections: a client that connects to it waits for ever.
struct Blackhole {
    address: SocketAddr,
    _queue: (tokio::runtime::Runtime, tokio::net::TcpListener, Vec<TcpStream>),
}

impl Blackhole {
    fn new() -> Blackhole {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        drop(entered);
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            waiting.push(stream);
            assert!(waiting.len() < 1000, "the queue never fills");
        }
        Blackhole { address, _queue: (runtime, listener, waiting) }
    }
}

#[test]
fn a_connection_that_takes_too_long_is_s3008() {
    let fixture = S3Fixture::new();
    let blackhole = Blackhole::new();
    let endpoint = format!("http://{}", blackhole.address);
    let settings = [
        ("btc_ingest.s3_endpoint", endpoint.as_str()),
        ("btc_ingest.s3_connect_timeout", "150ms"),
        ("btc_ingest.s3_max_attempts", "1"),
    ];
    let refusal = fixture.refuses(&settings, "s3://landing/x.parquet", "S3008");
    assert!(refusal.message.contains("within 150 ms while connecting"), "{refusal:?}");
}

#[test]
fn an_answer_that_takes_too_long_is_s3008() {
    let fixture = S3Fixture::new();
    let uri = ServerFixture::shared().put("silent.parquet", small(1).0);
    let settings = [("btc_ingest.s3_read_timeout", "200ms"), ("btc_ingest.s3_max_attempts", "1")];
    fixture.proxy.on(When::get(), Fault::Hang);
    let refusal = fixture.refuses(&settings, &uri, "S3008");
    assert!(refusal.message.contains("within 200 ms while waiting for its answer"), "{refusal:?}");
    fixture.proxy.release();
    fixture.proxy.clear();
    fixture.proxy.on(When::get(), Fault::StallAfter(1000));
    let refusal = fixture.refuses(&settings, &uri, "S3008");
    assert!(refusal.message.contains("within 200 ms while reading the object's body"), "{refusal:?}");
}

#[test]
fn a_body_that_stalls_once_is_resumed() {
    let fixture = S3Fixture::new();
    let (bytes, sums) = small(3);
    let uri = ServerFixture::shared().put("stalls-once.parquet", bytes);
    fixture.proxy.on(When::get().times(1), Fault::StallAfter(1000));
    let mut client = fixture.session(&[("btc_ingest.s3_read_timeout", "300ms")]);
    loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&sums, "after a stall");
    assert_eq!(fixture.proxy.count("GET"), 2);
}

#[test]
fn a_body_that_breaks_off_again_and_again_is_s3012() {
    let fixture = S3Fixture::new();
    let uri = ServerFixture::shared().put("cut.parquet", small(1).0);
    let rule = fixture.proxy.on(When::get(), Fault::CutAfter(1000));
    fixture.refuses(&[("btc_ingest.s3_max_attempts", "3")], &uri, "S3012");
    assert_eq!(fixture.proxy.acted(rule), 3);
}

#[test]
fn a_body_that_breaks_off_once_is_resumed_where_it_broke() {
    let fixture = S3Fixture::new();
    let (bytes, sums) = small(4);
    let last = bytes.len() - 1;
    let uri = ServerFixture::shared().put("cut-once.parquet", bytes);
    fixture.proxy.on(When::get().times(1), Fault::CutAfter(1000));
    let mut client = fixture.session(&[]);
    loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&sums, "after a cut");
    let seen = fixture.proxy.requests();
    let [first, second] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(first.range.as_deref(), Some("bytes=0-1048575"));
    // A cut connection may lose what was on its way, but never more than was sent. If nothing came, the object is asked
    // for as a whole.
    if let Some(range) = second.range.as_deref() {
        let start: u64 = range["bytes=".len()..].split('-').next().unwrap().parse().unwrap();
        assert!((1..=1000).contains(&start) && range.ends_with(&format!("-{last}")), "{second:?}");
    }
    assert_eq!(second.if_match.as_deref(), Some(ServerFixture::shared().s3.etag(BUCKET, "cut-once.parquet").as_str()));
}

#[test]
fn every_range_of_a_large_object_may_break_off_once() {
    let fixture = S3Fixture::new();
    let (bytes, sums) = large(5);
    let uri = ServerFixture::shared().put("large-cut.parquet", bytes);
    for n in [1, 3, 5, 7, 9] {
        fixture.proxy.on(When::get().nth(n), Fault::CutAfter(777));
    }
    let mut client = fixture.session(&[SMALL_MEMORY]);
    loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&sums, "after five cuts");
}

#[test]
fn an_object_that_changes_while_it_is_read_is_s3011() {
    let fixture = S3Fixture::new();
    let uri = ServerFixture::shared().put("changes.parquet", large(6).0);
    // The first GET learns the version, the second one reads the footer; later ones read the columns.
    for n in [2, 3, 7] {
        let rule = fixture.proxy.on(When::get().from(n), Fault::Etag("\"0123456789abcdef\""));
        let refusal = fixture.refuses(&[SMALL_MEMORY], &uri, "S3011");
        assert!(fixture.proxy.acted(rule) > 0);
        let etag = ServerFixture::shared().s3.etag(BUCKET, "changes.parquet");
        let detail =
            format!("The load began with etag {}; an answer came with 0123456789abcdef.", etag.trim_matches('"'));
        assert_eq!(refusal.detail, detail);
        fixture.proxy.clear();
    }
    // A server that honours If-Match refuses by itself.
    fixture.proxy.on(When::get().from(3), Fault::precondition_failed());
    fixture.refuses(&[SMALL_MEMORY], &uri, "S3011");
}
