//! S3 as it fails and as it answers: every failure has its own SQLSTATE and leaves nothing, and no request is made in vain.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use btc_ingest_tests::stand::{ACCESS, BUCKET, Refusal, SECRET, loaded, refused, session, stored, traces};
use btc_ingest_tests::ticks::time_us;
use btc_ingest_tests::{
    Cluster, FakeImds, Fault, FaultProxy, Generator, ParquetFile, S3Server, Stand, Sums, TestDb, Tick, When,
};
use bytes::Bytes;
use parquet::basic::Compression;
use postgres::Client;

/// So that an object of more than a megabyte is read by ranges, which is what larger ones are.
const SMALL_MEMORY: (&str, &str) = ("btc_ingest.memory_limit", "8MB");

/// A database, and a proxy between it and the shared S3 server.
struct Bench {
    db: TestDb<'static>,
    proxy: FaultProxy,
}

impl Bench {
    fn new() -> Bench {
        Bench { db: Stand::shared().db(), proxy: FaultProxy::before(&Stand::shared().s3) }
    }

    fn session(&self, settings: &[(&str, &str)]) -> Client {
        session(&self.db, &self.proxy.endpoint(), settings)
    }

    /// The load must fail with this SQLSTATE, name the object, say what to do, and leave no row and no secret.
    #[track_caller]
    fn refuses(&self, settings: &[(&str, &str)], uri: &str, sqlstate: &str) -> Refusal {
        let mut client = self.session(settings);
        let refusal = refused(&mut client, uri, "", sqlstate);
        self.must_be_clean(&refusal, uri);
        assert_eq!(traces(&mut client), [], "{refusal:?}");
        refusal
    }

    #[track_caller]
    fn must_be_clean(&self, refusal: &Refusal, uri: &str) {
        assert!(refusal.message.contains(uri), "{refusal:?}");
        assert!(refusal.hint.ends_with(['.', ';']), "{refusal:?}");
        for text in [&refusal.message, &refusal.detail, &refusal.hint, &self.db.log()] {
            assert!(!text.contains(SECRET), "{text}");
        }
    }
}

fn ticks(seed: u64, slices: usize) -> Vec<Tick> {
    Generator::new(seed, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).next_slices(slices)
}

/// A slice, well below a megabyte.
fn small(seed: u64) -> (Bytes, Sums) {
    let ticks = ticks(seed, 1);
    (ParquetFile::new().bytes(&ticks), Sums::of(&ticks))
}

/// Several megabytes.
fn large(seed: u64) -> (Bytes, Sums) {
    let ticks = ticks(seed, 4);
    let bytes = ParquetFile::new().plain().codec(Compression::UNCOMPRESSED).bytes(&ticks);
    assert!(bytes.len() > 2 << 20, "{}", bytes.len());
    (bytes, Sums::of(&ticks))
}

/// An endpoint to which nobody may connect.
struct Silence(TcpListener);

impl Silence {
    fn new() -> Silence {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Silence(listener)
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    #[track_caller]
    fn must_be_unbroken(&self) {
        let caller = self.0.accept().map(|(_, address)| address);
        assert_eq!(caller.map_err(|e| e.kind()), Err(std::io::ErrorKind::WouldBlock), "somebody connected");
    }
}

// ── what S3 says ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_missing_bucket_is_s3003() {
    let bench = Bench::new();
    // The server of these tests says NoSuchKey here, unlike S3.
    bench.proxy.on(When::any().key("/no-such-bucket/"), Fault::answer(404, "NoSuchBucket"));
    let allowed = [("btc_ingest.allowed_prefixes", "s3://landing, s3://no-such-bucket")];
    let refusal = bench.refuses(&allowed, "s3://no-such-bucket/x.parquet", "S3003");
    assert!(refusal.message.contains("\"no-such-bucket\" does not exist"), "{refusal:?}");
}

#[test]
fn a_missing_key_is_s3004() {
    let bench = Bench::new();
    bench.refuses(&[], "s3://landing/no/such/key.parquet", "S3004");
}

