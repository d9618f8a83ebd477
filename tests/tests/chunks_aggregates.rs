//! Backfills by chunks beside continuous aggregates and compression policies.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backfill_bench;
mod chunks_bench;

use backfill_bench::{Bench, SOON, number, role, text};
use btc_ingest_tests::wait::wait_until;
use btc_ingest_tests::{Fault, FaultProxy, Tick, When};
use chunks_bench::{bench, put_weeks, some_ticks, week};

/// An aggregate of this width, and newer ticks that its watermark lies behind.
fn with_aggregate(bench: &mut Bench, width: &str) -> Vec<Tick> {
    let newer = some_ticks("BTCUSDT", week(10), 4);
    bench.put("newer/a.parquet", &newer);
    bench.done(&[bench.prefix("newer/")], "");
    bench.run(&format!(
        "CREATE MATERIALIZED VIEW market_data.sums WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
             SELECT time_bucket('{width}', bucket_5m) AS bucket, symbol, count(*) AS n, sum(price * quantity) AS amount
               FROM market_data.btc_ticks GROUP BY 1, 2 WITH NO DATA"
    ));
    bench.run("CALL refresh_continuous_aggregate('market_data.sums', NULL, NULL)");
    newer
}

/// Buckets in which the aggregate differs from the ticks.
fn differing(bench: &mut Bench, width: &str) -> i64 {
    bench.number(&format!(
        "SELECT count(*) FROM (SELECT time_bucket('{width}', bucket_5m) AS bucket, symbol, count(*) AS n, sum(price * quantity) AS amount
                                 FROM market_data.btc_ticks GROUP BY 1, 2) AS t
           FULL JOIN market_data.sums s USING (bucket, symbol) WHERE (t.n, t.amount) IS DISTINCT FROM (s.n, s.amount)"
    ))
}

fn an_aggregate_is_complete(width: &str) {
    let Some(mut bench) = bench() else { return };
    let newer = with_aggregate(&mut bench, width);
    assert_eq!(differing(&mut bench, width), 0);
    let older = put_weeks(&bench, 0..3, 2);
    bench.chunked(&bench.by_bucket(), "parallel => 2");
    assert!(bench.units().iter().all(|unit| unit.starts_with("attached ")), "{:?}", bench.units());
    bench.must_hold_chunks(&[older, newer].concat());
    assert_eq!(differing(&mut bench, width), 0, "buckets that differ");
}

#[test]
fn an_aggregate_by_the_hour_is_complete_after_older_chunks_were_attached() {
    an_aggregate_is_complete("1 hour");
}

#[test]
fn an_aggregate_by_the_week_is_complete_after_older_chunks_were_attached() {
    an_aggregate_is_complete("1 week");
}

#[test]
fn an_aggregate_by_the_month_is_complete_after_older_chunks_were_attached() {
    an_aggregate_is_complete("1 month");
}

#[test]
fn an_aggregate_learns_of_what_is_changed_in_an_attached_chunk_later() {
    let Some(mut bench) = bench() else { return };
    with_aggregate(&mut bench, "1 hour");
    put_weeks(&bench, 0..1, 2);
    bench.chunked(&bench.by_bucket(), "");
    assert_eq!(bench.units().len(), 1);
    let live = some_ticks("LIVE", week(0), 1);
    let uri = bench.put("elsewhere/live.parquet", &live);
    btc_ingest_tests::stand::loaded(&mut bench.client, &uri, "");
    bench.run(
        "UPDATE market_data.btc_ticks SET price = price + 1 WHERE symbol = 'BTCUSDT' AND bucket_5m < '2024-09-01'",
    );
    assert!(differing(&mut bench, "1 hour") > 0);
    bench.run("CALL refresh_continuous_aggregate('market_data.sums', NULL, NULL)");
    assert_eq!(differing(&mut bench, "1 hour"), 0);
}

