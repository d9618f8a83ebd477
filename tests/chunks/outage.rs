//! An S3 that goes away in the middle of a backfill by chunks.

use btc_ingest_kit::fixture::chunks::{chunk_fixture, put_weeks, week};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{Fault, FaultProxy, When};

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
    let call = fixture.begin(&fixture.by_bucket(), "mode => 'chunk', parallel => 2");
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
    let sizes = (0..3).map(|number| {
        let range = week(number)..week(number + 1);
        format!("attached {}", all.iter().filter(|tick| range.contains(&tick.event_time_us)).count())
    });
    assert_eq!(fixture.units(), sizes.collect::<Vec<_>>());
    let attempts = "SELECT concat_ws(' ', count(*), min(attempts), max(attempts)) FROM ingestion.objects";
    assert_eq!(fixture.text(attempts), "12 1 1");
    assert_eq!(fixture.status("status, sqlstate, message, objects_done"), "done 12");
    assert_eq!(fixture.number("SELECT count(*) FROM btc_ingest.outages"), 0);
}