#[test]
fn a_wrong_secret_is_s3005() {
    // The same user, but this server knows another secret of hers.
    let other = S3Server::start(ACCESS, "not-what-the-cluster-has");
    other.create_bucket(BUCKET);
    let uri = other.put(BUCKET, "x.parquet", small(1).0);
    let bench = Bench { db: Stand::shared().db(), proxy: FaultProxy::before(&other) };
    let refusal = bench.refuses(&[], &uri, "S3005");
    assert!(refusal.message.contains("403, SignatureDoesNotMatch"), "{refusal:?}");
}

#[test]
fn a_policy_that_denies_is_s3005() {
    let bench = Bench::new();
    let uri = Stand::shared().put("denied.parquet", small(1).0);
    let head = bench.proxy.on(When::head(), Fault::access_denied());
    let get = bench.proxy.on(When::get(), Fault::access_denied());
    let refusal = bench.refuses(&[], &uri, "S3005");
    assert!(refusal.message.contains("403, AccessDenied"), "{refusal:?}");
    // A refusal is not tried again.
    assert_eq!((bench.proxy.acted(head), bench.proxy.acted(get)), (0, 1));
    bench.proxy.clear();

    // Of a loaded object, the GET only asks why: a HEAD's answer has no body.
    let mut client = bench.session(&[]);
    loaded(&mut client, &uri, "");
    let head = bench.proxy.on(When::head(), Fault::access_denied());
    let get = bench.proxy.on(When::get(), Fault::access_denied());
    let refusal = refused(&mut client, &uri, "", "S3005");
    assert!(refusal.message.contains("403, AccessDenied"), "{refusal:?}");
    assert_eq!((bench.proxy.acted(head), bench.proxy.acted(get)), (1, 1));
}

#[test]
fn another_region_is_s3006_and_named() {
    let bench = Bench::new();
    let uri = Stand::shared().put("elsewhere.parquet", small(1).0);
    for fault in [Fault::moved_to("eu-central-1"), Fault::wrong_region("eu-central-1")] {
        bench.proxy.on(When::any(), fault);
        let refusal = bench.refuses(&[], &uri, "S3006");
        assert!(refusal.message.contains("not in region \"us-east-1\""), "{refusal:?}");
        assert_eq!(refusal.detail, "S3 says that it is in \"eu-central-1\".");
        assert_eq!(refusal.hint, "Set btc_ingest.s3_region to the bucket's region.");
        bench.proxy.clear();
    }
}

#[test]
fn a_server_that_stays_overloaded_is_s3009() {
    let bench = Bench::new();
    let uri = Stand::shared().put("overloaded.parquet", small(1).0);
    let rule = bench.proxy.on(When::any(), Fault::slow_down());
    let refusal = bench.refuses(&[("btc_ingest.s3_max_attempts", "2")], &uri, "S3009");
    assert!(refusal.message.contains("503, SlowDown"), "{refusal:?}");
    assert_eq!(bench.proxy.acted(rule), 2);
    bench.proxy.clear();

    // Of a loaded object: twice the HEAD, and twice the GET that asks why.
    let mut client = bench.session(&[("btc_ingest.s3_max_attempts", "2")]);
    loaded(&mut client, &uri, "");
    let rule = bench.proxy.on(When::any(), Fault::slow_down());
    refused(&mut client, &uri, "", "S3009");
    assert_eq!(bench.proxy.acted(rule), 4);
}

#[test]
fn an_overloaded_server_is_asked_again() {
    let bench = Bench::new();
    let (bytes, sums) = small(2);
    let uri = Stand::shared().put("slow-down-twice.parquet", bytes);
    let slow = bench.proxy.on(When::get().times(1), Fault::slow_down());
    let broken = bench.proxy.on(When::head().times(1), Fault::internal_error());
    let mut client = bench.session(&[]);
    loaded(&mut client, &uri, "");
    loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&sums, "after two repetitions");
    assert_eq!((bench.proxy.acted(slow), bench.proxy.acted(broken)), (1, 1));
    assert_eq!((bench.proxy.count("HEAD"), bench.proxy.count("GET")), (2, 2));

    // The same request twice in a row.
    let twice = bench.proxy.on(When::get().times(2), Fault::slow_down());
    let report = loaded(&mut client, &uri, "force => true");
    assert_eq!((report.duplicate as u64, bench.proxy.acted(twice)), (sums.rows, 2));
}