#[test]
fn a_refresh_that_a_cancelled_backfill_owes_is_not_forgotten() {
    let Some(mut bench) = bench() else { return };
    with_aggregate(&mut bench, "1 hour");
    put_weeks(&bench, 0..1, 2);
    // As another worker would that is at it.
    let mut other = bench.db.client();
    other.batch_execute("SELECT pg_advisory_lock(hashtextextended('btc_ingest.refresh', 0))").unwrap();
    let call = bench.begin(&bench.by_bucket(), "mode => 'chunk', parallel => 1");
    bench.wait_for(
        "the chunk",
        "SELECT count(*) = 1 FROM ingestion.backfill_chunks WHERE status = 'attached' AND refresh_due",
    );
    bench.run("SELECT btc_ingest.cancel_backfill(max(id)) FROM ingestion.backfills");
    call.join().unwrap();
    other.batch_execute("SELECT pg_advisory_unlock_all()").unwrap();
    bench.must_have_no_stage();
    bench.chunked(&bench.by_bucket(), "");
    bench.run("CALL refresh_continuous_aggregate('market_data.sums', NULL, NULL)");
    assert_eq!(differing(&mut bench, "1 hour"), 0);
}

#[test]
fn an_aggregate_over_an_aggregate_is_complete_after_its_own_refresh() {
    let Some(mut bench) = bench() else { return };
    with_aggregate(&mut bench, "1 hour");
    bench.run(
        "CREATE MATERIALIZED VIEW market_data.daily WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
             SELECT time_bucket('1 day', bucket) AS day, sum(n) AS n FROM market_data.sums GROUP BY 1 WITH NO DATA",
    );
    bench.run("CALL refresh_continuous_aggregate('market_data.daily', NULL, NULL)");
    put_weeks(&bench, 0..2, 2);
    bench.chunked(&bench.by_bucket(), "");
    bench.run("CALL refresh_continuous_aggregate('market_data.daily', NULL, NULL)");
    assert_eq!(
        bench.text("SELECT (sum(n) = (SELECT count(*) FROM market_data.btc_ticks))::text FROM market_data.daily"),
        "true"
    );
}

/// What its query calls would run with the worker's rights.
#[test]
fn an_aggregate_of_somebody_who_is_no_superuser_is_left_to_him_and_said() {
    let Some(mut bench) = bench() else { return };
    with_aggregate(&mut bench, "1 hour");
    bench.run(&role("viewer"));
    bench.run(
        "GRANT USAGE ON SCHEMA market_data TO viewer; GRANT SELECT ON market_data.btc_ticks TO viewer;
         ALTER MATERIALIZED VIEW market_data.sums OWNER TO viewer",
    );
    put_weeks(&bench, 0..1, 2);
    bench.chunked(&bench.by_bucket(), "");
    let units = bench.units();
    assert!(
        units.len() == 1 && units[0].contains("its continuous aggregates were not refreshed (they belong to viewer)"),
        "{units:?}"
    );
    assert!(differing(&mut bench, "1 hour") > 0);
    bench.run("SET ROLE viewer");
    bench.run("CALL refresh_continuous_aggregate('market_data.sums', NULL, NULL)");
    bench.run("RESET ROLE");
    assert_eq!(differing(&mut bench, "1 hour"), 0);
}

const JOB: &str =
    "SELECT bool_and(scheduled)::text FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression'";

/// The worker lets it run when it has said that it is over.
fn must_run_again(bench: &mut Bench, when: &str) {
    bench.wait_for(&format!("the policy {when}"), &format!("({JOB})::boolean"));
}

fn with_policy(bench: &mut Bench, after: &str) {
    bench.run(&format!(
        "ALTER TABLE market_data.btc_ticks SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol', timescaledb.compress_orderby = 'bucket_5m, trade_id');
         SELECT add_compression_policy('market_data.btc_ticks', interval '{after}')"
    ));
}

