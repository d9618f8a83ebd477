//! doctor() on settings and S3.

use btc_ingest_kit::wait::wait_until;

use super::doctor_fixture::SOON;
use super::*;

#[test]
fn a_healthy_installation_passes_every_check() {
    let server = ServerFixture::shared();
    let db = server.db();
    let checks = doctor(&mut db.client());
    assert_eq!(failing(&checks), [""; 0], "{checks:#?}");
    let names: Vec<&str> = checks.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "AWS credentials",
            "PostgreSQL version",
            "S3 reachable",
            "S3 region",
            "WAL archive",
            "allowed_prefixes",
            "backfills",
            "btc_ingest version",
            "chunk interval",
            "clock",
            "compression",
            "conflicts and rejects",
            "dead letters",
            "encoding",
            "failures",
            "free disk",
            "gaps",
            "hypertable",
            "index fill",
            "indexes",
            "jobs",
            "loaded slices",
            "locks of other sessions",
            "migration",
            "outages",
            "preload btc_ingest",
            "preload timescaledb",
            "privileges",
            "quarantined",
            "queue",
            "registrations",
            "restore mode",
            "retention",
            "standby",
            "tables",
            "times of ticks",
            "timescaledb edition",
            "timescaledb version",
            "triggers",
            "vector version",
            "watches",
            "windows",
            "workers",
        ]
    );
    assert_eq!(checks["AWS credentials"].detail, "from EnvironmentVariable");
    assert_eq!(checks["S3 region"].detail, "us-east-1");
    assert_eq!(checks["S3 reachable"].detail, format!("s3://{BUCKET}/ at {}", server.s3.endpoint()));
    assert_eq!(checks["allowed_prefixes"].detail, format!("s3://{BUCKET}"));
    assert!(checks["retention"].detail.contains("ops.retention_jobs"), "{checks:#?}");
}

#[test]
fn an_empty_allow_list_is_found_and_the_hint_fixes_it() {
    let server = ServerFixture::shared();
    let db = server.db();
    let mut client = session(&db, &server.s3.endpoint(), &[("btc_ingest.allowed_prefixes", "")]);
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["allowed_prefixes"]);
    let check = &checks["allowed_prefixes"];
    assert_eq!(check.detail, "empty, which denies every uri");
    assert!(check.hint.contains("ALTER SYSTEM SET btc_ingest.allowed_prefixes = "), "{check:?}");
    // No prefix is allowed, so no request is sent.
    assert!(!checks.contains_key("S3 reachable"), "{checks:?}");

    client.batch_execute("SET btc_ingest.allowed_prefixes = 's3://landing, http://x'").unwrap();
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["allowed_prefixes"]);
    assert!(checks["allowed_prefixes"].detail.contains("http://x"), "{checks:?}");
}

#[test]
fn missing_credentials_are_found() {
    let cluster = Cluster::builder().setting("btc_ingest.allowed_prefixes", "s3://landing").start();
    let db = TestDb::with_extension(&cluster);
    let checks = doctor(&mut session(&db, "http://127.0.0.1:1", &[]));
    assert_eq!(failing(&checks), ["AWS credentials"]);
    let check = &checks["AWS credentials"];
    assert!(check.detail.contains("have none") && check.hint.contains("instance role"), "{check:?}");
}

#[test]
fn an_s3_that_is_down_is_found() {
    let db = ServerFixture::shared().db();
    let down = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let checks = doctor(&mut session(&db, &down, &[("btc_ingest.s3_max_attempts", "1")]));
    assert_eq!(failing(&checks), ["S3 reachable"]);
    let check = &checks["S3 reachable"];
    assert!(check.detail.contains(&down) && check.detail.contains("Connection refused"), "{check:?}");
    assert!(check.hint.contains("btc_ingest.s3_endpoint"), "{check:?}");
}

