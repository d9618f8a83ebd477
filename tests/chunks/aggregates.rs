//! Backfills by chunks beside continuous aggregates and compression policies.

use std::thread::JoinHandle;

use btc_ingest_kit::fixture::backfill::{BackfillFixture, Called, role};
use btc_ingest_kit::fixture::chunks::{chunk_fixture, put_weeks, some_ticks, week};
use btc_ingest_kit::sql::{Session, number, text};
use btc_ingest_kit::wait::{SOON, wait_until};
use btc_ingest_kit::{Fault, FaultProxy, Tick, When};

/// Creates an aggregate of this width, and newer ticks that move its watermark past the chunks.
fn with_aggregate(fixture: &mut BackfillFixture, width: &str) -> Vec<Tick> {
    let newer = some_ticks("BTCUSDT", week(10), 4);
    fixture.put("newer/a.parquet", &newer);
    fixture.done(&[fixture.prefix("newer/")], "");
    fixture.run(&format!(
        "CREATE MATERIALIZED VIEW market_data.sums WITH (timescaledb.continuous,
                timescaledb.materialized_only = true) AS
             SELECT time_bucket('{width}', bucket_5m) AS bucket, symbol, count(*) AS n, sum(price * quantity) AS amount
               FROM market_data.btc_ticks GROUP BY 1, 2 WITH NO DATA"
    ));
    fixture.run("CALL refresh_continuous_aggregate('market_data.sums', NULL, NULL)");
    newer
}

/// Counts the buckets in which the aggregate differs from the ticks.
fn differing(fixture: &mut BackfillFixture, width: &str) -> i64 {
    fixture.number(&format!(
        "SELECT count(*) FROM (SELECT time_bucket('{width}', bucket_5m) AS bucket, symbol, count(*) AS n,
                sum(price * quantity) AS amount
                                 FROM market_data.btc_ticks GROUP BY 1, 2) AS t
           FULL JOIN market_data.sums s USING (bucket, symbol) WHERE (t.n, t.amount) IS DISTINCT FROM (s.n, s.amount)"
    ))
}

fn an_aggregate_is_complete(width: &str) {
    let Some(mut fixture) = chunk_fixture() else { return };
    let newer = with_aggregate(&mut fixture, width);
    assert_eq!(differing(&mut fixture, width), 0);
    let older = put_weeks(&fixture, 0..3, 2);
    fixture.chunked(&fixture.by_bucket(), "parallel => 2");
    assert!(fixture.units().iter().all(|unit| unit.starts_with("attached ")), "{:?}", fixture.units());
    fixture.must_hold_chunks(&[older, newer].concat());
    assert_eq!(differing(&mut fixture, width), 0, "buckets that differ");
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
    let Some(mut fixture) = chunk_fixture() else { return };
    with_aggregate(&mut fixture, "1 hour");
    put_weeks(&fixture, 0..1, 2);
    fixture.chunked(&fixture.by_bucket(), "");
    assert_eq!(fixture.units().len(), 1);
    let live = some_ticks("LIVE", week(0), 1);
    let uri = fixture.put("elsewhere/live.parquet", &live);
    btc_ingest_kit::fixture::loaded(&mut fixture.client, &uri, "");
    fixture.run(
        "UPDATE market_data.btc_ticks SET price = price + 1 WHERE symbol = 'BTCUSDT' AND bucket_5m < '2024-09-01'",
    );
    assert!(differing(&mut fixture, "1 hour") > 0);
    fixture.run("CALL refresh_continuous_aggregate('market_data.sums', NULL, NULL)");
    assert_eq!(differing(&mut fixture, "1 hour"), 0);
}