// ── what the network does ───────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_endpoint_that_is_down_is_s3007() {
    let bench = Bench::new();
    let down = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let settings = [("btc_ingest.s3_endpoint", down.as_str()), ("btc_ingest.s3_max_attempts", "2")];
    let refusal = bench.refuses(&settings, "s3://landing/x.parquet", "S3007");
    assert!(refusal.message.contains("Connection refused"), "{refusal:?}");
    assert!(refusal.hint.contains("btc_ingest.s3_endpoint"), "{refusal:?}");
}

#[test]
fn a_connection_that_is_reset_is_s3007() {
    let bench = Bench::new();
    bench.proxy.refuse_connections(true);
    bench.refuses(&[("btc_ingest.s3_max_attempts", "1")], "s3://landing/x.parquet", "S3007");
}

/// An address whose queue of connections is full: whoever connects to it waits for ever.
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
    let bench = Bench::new();
    let blackhole = Blackhole::new();
    let endpoint = format!("http://{}", blackhole.address);
    let settings = [
        ("btc_ingest.s3_endpoint", endpoint.as_str()),
        ("btc_ingest.s3_connect_timeout", "150ms"),
        ("btc_ingest.s3_max_attempts", "1"),
    ];
    let refusal = bench.refuses(&settings, "s3://landing/x.parquet", "S3008");
    assert!(refusal.message.contains("within 150 ms while connecting"), "{refusal:?}");
}

#[test]
fn an_answer_that_takes_too_long_is_s3008() {
    let bench = Bench::new();
    let uri = Stand::shared().put("silent.parquet", small(1).0);
    let settings = [("btc_ingest.s3_read_timeout", "200ms"), ("btc_ingest.s3_max_attempts", "1")];
    bench.proxy.on(When::get(), Fault::Hang);
    let refusal = bench.refuses(&settings, &uri, "S3008");
    assert!(refusal.message.contains("within 200 ms while waiting for its answer"), "{refusal:?}");
    bench.proxy.release();
    bench.proxy.clear();
    bench.proxy.on(When::get(), Fault::StallAfter(1000));
    let refusal = bench.refuses(&settings, &uri, "S3008");
    assert!(refusal.message.contains("within 200 ms while reading the object's body"), "{refusal:?}");
}

#[test]
fn a_body_that_stalls_once_is_resumed() {
    let bench = Bench::new();
    let (bytes, sums) = small(3);
    let uri = Stand::shared().put("stalls-once.parquet", bytes);
    bench.proxy.on(When::get().times(1), Fault::StallAfter(1000));
    let mut client = bench.session(&[("btc_ingest.s3_read_timeout", "300ms")]);
    loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&sums, "after a stall");
    assert_eq!(bench.proxy.count("GET"), 2);
}

#[test]
fn a_body_that_breaks_off_again_and_again_is_s3012() {
    let bench = Bench::new();
    let uri = Stand::shared().put("cut.parquet", small(1).0);
    let rule = bench.proxy.on(When::get(), Fault::CutAfter(1000));
    bench.refuses(&[("btc_ingest.s3_max_attempts", "3")], &uri, "S3012");
    assert_eq!(bench.proxy.acted(rule), 3);
}

