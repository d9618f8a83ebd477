//! Objects that reach into several chunks or overlap, and hypertables to which no table can be attached as a chunk.

use btc_ingest_kit::fixture::chunks::{chunk_fixture, put_slice, put_weeks, some_ticks, week};
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::sql::{Session, number};
use btc_ingest_kit::ticks::BUCKET_US;
use btc_ingest_kit::wait::{SOON, wait_until};
use btc_ingest_kit::{Fault, FaultProxy, Tick, When};

const NO_WORKER_WAITS: &str = "SELECT count(*) FROM pg_stat_activity
                                WHERE backend_type = 'btc_ingest backfill' AND datname = current_database()
                                    AND wait_event_type = 'Lock'";

#[test]
fn a_chunk_that_a_live_load_makes_while_it_is_being_filled_is_left_to_object_loads() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let mut all = put_weeks(&fixture, 0..2, 3);
    let live = some_ticks("LIVE", week(0), 1);
    let uri = fixture.put("elsewhere/live.parquet", &live);
    let mut hand = fixture.db.client();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    proxy.on(When::get().key("20240808T1205Z").times(1), Fault::Hang);
    let call = fixture.begin(&fixture.by_bucket(), "mode => 'chunk', parallel => 1");
    proxy.wait_until_stalled(SOON);
    fixture.wait_for("the filling", "SELECT bool_or(attempts > 0) FROM ingestion.backfill_chunks");
    // Reads through the server itself, not through the proxy that it began with.
    hand.batch_execute(&format!("SET btc_ingest.s3_endpoint = '{}'", fixture.server.s3.endpoint())).unwrap();
    assert_eq!(loaded(&mut hand, &uri, "").inserted, live.len() as i64);
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    all.extend(live);
    fixture.must_hold_chunks(&all);
    let units = fixture.units();
    assert!(units[0].starts_with("objects: the chunk exists already"), "{units:?}");
    assert!(units[1].starts_with("attached"), "{units:?}");
}

#[test]
fn a_month_over_several_chunks_is_loaded_exactly_by_one_worker() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let mut month = Vec::new();
    for number in 0..4 {
        month.extend(some_ticks("BTCUSDT", week(number), 1));
    }
    fixture.put("Binance/BTCUSDT/2024/08/all.parquet", &month);
    fixture.chunked(&[fixture.prefix("Binance/{asset}/{yyyy}/{mm}/")], "parallel => 1");
    fixture.must_hold_chunks(&month);
    assert_eq!(fixture.counts(), [format!("{0} {0} 0 0 loaded", month.len())]);
    let rows = fixture.text(
        "SELECT string_agg(rows::text, ' ' ORDER BY chunk_from) FROM ingestion.backfill_chunks
                              WHERE status = 'attached'",
    );
    let stored = fixture.text(
        "SELECT string_agg(n::text, ' ' ORDER BY at)
                                 FROM (SELECT time_bucket('7 days', bucket_5m, 'epoch'::timestamptz) AS at,
                                     count(*) AS n FROM market_data.btc_ticks GROUP BY 1) AS c",
    );
    assert_eq!(rows, stored);
}

#[test]
fn a_month_over_several_chunks_is_loaded_exactly_by_two_workers() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let mut month = Vec::new();
    for number in 0..4 {
        month.extend(some_ticks("BTCUSDT", week(number), 1));
    }
    fixture.put("Binance/BTCUSDT/2024/08/all.parquet", &month);
    // Keeps the first chunk in work while the month is built.
    let late = week(0) + 1000 * BUCKET_US;
    let slice = some_ticks("OTHER", late, 1);
    fixture.put("Binance/BTCUSDT/2024/08/slow.parquet", &slice);
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    proxy.on(When::get().key("slow").times(1), Fault::Hang);
    let call = fixture.begin(&[fixture.prefix("Binance/{asset}/{yyyy}/{mm}/")], "mode => 'chunk', parallel => 2");
    proxy.wait_until_stalled(SOON);
    let begun = std::time::Instant::now();
    let client = &mut fixture.client;
    wait_until("the second", SOON, || number(client, NO_WORKER_WAITS) > 0 || begun.elapsed().as_secs() > 5);
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    let all: Vec<Tick> = [month.clone(), slice.clone()].concat();
    fixture.must_hold_chunks(&all);
    assert_eq!(
        fixture.counts(),
        [format!("{0} {0} 0 0 loaded", month.len()), format!("{0} {0} 0 0 loaded", slice.len())]
    );
}

#[test]
fn parts_of_one_object_are_not_counted_as_attempts() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let mut month = Vec::new();
    for number in 0..5 {
        month.extend(some_ticks("BTCUSDT", week(number), 1));
    }
    fixture.put("Binance/BTCUSDT/2024/08/all.parquet", &month);
    // The last of its chunks exists already.
    let live = some_ticks("LIVE", week(4), 1);
    let uri = fixture.put("elsewhere/live.parquet", &live);
    loaded(&mut fixture.client, &uri, "");
    fixture.chunked(&[fixture.prefix("Binance/{asset}/{yyyy}/")], "parallel => 1");
    fixture.must_hold_chunks(&[month, live].concat());
}

