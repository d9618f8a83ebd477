//! The test kit proves itself here: what the other tests rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, TimeUnit};
use btc_ingest_tests::cluster::backend_pid;
use btc_ingest_tests::parquet::{Id, Number, Time};
use btc_ingest_tests::process::{MemoryWatch, children, descriptors, is_running, memory, threads};
use btc_ingest_tests::s3_client::{Head, Listing, S3Client};
use btc_ingest_tests::ticks::time_us;
use btc_ingest_tests::wait::wait_until;
use btc_ingest_tests::{Cluster, FakeImds, Fault, FaultProxy, Generator, ParquetFile, S3Server, Sums, TestDb, When};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;

const SOON: Duration = Duration::from_secs(10);

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::builder().setting("work_mem", "7MB").env("KIT_TEST", "1").start())
}

fn server() -> S3Server {
    let server = S3Server::start("ACCESS", "secret");
    server.create_bucket("landing");
    server
}

fn user(endpoint: &str) -> S3Client {
    S3Client::new(endpoint, "ACCESS", "secret", None)
}

// ── the cluster ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_cluster_answers_with_timescaledb_and_with_the_settings_it_was_given() {
    let db = TestDb::new(cluster());
    let mut client = db.client();
    client.batch_execute("CREATE EXTENSION timescaledb").unwrap();
    assert_eq!(db.psql("SHOW work_mem").unwrap(), "7MB\n");
    let port: String = client.query_one("SHOW port", &[]).unwrap().get(0);
    assert_eq!(port, cluster().port().to_string());
    assert!(cluster().psql("postgres", "SELECT 1; SELECT 1/0;").unwrap_err().contains("division by zero"));
    assert!(db.log().contains("division by zero"));
}