#[test]
fn an_answer_of_s3_that_stops_halfway_is_not_waited_for_for_ever() {
    let server = ServerFixture::shared();
    let db = server.db();
    let proxy = FaultProxy::before(&server.s3);
    let rule = proxy.on(When::list(), btc_ingest_kit::Fault::StallAfter(20));
    let settings = [("btc_ingest.s3_read_timeout", "300ms"), ("btc_ingest.s3_max_attempts", "2")];
    let mut client = session(&db, &proxy.endpoint(), &settings);
    client.batch_execute("SET statement_timeout = '30s'").unwrap();
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["S3 reachable"]);
    assert!(checks["S3 reachable"].detail.contains("did not answer"), "{checks:?}");
    // Tried again, as after any silence, unless a busy machine has left no time for it.
    wait_until("a second attempt", SOON, || {
        let before = proxy.acted(rule);
        doctor(&mut client);
        proxy.acted(rule) - before == 2
    });
    proxy.release();
    assert_eq!(failing(&doctor(&mut client)), [""; 0]);
}

#[test]
fn a_wrong_secret_is_found_and_never_shown() {
    let other = S3Server::start(ACCESS, "not-what-the-cluster-has");
    other.create_bucket(BUCKET);
    let db = ServerFixture::shared().db();
    let checks = doctor(&mut session(&db, &other.endpoint(), &[]));
    assert_eq!(failing(&checks), ["S3 reachable"]);
    assert!(checks["S3 reachable"].detail.contains("403"), "{checks:?}");
    assert!(!db.log().contains(SECRET));
}

#[test]
fn every_prefix_is_tried() {
    let server = ServerFixture::shared();
    let db = server.db();
    let proxy = FaultProxy::before(&server.s3);
    let allowed = [("btc_ingest.allowed_prefixes", "s3://landing/a, s3://no-such-bucket, s3://landing/b")];
    let mut client = session(&db, &proxy.endpoint(), &allowed);
    let sql = "SELECT ok, detail FROM btc_ingest.doctor() WHERE name = 'S3 reachable'";
    let found: Vec<(bool, String)> =
        client.query(sql, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found.iter().map(|(ok, _)| *ok).collect::<Vec<_>>(), [true, false, true], "{found:?}");
    assert!(found[1].1.contains("bucket \"no-such-bucket\" does not exist"), "{found:?}");
    assert_eq!((proxy.count("GET"), proxy.requests().len()), (3, 3));
}

#[test]
fn a_region_that_is_wrong_is_found() {
    let server = ServerFixture::shared();
    let db = server.db();
    let proxy = FaultProxy::before(&server.s3);
    proxy.on(When::list(), btc_ingest_kit::Fault::moved_to("eu-central-1"));
    let checks = doctor(&mut session(&db, &proxy.endpoint(), &[]));
    assert_eq!(failing(&checks), ["S3 reachable"]);
    let fix = "ALTER SYSTEM SET btc_ingest.s3_region = 'eu-central-1'; SELECT pg_reload_conf(); -- ";
    assert!(checks["S3 reachable"].hint.starts_with(fix), "{checks:?}");
}

#[test]
fn a_restore_that_was_not_finished_is_found() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    client.batch_execute("SET timescaledb.restoring = on").unwrap();
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["restore mode", "tables"]);
    assert_eq!(checks["restore mode"].hint, "SELECT timescaledb_post_restore();");
}

#[test]
fn tables_that_are_missing_old_or_of_another_owner_are_found() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let cases = [
        ("DROP TABLE landing.rejected_ticks", "missing: landing.rejected_ticks"),
        ("UPDATE ingestion.schema_version SET version = 0", "schema version 0"),
        ("ALTER TABLE ingestion.objects ENABLE ROW LEVEL SECURITY", "row-level security"),
        ("ALTER TABLE ingestion.objects OWNER TO btc_ingest_reader", "different owners"),
    ];
    for (damage, found) in cases {
        client.batch_execute(&format!("BEGIN; {damage}")).unwrap();
        let checks = doctor(&mut client);
        assert_eq!(failing(&checks), ["tables"], "{damage}");
        assert!(checks["tables"].detail.contains(found), "{damage}: {checks:?}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}
