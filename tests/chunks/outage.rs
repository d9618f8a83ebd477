//! An S3 that goes away in the middle of a backfill by chunks.

use btc_ingest_kit::fixture::chunks::{chunk_fixture, put_weeks, week};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{Fault, FaultProxy, Tick, When};

/// Returns the units of so many weeks as they are if each holds all of its ticks.
fn sizes(all: &[Tick], weeks: i64) -> Vec<String> {
    let size = |number| {
        let range = week(number)..week(number + 1);
        format!("attached {}", all.iter().filter(|tick| range.contains(&tick.event_time_us)).count())
    };
    (0..weeks).map(size).collect()
}

#[test]
fn a_backfill_by_chunks_waits_for_s3_without_an_attempt_and_goes_on_by_itself() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let all = put_weeks(&fixture, 0..3, 4);
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    fixture.set("s3_max_attempts", "1");
    // The prefix is listed, the first chunk is made, and in the second one nothing can be read any more.
    proxy.on(When::list().from(2), Fault::access_denied());
    for day in ["20240815", "20240822"] {
        proxy.on(When::any().key(day), Fault::access_denied());
    }
    // One worker: while another one makes the first chunk, its objects would show that S3 answers.
    let call = fixture.begin(&fixture.by_bucket(), "mode => 'chunk', parallel => 1");
    fixture.wait_for("the first chunk", "EXISTS (SELECT FROM ingestion.backfill_chunks WHERE status = 'attached')");
    fixture.wait_for("looks at S3", "EXISTS (SELECT FROM btc_ingest.outages WHERE probes > 10)");
    let status = "SELECT concat_ws(' ', status, sqlstate, message LIKE '%until S3 answers%', objects_failed)
                    FROM btc_ingest.backfill_status()";
    assert_eq!(fixture.text(status), "loading S3005 t 0");
    let units = "SELECT string_agg(concat_ws(' ', status, attempts), ', ' ORDER BY chunk_from)
                   FROM ingestion.backfill_chunks";
    assert_eq!(fixture.text(units), "attached 1, pending 0, pending 0");

    proxy.clear();
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold_chunks(&all);
    assert_eq!(fixture.units(), sizes(&all, 3));
    let attempts = "SELECT concat_ws(' ', count(*), min(attempts), max(attempts)) FROM ingestion.objects";
    assert_eq!(fixture.text(attempts), "12 1 1");
    assert_eq!(fixture.status("status, sqlstate, message, objects_done"), "done 12");
    assert_eq!(fixture.number("SELECT count(*) FROM btc_ingest.outages"), 0);
}

#[test]
fn a_backfill_by_chunks_goes_on_although_its_prefix_cannot_be_listed_any_more() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let all = put_weeks(&fixture, 0..2, 3);
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    fixture.set("s3_max_attempts", "1");
    proxy.on(When::list().from(2), Fault::access_denied());
    let down = proxy.on(When::any().key("20240815"), Fault::internal_error());
    let call = fixture.begin(&fixture.by_bucket(), "mode => 'chunk', parallel => 1");
    fixture.wait_for("looks at S3", "EXISTS (SELECT FROM btc_ingest.outages WHERE probes > 3)");
    proxy.remove(down);
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold_chunks(&all);
    assert_eq!(fixture.units(), sizes(&all, 2));
    assert_eq!(fixture.number("SELECT count(*) FROM btc_ingest.outages"), 0);
}

#[test]
fn an_outage_while_footers_are_read_leaves_no_object_out_of_its_chunk() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let all = put_weeks(&fixture, 0..2, 3);
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    fixture.set("s3_max_attempts", "1");
    proxy.on(When::list().from(2), Fault::internal_error());
    proxy.on(When::any().key(".parquet"), Fault::internal_error());
    let call = fixture.begin(&[fixture.prefix("Binance/")], "mode => 'chunk', parallel => 1");
    fixture.wait_for("looks at S3", "EXISTS (SELECT FROM btc_ingest.outages WHERE probes > 10)");
    assert_eq!(fixture.status("status"), "listing");
    proxy.clear();
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold_chunks(&all);
    assert_eq!(fixture.units(), sizes(&all, 2));
}
