//! Discovery while S3 fails: nothing stops, no operator is needed, and one prefix does not delay another.

use std::time::{Duration, Instant};

use btc_ingest_kit::process::is_running;
use btc_ingest_kit::{Fault, When, wait_until};

use crate::discover_fixture::{DiscoveryFixture, SOON};

const OFTEN: &str = r#"{"interval": "200 ms", "full_interval": "1 day"}"#;
const PLAIN: &str = r#"{"interval": "200 ms"}"#;

#[test]
fn an_s3_that_is_away_for_a_while_needs_no_operator() {
    let fixture = DiscoveryFixture::start(&[("btc_ingest.s3_max_attempts", "1")]);
    let mut folder = fixture.folder();
    let pattern = folder.pattern();
    let (first, mut all) = folder.put_next();
    folder.watch(&pattern, OFTEN);
    folder.wait_for(&first, "loaded");
    folder.wait_for_listings(&pattern, 1);
    let (scheduler, groups) = (fixture.scheduler(), folder.watched(&pattern, "groups, last_full_at"));

    let away = fixture.proxy.on(When::any(), Fault::Drop);
    let (second, ticks) = folder.put_next();
    all.extend(ticks);
    folder.wait_for_listings(&pattern, 3);
    assert!(fixture.proxy.acted(away) >= 3, "it is tried again every time");
    assert!(folder.watched(&pattern, "sqlstate").starts_with("S3"), "{}", folder.watched(&pattern, "message"));
    assert_eq!(folder.watched(&pattern, "groups, last_full_at"), groups, "where it stood");
    assert_eq!(folder.object(&second, "status"), "none");
    fixture.proxy.clear();

    folder.wait_for(&second, "loaded");
    folder.wait_for_listings(&pattern, 1);
    folder.must_hold(&all);
    assert_eq!(folder.watched(&pattern, "coalesce(message, 'none')"), "none");
    assert_eq!(fixture.scheduler(), scheduler, "no process has ended for it");
    // Logged once for all attempts.
    let log = fixture.cluster.log();
    let said = |what: &str| log.lines().filter(|line| line.contains(what) && line.contains(&folder.name)).count();
    assert_eq!((said("cannot be listed"), said("can be listed again")), (1, 1), "{log}");
}

#[test]
fn a_forbidden_prefix_and_one_that_does_not_answer_hold_up_no_other() {
    let fixture = DiscoveryFixture::start(&[]);
    let (mut folder, mut other) = (fixture.folder(), fixture.folder());
    let (forbidden, silent, outside) =
        (folder.prefix("forbidden/"), folder.prefix("silent/"), other.prefix("outside/"));
    fixture.proxy.on(When::list().key("forbidden"), Fault::access_denied());
    let hanging = fixture.proxy.on(When::list().key("silent"), Fault::Hang);
    for prefix in [&forbidden, &silent, &outside] {
        folder.watch(prefix, PLAIN);
    }
    // A prefix that was allowed is not allowed any more.
    let allowed = format!("ALTER SYSTEM SET btc_ingest.allowed_prefixes = 's3://landing/{}'", folder.name);
    for sql in ["LOAD 'btc_ingest'", &allowed, "SELECT pg_reload_conf()"] {
        folder.client.batch_execute(sql).unwrap();
    }
    fixture.proxy.wait_until_stalled(SOON);
    assert!(fixture.proxy.acted(hanging) > 0);

    let pattern = folder.pattern();
    folder.watch(&pattern, OFTEN);
    let mut all = Vec::new();
    for _ in 0..3 {
        let (uri, ticks) = folder.put_next();
        let began = Instant::now();
        folder.wait_for(&uri, "loaded");
        println!("found and loaded after {:?}", began.elapsed());
        all.extend(ticks);
    }
    folder.must_hold(&all);
    wait_until("the one to be refused", SOON, || folder.watched(&forbidden, "sqlstate") == "S3005");
    wait_until("the other to be refused", SOON, || other.watched(&outside, "sqlstate") == "S3002");
    folder.wait_for_listings(&forbidden, 2);

    // In a call, a prefix that cannot be listed is a row of its own.
    folder.text("SELECT btc_ingest.unwatch($1)", &[&silent]);
    let found = "SELECT string_agg(concat_ws(' ', listed, problem IS NOT NULL), ', '
                  ORDER BY prefix <> $1, prefix) FROM btc_ingest.discover()";
    assert_eq!(folder.text(found, &[&pattern]), "3 f, 0 t, 0 t");
}

#[test]
fn the_scheduler_ends_within_a_second_while_a_listing_hangs() {
    let fixture = DiscoveryFixture::start(&[]);
    let mut folder = fixture.folder();
    let prefix = folder.prefix("");
    fixture.proxy.on(When::list(), Fault::Hang);
    folder.watch(&prefix, PLAIN);
    fixture.proxy.wait_until_stalled(SOON);
    let pid = fixture.scheduler();
    let began = Instant::now();
    folder.client.execute("SELECT pg_terminate_backend($1)", &[&(pid as i32)]).unwrap();
    wait_until("the scheduler's end", SOON, || !is_running(pid));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    // Another scheduler starts and finds the objects.
    fixture.proxy.release();
    let (uri, ticks) = folder.put_next();
    folder.wait_for(&uri, "loaded");
    folder.must_hold(&ticks);
}

#[test]
fn nothing_is_listed_while_the_ingest_is_paused() {
    let fixture = DiscoveryFixture::start(&[("btc_ingest.poll_interval", "200ms")]);
    let mut folder = fixture.folder();
    let pattern = folder.pattern();
    folder.watch(&pattern, OFTEN);
    folder.wait_for_listings(&pattern, 1);
    folder.text("SELECT btc_ingest.pause_ingest()", &[]);
    // The listing in work, and the one that notices the pause.
    let mut seen = fixture.proxy.count("GET");
    let mut still = Instant::now();
    wait_until("listings to end", SOON, || {
        if fixture.proxy.count("GET") != seen {
            (seen, still) = (fixture.proxy.count("GET"), Instant::now());
        }
        still.elapsed() > Duration::from_secs(2)
    });
    let (uri, ticks) = folder.put_next();
    assert_eq!(folder.text("SELECT count(*)::text FROM btc_ingest.discover()", &[]), "0");
    assert_eq!(folder.object(&uri, "status"), "none");
    folder.text("SELECT btc_ingest.resume_ingest()", &[]);
    folder.wait_for(&uri, "loaded");
    folder.must_hold(&ticks);
}
