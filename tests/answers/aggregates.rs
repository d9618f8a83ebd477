//! Candles of the Community edition: what workers, backfills and retention do to them.

use std::time::Duration;

use btc_ingest_kit::ServerFixture;
use btc_ingest_kit::Tick;
use btc_ingest_kit::candles::{By, candles, must_hold_candles, stored_candles};
use btc_ingest_kit::fixture::backfill::{BackfillFixture, retry_at_once, role};
use btc_ingest_kit::fixture::chunks::{put_weeks, some_ticks, week};
use btc_ingest_kit::fixture::{cluster_of, loaded, server};
use btc_ingest_kit::rows::{but, moved, ticks};
use btc_ingest_kit::sql::{Session, execute, text};
use btc_ingest_kit::ticks::{BUCKET_US, PRICE_UNIT};
use btc_ingest_kit::wait::wait_until;

use crate::answers_fixture::{AnswersFixture, generated};

/// Within this time a worker must have the candles up to date.
const PROMISED: Duration = Duration::from_secs(60);
const MINUTE: i64 = 60_000_000;

/// Makes a database that workers serve, in a cluster of its own. `None` where there are no continuous aggregates.
fn with_workers() -> Option<BackfillFixture> {
    if text(&mut ServerFixture::shared().db().client(), "SHOW timescaledb.license") != "timescale" {
        println!("skipped: needs the Community edition");
        return None;
    }
    let s3 = server();
    let cluster = cluster_of(&s3.endpoint()).preload("btc_ingest").start();
    // Lives until this process ends, as the shared one does.
    let server: &'static ServerFixture = Box::leak(Box::new(ServerFixture { cluster, s3 }));
    retry_at_once(&server.cluster);
    let mut fixture = BackfillFixture::of(server);
    let name = fixture.db.name().to_owned();
    fixture.run(&format!("ALTER SYSTEM SET btc_ingest.database = '{name}'"));
    fixture.run("ALTER SYSTEM SET btc_ingest.poll_interval = '500ms'");
    fixture.run("SELECT pg_reload_conf()");
    Some(fixture)
}

fn create(fixture: &mut BackfillFixture) {
    fixture.run("SELECT btc_ingest.create_candles('1 minute'), btc_ingest.create_candles('1 hour')");
    fixture.run("SELECT btc_ingest.create_candles('1 minute', by => 'trade_time')");
}

/// Waits until a worker has filled in the history.
#[track_caller]
fn wait_filled(fixture: &mut BackfillFixture) {
    let filled = "SELECT (bool_and(state = 'kept'))::text FROM btc_ingest.candles";
    wait_until("the history", PROMISED, || fixture.text(filled) == "true");
}

/// Waits until the candles are those of these ticks.
#[track_caller]
fn wait_candles(fixture: &mut BackfillFixture, what: &str, ticks: &[Tick]) {
    for (name, width, by) in [("1m", MINUTE, By::Event), ("1h", 60 * MINUTE, By::Event), ("1m_tt", MINUTE, By::Trade)] {
        let (relation, wanted) = (format!("market_data.btc_ohlcv_{name}"), candles(ticks, width, by));
        let is_there = || stored_candles(&mut fixture.client, &relation) == wanted;
        wait_until(&format!("{what}: {name}"), PROMISED, is_there);
        must_hold_candles(&mut fixture.client, &relation, ticks, width, by);
    }
}

/// Counts the candles that are stored, without those that are computed when they are read.
fn materialized(fixture: &mut BackfillFixture) -> i64 {
    let table = fixture.text(
        "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
           FROM timescaledb_information.continuous_aggregates WHERE view_name = 'btc_ohlcv_1m'",
    );
    fixture.number(&format!("SELECT count(*) FROM {table}"))
}