#[test]
fn a_refresh_that_a_cancelled_backfill_owes_is_not_forgotten() {
    let Some(mut fixture) = chunk_fixture() else { return };
    with_aggregate(&mut fixture, "1 hour");
    put_weeks(&fixture, 0..1, 2);
    // No refresh can begin.
    fixture.run(
        "CREATE FUNCTION public.later() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
         $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER later BEFORE UPDATE OF attempts ON ingestion.backfill_chunks FOR EACH ROW
         WHEN (OLD.refresh_due) EXECUTE FUNCTION public.later()",
    );
    let call = fixture.begin(&fixture.by_bucket(), "mode => 'chunk', parallel => 1");
    fixture.wait_for(
        "the chunk",
        "SELECT count(*) = 1 FROM ingestion.backfill_chunks WHERE status = 'attached' AND refresh_due",
    );
    fixture.run("SELECT btc_ingest.cancel_backfill(max(id)) FROM ingestion.backfills");
    call.join().unwrap();
    fixture.run("DROP TRIGGER later ON ingestion.backfill_chunks");
    fixture.must_have_no_stage();
    fixture.chunked(&fixture.by_bucket(), "");
    fixture.run("CALL refresh_continuous_aggregate('market_data.sums', NULL, NULL)");
    assert_eq!(differing(&mut fixture, "1 hour"), 0);
}

#[test]
fn an_aggregate_over_an_aggregate_is_complete_after_its_own_refresh() {
    let Some(mut fixture) = chunk_fixture() else { return };
    with_aggregate(&mut fixture, "1 hour");
    fixture.run(
        "CREATE MATERIALIZED VIEW market_data.daily WITH (timescaledb.continuous,
                timescaledb.materialized_only = true) AS
             SELECT time_bucket('1 day', bucket) AS day, sum(n) AS n FROM market_data.sums GROUP BY 1 WITH NO DATA",
    );
    fixture.run("CALL refresh_continuous_aggregate('market_data.daily', NULL, NULL)");
    put_weeks(&fixture, 0..2, 2);
    fixture.chunked(&fixture.by_bucket(), "");
    fixture.run("CALL refresh_continuous_aggregate('market_data.daily', NULL, NULL)");
    assert_eq!(
        fixture.text("SELECT (sum(n) = (SELECT count(*) FROM market_data.btc_ticks))::text FROM market_data.daily"),
        "true"
    );
}

/// Functions that its query calls would run with the worker's privileges.
#[test]
fn an_aggregate_of_a_role_that_is_no_superuser_is_left_to_it_and_reported() {
    let Some(mut fixture) = chunk_fixture() else { return };
    with_aggregate(&mut fixture, "1 hour");
    fixture.run(&role("viewer"));
    fixture.run(
        "GRANT USAGE ON SCHEMA market_data TO viewer; GRANT SELECT ON market_data.btc_ticks TO viewer;
         ALTER MATERIALIZED VIEW market_data.sums OWNER TO viewer",
    );
    put_weeks(&fixture, 0..1, 2);
    fixture.chunked(&fixture.by_bucket(), "");
    let units = fixture.units();
    assert!(
        units.len() == 1 && units[0].contains("its continuous aggregates were not refreshed (they belong to viewer)"),
        "{units:?}"
    );
    assert!(differing(&mut fixture, "1 hour") > 0);
    fixture.run("SET ROLE viewer");
    fixture.run("CALL refresh_continuous_aggregate('market_data.sums', NULL, NULL)");
    fixture.run("RESET ROLE");
    assert_eq!(differing(&mut fixture, "1 hour"), 0);
}

const JOB: &str =
    "SELECT bool_and(scheduled)::text FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression'";

/// Waits until the policy runs again: the worker resumes it after it has reported the end.
fn must_run_again(fixture: &mut BackfillFixture, when: &str) {
    fixture.wait_for(&format!("the policy {when}"), &format!("({JOB})::boolean"));
}

fn with_policy(fixture: &mut BackfillFixture, after: &str) {
    fixture.run(&format!(
        "ALTER TABLE market_data.btc_ticks
            SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol',
                timescaledb.compress_orderby = 'bucket_5m, trade_id');
         SELECT add_compression_policy('market_data.btc_ticks', interval '{after}')"
    ));
}