#[test]
fn a_server_gets_the_environment_of_its_test_and_not_that_of_its_caller() {
    let read = |name: &str| {
        let bytes = std::fs::read(format!("/proc/{}/environ", cluster().pid())).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text.split('\0').find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    assert_eq!(read("KIT_TEST").as_deref(), Some("1"));
    assert_eq!(read("AWS_EC2_METADATA_DISABLED").as_deref(), Some("true"));
    assert_eq!(read("HOME").as_deref(), cluster().dir().to_str());
}

#[test]
fn a_test_database_is_gone_after_its_test() {
    let name = TestDb::new(cluster()).name().to_owned();
    let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(cluster().psql("postgres", &sql).unwrap(), "0\n");
}

#[test]
fn memory_is_that_of_the_backend_alone() {
    let db = TestDb::new(cluster());
    let mut client = db.client();
    let pid = btc_ingest_tests::cluster::backend_pid(&mut client);
    let before = memory(pid).unwrap();
    let watch = MemoryWatch::start(pid);
    client.batch_execute("DO $$ BEGIN PERFORM length(repeat('x', 100000000)); END $$").unwrap();
    assert!(watch.peak().total() > before.total() + 50_000_000, "{:?} after {before:?}", watch.peak());
    assert_eq!(threads(pid), 1);
    assert!(descriptors(pid).values().sum::<usize>() > 3);
}

#[test]
fn nothing_is_left_of_a_dropped_cluster_and_it_survives_restart_and_crash_before() {
    let cluster = Cluster::builder().start();
    let (first, dir) = (cluster.pid(), cluster.dir().to_owned());
    cluster.set_env("KIT_TEST", "2");
    cluster.restart();
    assert!(!is_running(first));
    cluster.client("postgres").batch_execute("CREATE TABLE kept AS SELECT 1").unwrap();
    cluster.crash();
    assert_eq!(cluster.psql("postgres", "TABLE kept").unwrap(), "1\n");
    let last = cluster.pid();
    drop(cluster);
    assert!(!is_running(last));
    assert!(!dir.exists());
}

#[test]
fn nothing_is_left_of_a_process_that_was_killed() {
    // This test calls itself as the process to be killed.
    if let Ok(file) = std::env::var("KIT_VICTIM") {
        let cluster = Cluster::builder().start();
        let server = server();
        let text = format!("{}\n{}\n{}\n", cluster.pid(), cluster.dir().display(), server.root().display());
        std::fs::write(&file, text).unwrap();
        loop {
            std::thread::park();
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("victim");
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_of_a_process_that_was_killed"])
        .env("KIT_VICTIM", &file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let complete = || std::fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 3);
    wait_until("the victim's cluster", Duration::from_secs(60), complete);
    victim.kill().unwrap();
    victim.wait().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let [pid, dirs @ ..] = &text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    let pid = pid.parse().unwrap();
    wait_until("the victim's cluster to go", SOON, || !is_running(pid));
    wait_until("the directories to go", SOON, || dirs.iter().all(|dir| !std::path::Path::new(dir).exists()));
}

#[test]
fn a_standby_follows_and_can_be_promoted() {
    let primary = Cluster::builder().start();
    let standby = primary.standby();
    primary.client("postgres").batch_execute("CREATE TABLE followed AS SELECT 1").unwrap();
    wait_until("the table on the standby", SOON, || standby.psql("postgres", "TABLE followed").is_ok());
    assert_eq!(standby.psql("postgres", "SELECT pg_is_in_recovery()").unwrap(), "t\n");
    standby.promote();
    assert_eq!(standby.psql("postgres", "SELECT pg_is_in_recovery()").unwrap(), "f\n");
}

#[test]
fn a_killed_server_is_gone_and_starts_again_with_what_was_committed() {
    let cluster = Cluster::builder().start();
    cluster.client("postgres").batch_execute("CREATE TABLE committed AS SELECT 1").unwrap();
    let mut session = cluster.client("postgres");
    let before = [vec![cluster.pid()], children(cluster.pid())].concat();
    assert!(before.contains(&backend_pid(&mut session)), "{before:?}");
    cluster.kill();
    assert!(!before.iter().any(|&pid| is_running(pid)));
    cluster.start();
    assert_eq!(cluster.psql("postgres", "TABLE committed").unwrap(), "1\n");
}

// ── S3 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

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

// ── listings ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// All pages of a listing: keys with what is said of them, groups, and how many pages it took.
fn pages(client: &S3Client, listing: &Listing<'_>) -> (Vec<(String, Head)>, Vec<String>, usize) {
    let (mut objects, mut groups, mut count) = (Vec::new(), Vec::new(), 0);
    let mut token = None;
    loop {
        let page = client.page("landing", &Listing { token: token.as_deref(), ..listing.clone() }).unwrap();
        objects.extend(page.objects);
        groups.extend(page.groups);
        count += 1;
        token = page.next;
        if token.is_none() {
            return (objects, groups, count);
        }
    }
}

fn keys(client: &S3Client, listing: &Listing<'_>) -> Vec<String> {
    pages(client, listing).0.into_iter().map(|(key, _)| key).collect()
}

#[test]
fn a_listing_carries_etags_and_sizes() {
    let server = server();
    let client = server.client();
    server.put("landing", "a", "one");
    server.put("landing", "a", "three");
    client.copy("landing", "a", "b").unwrap();
    client.put_parts("landing", "c", &[vec![7_u8; 5 << 20].into(), "end".into()]).unwrap();
    server.put("landing", "d/", "");
    server.put_copies("landing", ["d/e".to_owned()].into_iter(), "copy");
    let (objects, ..) = pages(client, &Listing::default());
    let heads = ["a", "b", "c", "d/", "d/e"].map(|key| (key.to_owned(), client.head("landing", key).unwrap()));
    assert_eq!(objects, heads);
    assert_eq!(heads.each_ref().map(|(_, head)| head.size), [5, 5, (5 << 20) + 3, 0, 4]);
    assert!(heads[2].1.etag.ends_with("-2\""), "{heads:?}");
    assert!(client.page("elsewhere", &Listing::default()).unwrap_err().contains("NoSuchBucket"));
}

#[test]
fn two_hundred_thousand_keys_are_listed_page_by_page() {
    let server = server();
    server.put("landing", "a", "before");
    server.put("landing", "z", "behind");
    let key = |n: u32| format!("many/{:03}/{n:06}", n / 1000);
    server.put_copies("landing", (0..200_000).map(key), "0123456789");
    let client = server.client();
    let start = Instant::now();
    let (objects, _, count) = pages(client, &Listing { prefix: "many/", ..Listing::default() });
    // Some seconds, where a walk of all keys for every page would take hours.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert_eq!((objects.len(), count), (200_000, 200));
    let head = Head { etag: server.etag("landing", &key(123_456)), size: 10 };
    assert!((0..).zip(&objects).all(|(n, object)| *object == (key(n), head.clone())));
    let (none, groups, count) = pages(client, &Listing { prefix: "many/", delimiter: Some("/"), ..Listing::default() });
    assert_eq!((none.len(), groups.len(), count, groups[199].as_str()), (0, 200, 1, "many/199/"));

    let last = key(199_999);
    assert_eq!(client.get("landing", &last).unwrap(), "0123456789");
    assert_eq!(client.get_range("landing", &last, 2..5).unwrap(), "234");
    assert_eq!(client.get_if_match("landing", &last, &head.etag).unwrap(), "0123456789");
    assert!(client.get_range("landing", &last, 10..11).unwrap_err().contains("InvalidRange"));
    // A copy is the object that a put of the same bytes would make, and can be replaced.
    server.put("landing", "put", "0123456789");
    assert_eq!(server.etag("landing", "put"), head.etag);
    server.put("landing", &last, "new");
    assert_eq!(client.get("landing", &last).unwrap(), "new");
    assert_eq!(client.list("landing", &last).unwrap(), [last]);
}

#[test]
fn a_deleted_key_is_not_listed() {
    let server = server();
    let client = server.client();
    for key in ["a", "b/1", "b/2", "c"] {
        server.put("landing", key, "one");
    }
    server.put_copies("landing", ["b/3".to_owned(), "b/4".to_owned()].into_iter(), "copy");
    server.delete("landing", "a");
    server.delete("landing", "b/3");
    server.delete("landing", "never there");
    assert_eq!(client.list("landing", "").unwrap(), ["b/1", "b/2", "b/4", "c"]);
    assert!(client.get("landing", "b/3").unwrap_err().contains("NoSuchKey"));
    client.delete_all("landing", &["b/1", "b/4", "never there"]).unwrap();
    assert_eq!(client.list("landing", "").unwrap(), ["b/2", "c"]);
}

#[test]
fn a_listing_starts_after_a_key_and_has_no_more_than_max_keys_on_a_page() {
    let server = server();
    let client = server.client();
    for key in ["a", "b", "b/1", "b/2", "ü/1", "x + %41&<>"] {
        server.put_copies("landing", [key.to_owned()].into_iter(), "one");
    }
    let all = Listing::default();
    let sorted = ["a", "b", "b/1", "b/2", "x + %41&<>", "ü/1"];
    assert_eq!(keys(client, &all), sorted);
    // Also after a key that is not there, and before all that a prefix leaves.
    for (start, from) in [("", 0), ("a", 1), ("b/1", 3), ("b/1x", 3), ("c", 4), ("ü/1", 6), ("\u{10ffff}", 6)] {
        assert_eq!(keys(client, &Listing { start_after: Some(start), ..all.clone() }), sorted[from..], "{start}");
    }
    assert_eq!(keys(client, &Listing { start_after: Some("a"), prefix: "b/", ..all.clone() }), sorted[2..4]);
    assert_eq!(keys(client, &Listing { start_after: Some("c"), prefix: "b/", ..all.clone() }), sorted[..0]);
    for size in 1..=7 {
        let listing = Listing { max_keys: Some(size), start_after: Some("a"), ..all.clone() };
        let (objects, _, count) = pages(client, &listing);
        assert_eq!((objects.len(), count), (5, 5_usize.div_ceil(size as usize)), "{size}");
    }
    let none = client.page("landing", &Listing { max_keys: Some(0), ..all.clone() }).unwrap();
    assert_eq!((none.objects.len(), none.next), (0, None));
    // A token is no key.
    assert!(client.page("landing", &Listing { token: Some("b/1"), ..all }).unwrap_err().contains("InvalidArgument"));
}

#[test]
fn keys_with_a_delimiter_are_listed_as_groups_and_never_twice() {
    let server = server();
    let client = server.client();
    let all = ["a", "b/1", "b/2/x", "b/2/y", "b/3", "b0", "c/1", "d"];
    server.put_copies("landing", all.into_iter().map(str::to_owned), "one");
    for max_keys in [None, Some(1), Some(2), Some(3)] {
        let listing = Listing { delimiter: Some("/"), max_keys, ..Listing::default() };
        let (objects, groups, _) = pages(client, &listing);
        assert_eq!(objects.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b0", "d"], "{max_keys:?}");
        assert_eq!(groups, ["b/", "c/"], "{max_keys:?}");
        let (objects, groups, _) = pages(client, &Listing { prefix: "b/", ..listing });
        assert_eq!(objects.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["b/1", "b/3"], "{max_keys:?}");
        assert_eq!(groups, ["b/2/"], "{max_keys:?}");
    }
}

#[test]
fn a_server_that_starts_again_lists_the_files_it_finds() {
    let root = tempfile::tempdir().unwrap();
    let listed = |make: bool| {
        let server = S3Server::over(root.path(), 0, "ACCESS", "secret").unwrap();
        if make {
            server.create_bucket("landing");
            server.put("landing", "a/b/c", "one");
            server.put("landing", "d", "three");
            server.client().put_parts("landing", "e", &["parts".into()]).unwrap();
        }
        pages(server.client(), &Listing::default()).0
    };
    let before = listed(true);
    assert_eq!(before.len(), 3);
    assert_eq!(listed(false), before);
}

#[test]
fn a_read_of_another_version_is_refused_unless_if_match_is_ignored() {
    let server = server();
    let user = user(&server.endpoint());
    server.put("landing", "file", "one");
    server.put_copies("landing", ["copy".to_owned()].into_iter(), "one");
    let etag = server.etag("landing", "file");
    for key in ["file", "copy"] {
        assert_eq!(user.get_if_match("landing", key, &etag).unwrap(), "one");
        assert_eq!(user.get_if_match("landing", key, "*").unwrap(), "one");
        user.head_if_match("landing", key, &etag).unwrap();
        let other = "\"0123456789abcdef\"";
        assert!(user.get_if_match("landing", key, other).unwrap_err().contains("PreconditionFailed"));
        user.head_if_match("landing", key, other).unwrap_err();
        server.ignore_if_match(true);
        assert_eq!(user.get_if_match("landing", key, other).unwrap(), "one");
        user.head_if_match("landing", key, other).unwrap();
        server.ignore_if_match(false);
    }
}

// ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────────

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

// ── ticks ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn sums_are_what_postgresql_computes() {
    let db = TestDb::new(cluster());
    let ticks = Generator::new(3, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).next_slice();
    let mut client = db.client();
    client.batch_execute("CREATE TABLE t (id bigint, price numeric(18,8), quantity numeric(24,12))").unwrap();
    let mut copy = client.copy_in("COPY t FROM STDIN").unwrap();
    for tick in &ticks {
        use btc_ingest_tests::ticks::decimal_text;
        use std::io::Write;
        let (price, quantity) = (decimal_text(tick.price.into(), 8, 8), decimal_text(tick.quantity, 12, 8));
        writeln!(copy, "{}\t{price}\t{quantity}", tick.trade_id).unwrap();
    }
    copy.finish().unwrap();
    let row = client.query_one("SELECT count(*), min(id), max(id), sum(price * quantity)::text FROM t", &[]).unwrap();
    let sums = Sums::of(&ticks);
    assert_eq!(row.get::<_, i64>(0) as u64, sums.rows);
    assert_eq!((row.get(1), row.get(2)), (sums.first_id, sums.last_id));
    assert_eq!(row.get::<_, String>(3), sums.amount_text());
}

#[test]
fn every_physical_shape_is_written_and_read_again() {
    let ticks = Generator::new(4, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).next_slice();
    let usual = ParquetFile::new();
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let shapes = [
        usual.clone(),
        usual.clone().v2().plain().codec(Compression::UNCOMPRESSED),
        usual.clone().codec(Compression::ZSTD(Default::default())).row_group_rows(1000).page_rows(100),
        usual.clone().codec(Compression::LZ4_RAW).text(dictionary).without_statistics(),
        usual.clone().time(Time::Stamp(TimeUnit::Millisecond, false)).number(Number::Decimal(38, 18)),
        usual.clone().time(Time::Stamp(TimeUnit::Nanosecond, true)).price(Number::Decimal(18, 8)),
        usual.clone().time(Time::Stamp(TimeUnit::Second, true)).quantity(Number::Wide(60, 12)),
        usual.clone().time(Time::Int(TimeUnit::Millisecond)).number(Number::Double).order_id(Id::Null),
        usual.clone().time(Time::Text).order_id(Id::Text).text(DataType::LargeUtf8).without_arrow_schema(),
        usual.clone().without("trade_time").rename("price", "p").null("quantity", &[3]).order(&["p", "symbol"]),
    ];
    for shape in shapes {
        let bytes = shape.bytes(&ticks);
        assert_eq!(bytes, shape.bytes(&ticks), "writing is deterministic");
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().with_batch_size(1 << 20).build().unwrap();
        let read: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(read.iter().map(|batch| batch.num_rows()).sum::<usize>(), ticks.len());
        let written = shape.batch(&ticks);
        assert_eq!(read[0].num_columns(), written.num_columns());
        if read.len() == 1 && read[0].schema().fields() == written.schema().fields() {
            assert_eq!(read[0].columns(), written.columns());
        }
    }
}
