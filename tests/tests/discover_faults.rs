//! Discovery while S3 fails: nothing stops, nobody is needed, and one prefix does not hold up another.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod discover_bench;

use std::time::{Duration, Instant};

use btc_ingest_tests::process::is_running;
use btc_ingest_tests::{Fault, When, wait_until};
use discover_bench::{SOON, Site};

const OFTEN: &str = r#"{"interval": "200 ms", "full_interval": "1 day"}"#;
const PLAIN: &str = r#"{"interval": "200 ms"}"#;

#[test]
fn an_s3_that_is_away_for_a_while_needs_no_operator() {
    let site = Site::start(&[("btc_ingest.s3_max_attempts", "1")]);
    let mut folder = site.folder();
    let pattern = folder.pattern();
    let (first, mut all) = folder.put_next();
    folder.watch(&pattern, OFTEN);
    folder.wait_for(&first, "loaded");
    folder.wait_for_listings(&pattern, 1);
    let (scheduler, groups) = (site.scheduler(), folder.watched(&pattern, "groups, last_full_at"));

    let away = site.proxy.on(When::any(), Fault::Drop);
    let (second, ticks) = folder.put_next();
    all.extend(ticks);
    folder.wait_for_listings(&pattern, 3);
    assert!(site.proxy.acted(away) >= 3, "it is tried again every time");
    assert!(folder.watched(&pattern, "sqlstate").starts_with("S3"), "{}", folder.watched(&pattern, "message"));
    assert_eq!(folder.watched(&pattern, "groups, last_full_at"), groups, "where it stood");
    assert_eq!(folder.object(&second, "status"), "none");
    site.proxy.clear();

    folder.wait_for(&second, "loaded");
    folder.wait_for_listings(&pattern, 1);
    folder.must_hold(&all);
    assert_eq!(folder.watched(&pattern, "coalesce(message, 'none')"), "none");
    assert_eq!(site.scheduler(), scheduler, "no process has ended for it");
    // Said once, whatever the number of tries.
    let log = site.cluster.log();
    let said = |what: &str| log.lines().filter(|line| line.contains(what) && line.contains(&folder.name)).count();
    assert_eq!((said("cannot be listed"), said("can be listed again")), (1, 1), "{log}");
}

#[test]
fn a_forbidden_prefix_and_one_that_does_not_answer_hold_up_no_other() {
    let site = Site::start(&[]);
    let (mut folder, mut other) = (site.folder(), site.folder());
    let (forbidden, silent, outside) =
        (folder.prefix("forbidden/"), folder.prefix("silent/"), other.prefix("outside/"));
    site.proxy.on(When::list().key("forbidden"), Fault::access_denied());
    let hanging = site.proxy.on(When::list().key("silent"), Fault::Hang);
    for prefix in [&forbidden, &silent, &outside] {
        folder.watch(prefix, PLAIN);
    }
    // What was allowed once may not be any more.
    let allowed = format!("ALTER SYSTEM SET btc_ingest.allowed_prefixes = 's3://landing/{}'", folder.name);
    for sql in ["LOAD 'btc_ingest'", &allowed, "SELECT pg_reload_conf()"] {
        folder.client.batch_execute(sql).unwrap();
    }
    site.proxy.wait_until_stalled(SOON);
    assert!(site.proxy.acted(hanging) > 0);

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

    // By hand, one that cannot be listed is a row of its own.
    folder.text("SELECT btc_ingest.unwatch($1)", &[&silent]);
    let found = "SELECT string_agg(concat_ws(' ', listed, problem IS NOT NULL), ', ' ORDER BY watched_prefix <> $1, watched_prefix) FROM btc_ingest.discover()";
    assert_eq!(folder.text(found, &[&pattern]), "3 f, 0 t, 0 t");
}

#[test]
fn the_scheduler_ends_within_a_second_while_a_listing_hangs() {
    let site = Site::start(&[]);
    let mut folder = site.folder();
    let prefix = folder.prefix("");
    site.proxy.on(When::list(), Fault::Hang);
    folder.watch(&prefix, PLAIN);
    site.proxy.wait_until_stalled(SOON);
    let pid = site.scheduler();
    let began = Instant::now();
    folder.client.execute("SELECT pg_terminate_backend($1)", &[&(pid as i32)]).unwrap();
    wait_until("the scheduler's end", SOON, || !is_running(pid));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    // Another one comes, and finds what is there.
    site.proxy.release();
    let (uri, ticks) = folder.put_next();
    folder.wait_for(&uri, "loaded");
    folder.must_hold(&ticks);
}

#[test]
fn nothing_is_listed_while_the_ingest_is_paused() {
    let site = Site::start(&[("btc_ingest.poll_interval", "200ms")]);
    let mut folder = site.folder();
    let pattern = folder.pattern();
    folder.watch(&pattern, OFTEN);
    folder.wait_for_listings(&pattern, 1);
    folder.text("SELECT btc_ingest.pause_ingest()", &[]);
    // The round that was under way, and one in which the pause is seen.
    let mut seen = site.proxy.count("GET");
    let mut still = Instant::now();
    wait_until("listings to end", SOON, || {
        if site.proxy.count("GET") != seen {
            (seen, still) = (site.proxy.count("GET"), Instant::now());
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