/// Begins a backfill by chunks that hangs at an object until the proxy's release.
fn hanging(fixture: &mut BackfillFixture) -> (FaultProxy, JoinHandle<Called>) {
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    proxy.on(When::get().key("20240808T1200Z").times(1), Fault::Hang);
    let call = fixture.begin(&fixture.by_bucket(), "mode => 'chunk', parallel => 1");
    proxy.wait_until_stalled(SOON);
    (proxy, call)
}

#[test]
fn chunks_that_are_due_are_compressed_and_the_policy_runs_again_after_the_end() {
    let Some(mut fixture) = chunk_fixture() else { return };
    with_policy(&mut fixture, "7 days");
    let all = put_weeks(&fixture, 0..3, 2);
    let (proxy, call) = hanging(&mut fixture);
    assert_eq!(fixture.text(JOB), "false", "while it runs");
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    must_run_again(&mut fixture, "after the end");
    fixture.must_hold_chunks(&all);
    assert_eq!(fixture.number("SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"), 3);
}

#[test]
fn a_policy_runs_again_after_a_cancel() {
    let Some(mut fixture) = chunk_fixture() else { return };
    with_policy(&mut fixture, "7 days");
    put_weeks(&fixture, 0..2, 2);
    let (_proxy, call) = hanging(&mut fixture);
    assert_eq!(fixture.text(JOB), "false", "while it runs");
    fixture.run("SELECT btc_ingest.cancel_backfill(1)");
    assert_eq!(fixture.text(JOB), "true", "after the cancel");
    call.join().unwrap();
    fixture.must_have_no_stage();
}

#[test]
fn a_policy_is_paused_again_when_a_stopped_backfill_is_taken_up() {
    let Some(mut fixture) = chunk_fixture() else { return };
    with_policy(&mut fixture, "7 days");
    let all = put_weeks(&fixture, 0..2, 2);
    // The error of a full disk.
    fixture.run(
        "CREATE FUNCTION ingestion.full() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON ingestion.object_slices
             FOR EACH ROW EXECUTE FUNCTION ingestion.full()",
    );
    let called = fixture.call(&fixture.by_bucket(), "mode => 'chunk', parallel => 1");
    assert_eq!(called.sqlstate(), "53100", "{called:#?}");
    must_run_again(&mut fixture, "while it is stopped");
    fixture.must_have_no_stage();
    fixture.run("DROP TRIGGER full_disk ON ingestion.object_slices");
    let (proxy, call) = hanging(&mut fixture);
    let client = &mut fixture.client;
    wait_until("the filling", SOON, || {
        number(client, "SELECT count(*) FROM ingestion.backfill_chunks WHERE attempts > 0") > 0
    });
    let paused = text(&mut fixture.client, JOB);
    proxy.release();
    assert_eq!(call.join().unwrap().refusal, None);
    fixture.must_hold_chunks(&all);
    assert_eq!(paused, "false", "while it runs again");
    must_run_again(&mut fixture, "after the end");
}

#[test]
fn a_policy_runs_again_although_the_worker_ended_right_after_the_backfill() {
    let Some(mut fixture) = chunk_fixture() else { return };
    with_policy(&mut fixture, "100 years");
    put_weeks(&fixture, 0..1, 2);
    let (proxy, call) = hanging(&mut fixture);
    // A session that changes jobs waits.
    let mut other = fixture.db.client();
    other.batch_execute("BEGIN; LOCK TABLE _timescaledb_config.bgw_job IN EXCLUSIVE MODE").unwrap();
    proxy.release();
    fixture.wait_for(
        "the worker",
        "SELECT count(*) = 1 FROM pg_stat_activity
                                     WHERE datname = current_database() AND backend_type = 'btc_ingest backfill'
                                         AND wait_event_type = 'Lock'",
    );
    let pid = fixture.workers()[0] as i32;
    fixture.client.query_one("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(call.join().unwrap().refusal, None);
    must_run_again(&mut fixture, "after the end");
}