#[test]
fn chunks_that_are_due_are_compressed_and_the_policy_runs_again_after_the_end() {
    let Some(mut bench) = bench() else { return };
    with_policy(&mut bench, "7 days");
    let all = put_weeks(&bench, 0..3, 2);
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    proxy.on(When::get().key("20240808T1200Z").times(1), Fault::Hang);
    let call = bench.begin(&bench.by_bucket(), "mode => 'chunk', parallel => 1");
    proxy.wait_until_stalled(SOON);
    assert_eq!(bench.text(JOB), "false", "while it runs");
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    must_run_again(&mut bench, "after the end");
    bench.must_hold_chunks(&all);
    assert_eq!(bench.number("SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"), 3);
}

#[test]
fn a_policy_runs_again_after_a_cancel() {
    let Some(mut bench) = bench() else { return };
    with_policy(&mut bench, "7 days");
    put_weeks(&bench, 0..2, 2);
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    proxy.on(When::get().key("20240808T1200Z").times(1), Fault::Hang);
    let call = bench.begin(&bench.by_bucket(), "mode => 'chunk', parallel => 1");
    proxy.wait_until_stalled(SOON);
    assert_eq!(bench.text(JOB), "false", "while it runs");
    bench.run("SELECT btc_ingest.cancel_backfill(1)");
    assert_eq!(bench.text(JOB), "true", "after the cancel");
    call.join().unwrap();
    bench.must_have_no_stage();
}

#[test]
fn a_policy_is_paused_again_when_a_stopped_backfill_is_taken_up() {
    let Some(mut bench) = bench() else { return };
    with_policy(&mut bench, "7 days");
    let all = put_weeks(&bench, 0..2, 2);
    // What a full disk says.
    bench.run(
        "CREATE FUNCTION ingestion.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON ingestion.object_slices FOR EACH ROW EXECUTE FUNCTION ingestion.full()",
    );
    let called = bench.call(&bench.by_bucket(), "mode => 'chunk', parallel => 1");
    assert_eq!(called.sqlstate(), "53100", "{called:#?}");
    must_run_again(&mut bench, "while it is stopped");
    bench.must_have_no_stage();
    bench.run("DROP TRIGGER full_disk ON ingestion.object_slices");
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    proxy.on(When::get().key("20240808T1200Z").times(1), Fault::Hang);
    let call = bench.begin(&bench.by_bucket(), "mode => 'chunk', parallel => 1");
    proxy.wait_until_stalled(SOON);
    let client = &mut bench.client;
    wait_until("the filling", SOON, || {
        number(client, "SELECT count(*) FROM ingestion.backfill_chunks WHERE attempts > 0") > 0
    });
    let paused = text(&mut bench.client, JOB);
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    bench.must_hold_chunks(&all);
    assert_eq!(paused, "false", "while it runs again");
    must_run_again(&mut bench, "after the end");
}

#[test]
fn a_policy_runs_again_although_the_worker_ended_right_after_the_backfill() {
    let Some(mut bench) = bench() else { return };
    with_policy(&mut bench, "100 years");
    put_weeks(&bench, 0..1, 2);
    let proxy = FaultProxy::before(&bench.stand.s3);
    bench.through(&proxy);
    proxy.on(When::get().key("20240808T1200Z").times(1), Fault::Hang);
    let call = bench.begin(&bench.by_bucket(), "mode => 'chunk', parallel => 1");
    proxy.wait_until_stalled(SOON);
    // Whoever changes jobs waits.
    let mut other = bench.db.client();
    other.batch_execute("BEGIN; LOCK TABLE _timescaledb_config.bgw_job IN EXCLUSIVE MODE").unwrap();
    proxy.release();
    bench.wait_for("the worker", "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'btc_ingest backfill' AND wait_event_type = 'Lock'");
    let pid = bench.workers()[0] as i32;
    bench.client.query_one("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(call.join().unwrap().refusal, None);
    must_run_again(&mut bench, "after the end");
}