#[test]
fn late_replaced_and_reloaded_slices_are_in_the_candles_within_a_minute() {
    let Some(mut fixture) = with_workers() else { return };
    let all = generated("BTCUSDT", 1, 3);
    let slices: Vec<&[Tick]> = all.chunk_by(|a, b| a.bucket_us() == b.bucket_us()).collect();
    for slice in [0, 2] {
        let uri = fixture.put(&format!("{slice}.parquet"), slices[slice]);
        loaded(&mut fixture.client, &uri, "");
    }
    create(&mut fixture);
    wait_filled(&mut fixture);
    wait_candles(&mut fixture, "two slices", &[slices[0], slices[2]].concat());
    assert!(materialized(&mut fixture) >= 10);

    let uri = fixture.put("1.parquet", slices[1]);
    loaded(&mut fixture.client, &uri, "");
    wait_candles(&mut fixture, "a late slice", &all);
    assert_eq!(materialized(&mut fixture), candles(&all, MINUTE, By::Event).len() as i64);

    let mut right = all.clone();
    let first = slices[0].len();
    right[first] = but(&right[first], |tick| tick.price += 100 * PRICE_UNIT);
    let uri = fixture.put("right.parquet", &right[first..first + slices[1].len()]);
    loaded(&mut fixture.client, &uri, r#"options => '{"on_conflict": "replace"}'"#);
    wait_candles(&mut fixture, "a replaced object", &right);

    fixture.run(
        "UPDATE market_data.btc_ticks SET price = 1, quantity = 1 WHERE bucket_5m = '2024-08-08 12:05Z';
         SELECT btc_ingest.reload_slice('BTCUSDT', '2024-08-08 12:05Z')",
    );
    wait_candles(&mut fixture, "a reloaded slice", &right);
}

#[test]
fn chunks_that_a_backfill_attaches_are_in_the_candles() {
    let Some(mut fixture) = with_workers() else { return };
    let newer = some_ticks("BTCUSDT", week(10), 3);
    let uri = fixture.put("newer.parquet", &newer);
    loaded(&mut fixture.client, &uri, "");
    create(&mut fixture);
    wait_filled(&mut fixture);
    let older = put_weeks(&fixture, 0..2, 2);
    fixture.chunked(&fixture.by_bucket(), "parallel => 2");
    assert!(fixture.units().iter().all(|unit| unit.starts_with("attached ")), "{:?}", fixture.units());
    wait_candles(&mut fixture, "attached chunks", &[older, newer].concat());
}

#[test]
fn candles_of_dropped_ticks_stay() {
    let Some(mut fixture) = with_workers() else { return };
    let weeks: Vec<Vec<Tick>> = (0..4).map(|number| some_ticks("BTCUSDT", week(number), 2)).collect();
    for (number, ticks) in weeks.iter().enumerate() {
        let uri = fixture.put(&format!("{number}.parquet"), ticks);
        loaded(&mut fixture.client, &uri, "");
    }
    create(&mut fixture);
    wait_filled(&mut fixture);
    // The oldest, and one in the middle.
    fixture.run(
        "SELECT drop_chunks('market_data.btc_ticks', older_than => '2024-08-15'::timestamptz);
         SELECT drop_chunks('market_data.btc_ticks', older_than => '2024-08-29'::timestamptz,
                            newer_than => '2024-08-22'::timestamptz)",
    );
    let left = "SELECT count(DISTINCT bucket_5m) FROM market_data.btc_ticks";
    assert_eq!(fixture.number(left), 4);
    let mut all = weeks.concat();
    wait_candles(&mut fixture, "after the drop", &all);
    // What makes a worker refresh, and a refresh of everything.
    let late: Vec<Tick> = ticks(50_000_000, 300).iter().map(|tick| moved(tick, 7 * 288)).collect();
    let uri = fixture.put("late.parquet", &late);
    loaded(&mut fixture.client, &uri, "");
    all.extend(late);
    wait_candles(&mut fixture, "after a refresh by a worker", &all);
    fixture.run("CALL btc_ingest.refresh_candles()");
    wait_candles(&mut fixture, "after a refresh of all", &all);
    // A worker computes those of another asset where these are recorded as dropped.
    fixture.run("SELECT * FROM btc_ingest.record_dropped('BTCUSDT', '2024-08-08', '2024-08-09')");
    let other = some_ticks("ETHUSDT", week(0), 2);
    let uri = fixture.put("other.parquet", &other);
    loaded(&mut fixture.client, &uri, "");
    all.extend(other);
    let stored = "SELECT count(*) FROM market_data.btc_ohlcv_1m WHERE symbol = 'ETHUSDT'";
    assert_eq!(fixture.number(stored), 0, "the range is behind what the aggregate computes when it is read");
    wait_candles(&mut fixture, "another asset", &all);
}

#[test]
fn a_refresh_that_fails_is_visible_and_the_next_one_clears_it() {
    let Some(mut fixture) = with_workers() else { return };
    let all = generated("BTCUSDT", 5, 2);
    let uri = fixture.put("a.parquet", &all);
    loaded(&mut fixture.client, &uri, "");
    create(&mut fixture);
    wait_filled(&mut fixture);
    // No refresh can write into the hour's candles.
    let stored = fixture.text(
        "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
           FROM timescaledb_information.continuous_aggregates WHERE view_name = 'btc_ohlcv_1h'",
    );
    fixture.run(&format!(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
         $$ BEGIN RAISE EXCEPTION 'the disk of the candles is full' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON {stored} FOR EACH ROW EXECUTE FUNCTION public.refuse()"
    ));
    let late = some_ticks("BTCUSDT", week(1), 1);
    let uri = fixture.put("late.parquet", &late);
    loaded(&mut fixture.client, &uri, "");
    let states = "SELECT string_agg(concat_ws(' ', name, state), ', ' ORDER BY name) FROM btc_ingest.candles";
    let failing = "btc_ohlcv_1h failing, btc_ohlcv_1m kept, btc_ohlcv_1m_tt kept";
    wait_until("the failure", PROMISED, || fixture.text(states) == failing);
    let why = fixture.text("SELECT last_error FROM btc_ingest.candles WHERE state = 'failing'");
    // TimescaleDB 2.28 tells of a failed COMMIT in place of what has failed.
    assert!(why.ends_with("(53100)") || why.ends_with("(2D000)"), "{why}");
    // The next refresh clears it: a load is a reason for one.
    fixture.run(&format!("DROP TRIGGER refuse ON {stored}"));
    let later = some_ticks("BTCUSDT", week(1) + BUCKET_US, 1);
    let uri = fixture.put("later.parquet", &later);
    loaded(&mut fixture.client, &uri, "");
    let kept = "SELECT (bool_and(state = 'kept' AND last_error IS NULL))::text FROM btc_ingest.candles";
    wait_until("the next refresh", PROMISED, || fixture.text(kept) == "true");
    wait_candles(&mut fixture, "after the failure", &[all, late, later].concat());
}

#[test]
fn a_crash_between_a_chunk_and_its_refresh_loses_no_candle() {
    let Some(mut fixture) = with_workers() else { return };
    let newer = some_ticks("BTCUSDT", week(10), 3);
    let uri = fixture.put("newer.parquet", &newer);
    loaded(&mut fixture.client, &uri, "");
    create(&mut fixture);
    wait_filled(&mut fixture);
    // No refresh of a backfill can begin.
    fixture.run(
        "CREATE FUNCTION public.later() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
         $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER later BEFORE UPDATE OF attempts ON ingestion.backfill_chunks FOR EACH ROW
         WHEN (OLD.refresh_due) EXECUTE FUNCTION public.later()",
    );
    let older = put_weeks(&fixture, 0..1, 2);
    let call = fixture.begin(&fixture.by_bucket(), "mode => 'chunk', parallel => 1");
    fixture.wait_for(
        "the chunk",
        "SELECT count(*) = 1 FROM ingestion.backfill_chunks WHERE status = 'attached' AND refresh_due",
    );
    fixture.server.cluster.kill();
    call.join().ok();
    fixture.server.cluster.start();
    fixture.client = fixture.db.client();
    fixture.run("DROP TRIGGER later ON ingestion.backfill_chunks");
    wait_candles(&mut fixture, "after a crash", &[older, newer].concat());
}

#[test]
fn an_administrator_waits_for_the_worker_that_refreshes() {
    let Some(mut fixture) = with_workers() else { return };
    let mut all = generated("BTCUSDT", 2, 2);
    let uri = fixture.put("a.parquet", &all);
    loaded(&mut fixture.client, &uri, "");
    create(&mut fixture);
    wait_filled(&mut fixture);
    fixture.run(&role("refreshing"));
    fixture.run("ALTER ROLE refreshing LOGIN; GRANT btc_ingest_admin TO refreshing");
    // No load tells of this change.
    fixture.run(&format!("UPDATE market_data.btc_ticks SET price = price + 7 WHERE trade_id = {}", all[3].trade_id));
    all[3].price += 7 * PRICE_UNIT;
    let mut admin = fixture.db.client_as("refreshing");
    execute(&mut admin, "CALL btc_ingest.refresh_candles('2024-08-08 12:01Z', '2024-08-08 12:02Z')");
    execute(&mut admin, "CALL btc_ingest.refresh_candles()");
    for (name, width, by) in [("1m", MINUTE, By::Event), ("1m_tt", MINUTE, By::Trade)] {
        must_hold_candles(&mut fixture.client, &format!("market_data.btc_ohlcv_{name}"), &all, width, by);
    }
    assert_eq!(fixture.number("SELECT count(*) FROM btc_ingest.candles WHERE wanted_from IS NOT NULL"), 0);
}

#[test]
fn a_job_of_timescaledb_refreshes_where_no_worker_runs() {
    let mut fixture = AnswersFixture::new();
    if fixture.text("SHOW timescaledb.license") != "timescale" {
        println!("skipped: needs the Community edition");
        return;
    }
    let all = generated("BTCUSDT", 4, 3);
    let slices: Vec<&[Tick]> = all.chunk_by(|a, b| a.bucket_us() == b.bucket_us()).collect();
    fixture.load("0", slices[0]);
    fixture.load("2", slices[2]);
    fixture.run("SELECT btc_ingest.create_candles('1 minute')");
    let relation = "market_data.btc_ohlcv_1m";
    fixture.run("CALL btc_ingest.run_candles()");
    assert_eq!(fixture.text("SELECT state FROM btc_ingest.candles"), "kept");
    fixture.load("1", slices[1]);
    let wanted = candles(&all, MINUTE, By::Event);
    assert_ne!(stored_candles(&mut fixture.client, relation), wanted, "the late slice needs a refresh");
    fixture.run("SELECT add_job('btc_ingest.run_candles', '1 second')");
    let client = &mut fixture.client;
    wait_until("the job", PROMISED, || stored_candles(client, relation) == wanted);
    // Other roles would run the owner's functions with their own privileges.
    fixture.run(&role("job_admin"));
    fixture.run("ALTER ROLE job_admin LOGIN; GRANT btc_ingest_admin TO job_admin");
    let error = fixture.db.client_as("job_admin").batch_execute("CALL btc_ingest.run_candles()").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "TK032");
    fixture.run("SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE proc_name = 'run_candles'");
}
