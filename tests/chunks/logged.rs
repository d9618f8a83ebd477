//! What the log and the view `progress` say of a backfill by chunks.

use btc_ingest_kit::fixture::backfill::BackfillFixture;
use btc_ingest_kit::fixture::chunks::{chunk_fixture_preloaded, put_weeks, week};
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::wait::SOON;
use btc_ingest_kit::{Fault, FaultProxy, When};

/// Returns the lines of the log that begin with this text, without what depends on time.
fn said(fixture: &BackfillFixture, begin: &str) -> Vec<String> {
    let log = fixture.db.log();
    let ours = log.lines().filter_map(|line| line.split_once("LOG:  btc_ingest: ").map(|(_, said)| said));
    let timeless = |said: &str| match said.rsplit_once("; ") {
        Some((what, time)) if time.ends_with(" ms") => what.to_owned(),
        _ => said.to_owned(),
    };
    ours.filter(|said| said.starts_with(begin)).map(timeless).collect()
}

#[test]
fn progress_shows_the_object_that_a_chunk_is_filled_from_and_the_log_says_what_became_of_it() {
    let Some(mut fixture) = chunk_fixture_preloaded() else { return };
    let all = put_weeks(&fixture, 0..2, 3);
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    // The second chunk exists already, so its objects are loaded one by one.
    let first_of_second = all.iter().position(|tick| tick.event_time_us >= week(1)).unwrap();
    let (first, second) = all.split_at(first_of_second);
    let uri = fixture.put("other.parquet", &second[..1]);
    loaded(&mut fixture.client, &uri, "");

    proxy.on(When::get().key("20240808T1205Z"), Fault::Hang);
    let prefixes = fixture.by_bucket();
    let call = fixture.begin(&prefixes, "mode => 'chunk', parallel => 1");
    proxy.wait_until_stalled(SOON);
    let progress = "SELECT concat_ws(' ', worker, phase, uri LIKE '%_20240808T1205Z.parquet', running > '0 s',
                                     started_at IS NOT NULL)
                      FROM btc_ingest.progress";
    fixture.wait_for("the object", &format!("EXISTS ({progress} WHERE uri LIKE '%T1205Z.parquet')"));
    assert_eq!(fixture.texts(progress), ["backfill opening t t t"]);
    assert_eq!(said(&fixture, &fixture.prefix("Binance/")), [""; 0], "nothing is committed yet");
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    assert_eq!(fixture.texts(progress), [""; 0]);

    let lines = said(&fixture, "backfill 1 ");
    let rows = first.len();
    assert_eq!(
        lines[..2],
        [
            format!("backfill 1 has begun: mode chunk, 1 workers, {}", prefixes[0]),
            format!("backfill 1 has made the chunk of 2024-08-08T00:00:00Z: {rows} rows, 3 objects"),
        ]
    );
    let by_object = "backfill 1 loads the chunk of 2024-08-15T00:00:00Z object by object: ";
    assert!(lines.len() == 4 && lines[2].starts_with(by_object) && lines[2].len() > by_object.len(), "{lines:?}");
    // The tick that was stored before is a duplicate.
    assert_eq!(lines[3], format!("backfill 1 is done: 6 objects loaded, 0 failed, {} rows", all.len() - 1));
    let objects = said(&fixture, &fixture.prefix("Binance/"));
    assert!(objects.len() == 6 && objects.iter().all(|line| line.contains(".parquet loaded: ")), "{objects:?}");
}