#[test]
fn a_body_that_breaks_off_once_is_resumed_where_it_broke() {
    let bench = Bench::new();
    let (bytes, sums) = small(4);
    let last = bytes.len() - 1;
    let uri = Stand::shared().put("cut-once.parquet", bytes);
    bench.proxy.on(When::get().times(1), Fault::CutAfter(1000));
    let mut client = bench.session(&[]);
    loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&sums, "after a cut");
    let seen = bench.proxy.requests();
    let [first, second] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(first.range.as_deref(), Some("bytes=0-1048575"));
    // A cut connection may lose what was on its way, but never more than was sent.
    let start: u64 = second.range.as_deref().unwrap()["bytes=".len()..].split('-').next().unwrap().parse().unwrap();
    assert!(start <= 1000 && second.range.as_deref().unwrap().ends_with(&format!("-{last}")), "{second:?}");
    assert_eq!(second.if_match.as_deref(), Some(Stand::shared().s3.etag(BUCKET, "cut-once.parquet").as_str()));
}

#[test]
fn every_range_of_a_large_object_may_break_off_once() {
    let bench = Bench::new();
    let (bytes, sums) = large(5);
    let uri = Stand::shared().put("large-cut.parquet", bytes);
    for n in [1, 3, 5, 7, 9] {
        bench.proxy.on(When::get().nth(n), Fault::CutAfter(777));
    }
    let mut client = bench.session(&[SMALL_MEMORY]);
    loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&sums, "after five cuts");
}

#[test]
fn an_object_that_changes_while_it_is_read_is_s3011() {
    let bench = Bench::new();
    let uri = Stand::shared().put("changes.parquet", large(6).0);
    // The first GET asks which version is there, the second one is the footer's; later ones are the columns'.
    for n in [2, 3, 7] {
        let rule = bench.proxy.on(When::get().from(n), Fault::Etag("\"0123456789abcdef\""));
        let refusal = bench.refuses(&[SMALL_MEMORY], &uri, "S3011");
        assert!(bench.proxy.acted(rule) > 0);
        let etag = Stand::shared().s3.etag(BUCKET, "changes.parquet");
        let detail =
            format!("The load began with etag {}; an answer came with 0123456789abcdef.", etag.trim_matches('"'));
        assert_eq!(refusal.detail, detail);
        bench.proxy.clear();
    }
    // A server that honours If-Match says so itself.
    bench.proxy.on(When::get().from(3), Fault::precondition_failed());
    bench.refuses(&[SMALL_MEMORY], &uri, "S3011");
}

// ── what is refused before anybody is asked ─────────────────────────────────────────────────────────────────────────

#[test]
fn a_uri_that_may_not_be_read_is_refused_before_any_connection() {
    let db = Stand::shared().db();
    let silence = Silence::new();
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
    silence.must_be_unbroken();
    assert_eq!(traces(&mut client), []);
}

#[test]
fn an_empty_list_allows_nothing() {
    let db = Stand::shared().db();
    let silence = Silence::new();
    let mut client = session(&db, &silence.endpoint(), &[("btc_ingest.allowed_prefixes", "")]);
    let refusal = refused(&mut client, "s3://landing/x.parquet", "", "S3002");
    assert_eq!(refusal.detail, "btc_ingest.allowed_prefixes is empty, which denies every uri.");
    assert!(refusal.hint.contains("ALTER SYSTEM SET btc_ingest.allowed_prefixes"), "{refusal:?}");
    silence.must_be_unbroken();
}

#[test]
fn a_null_uri_is_refused() {
    let db = Stand::shared().db();
    let mut client = db.client();
    let error = client.query("SELECT * FROM btc_ingest.load_s3_slice(NULL)", &[]).unwrap_err();
    assert_eq!(Refusal::from(error).sqlstate, "S3001");
}

// ── what a load costs ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_small_object_costs_one_get_and_the_same_again_one_head() {
    let bench = Bench::new();
    let (bytes, sums) = small(7);
    let size = bytes.len();
    let uri = Stand::shared().put("small.parquet", bytes);
    let mut client = bench.session(&[]);
    let first = loaded(&mut client, &uri, "");
    assert_eq!((first.outcome.as_str(), first.inserted as u64, first.bytes as usize), ("loaded", sums.rows, size));
    assert_eq!((bench.proxy.count("GET"), bench.proxy.requests().len()), (1, 1));
    assert_eq!(first.etag, Stand::shared().s3.etag(BUCKET, "small.parquet").trim_matches('"'));

    bench.proxy.forget();
    let again = loaded(&mut client, &uri, "");
    assert_eq!((again.outcome.as_str(), again.counts()), ("already loaded", [0; 6]));
    assert_eq!(again.etag, first.etag);
    assert_eq!((bench.proxy.count("HEAD"), bench.proxy.requests().len(), bench.proxy.bytes()), (1, 1, 0));
    stored(&mut client).must_be(&sums, "loaded once");
}