#[test]
fn two_workers_fill_two_chunks_at_once() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let all = put_weeks(&fixture, 0..2, 3);
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    // The first chunk waits at its first object.
    proxy.on(When::get().key("20240808T1205Z").times(1), Fault::Hang);
    let call = fixture.begin(&fixture.by_bucket(), "mode => 'chunk', parallel => 2");
    fixture.wait_for(
        "the second chunk",
        "SELECT count(*) = 1 FROM ingestion.backfill_chunks WHERE status = 'attached' AND chunk_from > '2024-08-10'",
    );
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold_chunks(&all);
}

#[test]
fn an_object_that_cannot_be_read_leaves_no_table() {
    let Some(mut fixture) = chunk_fixture() else { return };
    fixture.put_bytes("Binance/BTCUSDT/2024/08/08/BTCUSDT_20240808T1200Z.parquet", "no parquet".repeat(100));
    fixture.chunked(&fixture.by_bucket(), "");
    fixture.must_have_no_stage();
}

#[test]
fn ticks_outside_the_chunk_that_a_key_names_are_stored_once() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let file = some_ticks("BTCUSDT", week(1) - BUCKET_US, 2);
    put_slice(&fixture, week(1) - BUCKET_US, &file);
    let mut all = put_weeks(&fixture, 1..2, 2);
    all.extend(file.clone());
    fixture.chunked(&fixture.by_bucket(), "parallel => 1");
    fixture.must_hold_chunks(&all);
}

/// Makes ticks of the last bucket of the first week and of the first bucket of the second one, with one id in common.
fn across_the_border() -> (Vec<Tick>, Vec<Tick>) {
    let (before, mut behind) = (some_ticks("BTCUSDT", week(1) - BUCKET_US, 1), some_ticks("BTCUSDT", week(1), 1));
    behind[0].trade_id = before.last().unwrap().trade_id;
    (before, behind)
}

const BORDER: &str = "objects: a trade of it is stored on the other side of its border as well";

#[test]
fn a_trade_that_is_stored_beyond_the_border_while_a_chunk_is_being_filled_is_not_stored_again() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let (before, behind) = across_the_border();
    put_slice(&fixture, week(1) - BUCKET_US, &before);
    let last = some_ticks("ZZZUSDT", week(1) - BUCKET_US, 1);
    fixture.put("Binance/ZZZUSDT/2024/08/14/ZZZUSDT_20240814T2355Z.parquet", &last);
    let uri = fixture.put("elsewhere/live.parquet", &behind);
    let mut hand = fixture.db.client();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    proxy.on(When::get().key("ZZZUSDT"), Fault::Hang);
    let call = fixture.begin(&fixture.by_bucket(), "mode => 'chunk', parallel => 1");
    fixture.wait_for(
        "the first object",
        "SELECT count(*) = 1 FROM pg_stat_activity
                                           WHERE datname = current_database()
                                               AND query = 'filling a chunk: 1 of 2 objects'",
    );
    assert_eq!(loaded(&mut hand, &uri, "").inserted, behind.len() as i64);
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold_chunks(&[&before[..before.len() - 1], &behind, &last].concat());
    assert_eq!(fixture.units(), [BORDER]);
}

#[test]
fn a_trade_in_two_chunks_that_are_filled_at_once_is_stored_once() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let (before, behind) = across_the_border();
    put_slice(&fixture, week(1) - BUCKET_US, &before);
    put_slice(&fixture, week(1), &behind);
    let (last, next) = (some_ticks("ZZZUSDT", week(1) - BUCKET_US, 1), some_ticks("ZZZUSDT", week(1), 1));
    fixture.put("Binance/ZZZUSDT/2024/08/14/ZZZUSDT_20240814T2355Z.parquet", &last);
    fixture.put("Binance/ZZZUSDT/2024/08/15/ZZZUSDT_20240815T0000Z.parquet", &next);
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    proxy.on(When::get().key("ZZZUSDT"), Fault::Hang);
    let call = fixture.begin(&fixture.by_bucket(), "mode => 'chunk', parallel => 2");
    fixture.wait_for(
        "both chunks",
        "SELECT count(*) = 2 FROM pg_stat_activity
                                      WHERE datname = current_database()
                                          AND query = 'filling a chunk: 1 of 2 objects'",
    );
    proxy.wait_until_stalled(SOON);
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    let units = fixture.units();
    let (before, behind) = match units[0] == BORDER {
        true => (&before[..before.len() - 1], &behind[..]),
        false => (&before[..], &behind[1..]),
    };
    assert_eq!(units.iter().filter(|unit| *unit == BORDER).count(), 1, "{units:?}");
    assert_eq!(units.iter().filter(|unit| unit.starts_with("attached ")).count(), 1, "{units:?}");
    fixture.must_hold_chunks(&[before, behind, &last, &next].concat());
}
