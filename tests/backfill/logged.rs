//! The lines about a backfill in the server's log.

use btc_ingest_kit::fixture::backfill::BackfillFixture;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::wait::{SOON, wait_until};
use btc_ingest_kit::{Fault, FaultProxy, ServerFixture, When};

/// Returns the lines of the log since the database was made that begin with this text, without what depends on time.
fn said(fixture: &BackfillFixture, begin: &str) -> Vec<String> {
    let log = fixture.db.log();
    let ours = log.lines().filter_map(|line| line.split_once("LOG:  btc_ingest: ").map(|(_, said)| said));
    let timeless = |said: &str| match said.rsplit_once("; ") {
        Some((what, time)) if time.ends_with(" ms") => what.to_owned(),
        _ => said.to_owned(),
    };
    ours.filter(|said| said.starts_with(begin)).map(timeless).collect()
}

/// A server of its own, because numbers of backfills are those of a database and the log is that of the server.
fn alone() -> BackfillFixture {
    BackfillFixture::of(Box::leak(Box::new(ServerFixture::start())))
}

#[test]
fn a_backfill_logs_its_begin_its_objects_and_its_end() {
    let mut fixture = alone();
    let all = fixture.put_small(2);
    let prefix = fixture.prefix("Binance/");
    fixture.done(std::slice::from_ref(&prefix), "parallel => 2");
    fixture.must_hold(&all);
    let end = format!("backfill 1 is done: 2 objects loaded, 0 failed, {} rows", all.len());
    assert_eq!(said(&fixture, "backfill"), [format!("backfill 1 has begun: mode object, 2 workers, {prefix}"), end]);
    let mut objects = said(&fixture, &prefix);
    objects.sort();
    assert_eq!(objects.len(), 2, "{objects:?}");
    for (object, time) in objects.iter().zip(["T1200Z", "T1205Z"]) {
        assert!(object.contains(&format!("{time}.parquet loaded: ")) && object.ends_with(" 0 duplicate"), "{object}");
    }

    fixture.set("log_loads", "off");
    fixture.done(&[fixture.prefix("Binance/BTCUSDT/")], "");
    assert_eq!(said(&fixture, "").len(), 4, "nothing more with log_loads = off");
}

#[test]
fn a_backfill_logs_why_it_stopped_that_it_goes_on_and_that_it_is_cancelled() {
    let mut fixture = alone();
    fixture.put_small(2);
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    proxy.on(When::list(), Fault::access_denied());
    let prefixes = [fixture.prefix("Binance/")];
    assert_eq!(fixture.call(&prefixes, "").sqlstate(), "S3005");
    let lines = said(&fixture, "backfill 1 ");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].starts_with("backfill 1 has stopped: ") && lines[1].ends_with("(S3005)"), "{lines:?}");

    proxy.clear();
    proxy.on(When::get(), Fault::Hang);
    let call = fixture.begin(&prefixes, "");
    proxy.wait_until_stalled(SOON);
    fixture.run("SELECT btc_ingest.cancel_backfill(1)");
    assert_eq!(call.join().unwrap().refusal, None);
    proxy.release();
    wait_until("the last line", SOON, || said(&fixture, "backfill 1 is cancelled").len() == 1);
    let goes_on = format!("backfill 1 goes on: mode object, 2 workers, {}", prefixes[0]);
    assert_eq!(said(&fixture, "backfill 1 ")[2..], [goes_on, "backfill 1 is cancelled".to_owned()]);
}