#[test]
fn a_large_object_is_read_by_ranges_of_one_version_and_only_where_needed() {
    let bench = Bench::new();
    let mut ticks = ticks(8, 4);
    ticks.truncate(40_000);
    // A column that no tick needs, of ten bytes and more per row.
    let extra: arrow::array::StringArray = (0..ticks.len()).map(|row| Some(format!("{row:0>60}"))).collect();
    let file = ParquetFile::new().plain().codec(Compression::UNCOMPRESSED);
    let needed = file.bytes(&ticks).len() as u64;
    let bytes = file.column("note", std::sync::Arc::new(extra)).bytes(&ticks);
    let size = bytes.len() as u64;
    assert!(size > needed + 40_000 * 60);
    let uri = Stand::shared().put("ranges.parquet", bytes);
    let mut client = bench.session(&[SMALL_MEMORY]);
    let report = loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&Sums::of(&ticks), "by ranges");

    let etag = Stand::shared().s3.etag(BUCKET, "ranges.parquet");
    let seen = bench.proxy.requests();
    assert_eq!((bench.proxy.count("HEAD"), seen[0].method.as_str()), (0, "GET"));
    assert!(seen.len() > 9, "{}", seen.len());
    for get in &seen[1..] {
        assert_eq!(get.if_match.as_deref(), Some(etag.as_str()), "{get:?}");
        let range = get.range.as_deref().unwrap_or_else(|| panic!("no range: {get:?}"));
        let (from, to) = range["bytes=".len()..].split_once('-').unwrap();
        let len = to.parse::<u64>().unwrap() + 1 - from.parse::<u64>().unwrap();
        assert!(len <= 1 << 20, "{get:?}");
    }
    assert_eq!(seen[1].range.as_deref().unwrap().rsplit('-').next(), Some((size - 1).to_string().as_str()));
    let read = report.bytes as u64;
    assert!(read < needed + (200 << 10), "{read} of {size} bytes, {needed} are needed");
    // The first answer only says how large the object is; what was on its way already is lost.
    let fetched = bench.proxy.bytes();
    assert!((read..=read + (1 << 20)).contains(&fetched), "{fetched} of {size} bytes, {read} were read");
}

// ── https and credentials ───────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn https_with_an_authority_of_ones_own_works_once_it_is_trusted() {
    let server = S3Server::https(ACCESS, SECRET);
    server.create_bucket(BUCKET);
    let (bytes, sums) = small(9);
    let uri = server.put(BUCKET, "secure.parquet", bytes);
    let db = Stand::shared().db();

    let mut stranger = session(&db, &server.endpoint(), &[("btc_ingest.s3_max_attempts", "1")]);
    let refusal = refused(&mut stranger, &uri, "", "S3007");
    assert!(refusal.message.to_lowercase().contains("certificate"), "{refusal:?}");
    assert!(refusal.hint.contains("btc_ingest.s3_ca_file"), "{refusal:?}");

    // Another authority is no better than none.
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
    let db = Stand::shared().db();
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
    let server = S3Server::start("NOBODY", "nobody");
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

    // And where S3 does not know the role's new keys, neither pair is shown.
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
    let silence = Silence::new();
    let mut client = session(&db, &silence.endpoint(), &[]);
    let refusal = refused(&mut client, "s3://landing/x.parquet", "", "S3013");
    assert!(refusal.message.contains("s3://landing/x.parquet: no AWS credentials"), "{refusal:?}");
    assert!(refusal.detail.contains("have none") && refusal.hint.contains("instance role"), "{refusal:?}");
    silence.must_be_unbroken();
}
