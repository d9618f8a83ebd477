//! Chunks of candles and of other hypertables are dropped by a row of their own only, and stay dropped.

use btc_ingest_kit::candles::{By, candles, must_hold_candles, stored_candles};
use btc_ingest_kit::fixture::chunks::{some_ticks, week};
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::BUCKET_US;

use crate::retention_fixture::{HELD, RUN, RetentionFixture};

const MINUTE: i64 = 60_000_000;
/// What was dropped of other hypertables than the ticks.
const OTHERS: &str =
    "SELECT concat_ws(' ', to_char(range_from AT TIME ZONE 'UTC', 'YYYY-MM-DD'), hypertable, ticks, job_name)
                        FROM btc_ingest.retention
                       WHERE state = 'dropped' AND hypertable <> 'market_data.btc_ticks' ORDER BY range_from";

/// Lets what is older than the beginning of a week be dropped of a hypertable.
fn drop_of(fixture: &mut RetentionFixture, name: &str, hypertable: &str, number: i64) {
    let at = week(number);
    fixture.run(&format!(
        "INSERT INTO ops.retention_jobs
         SELECT '{name}', '{hypertable}', jsonb_build_object('drop_after', format('%s seconds',
                    floor(extract(epoch FROM clock_timestamp()) - {at} / 1000000 - 60)));
         SELECT alter_job(job_id, next_start => now() + interval '1 year')
           FROM timescaledb_information.jobs WHERE proc_name = 'run_retention'"
    ));
}

#[test]
fn candles_are_dropped_by_their_own_row_and_stay_dropped_as_long_as_it_is_enabled() {
    let Some(mut fixture) = RetentionFixture::of_community() else { return };
    let weeks = fixture.load_weeks(0..3);
    let all = weeks.concat();
    fixture.run("SELECT btc_ingest.create_candles('1 minute'), btc_ingest.create_candles('1 hour')");
    fixture.run("CALL btc_ingest.run_candles()");
    // Dropping ticks drops no candle.
    fixture.drop_before(1);
    fixture.run(RUN);
    assert_eq!(fixture.chunks(), ["2024-08-15", "2024-08-22"]);
    assert_eq!(fixture.lines(OTHERS), [""; 0]);
    drop_of(&mut fixture, "drop minutes", "market_data.btc_ohlcv_1m", 2);
    fixture.run(RUN);
    let kept = [weeks[2].clone()].concat();
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1m", &kept, MINUTE, By::Event);
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1h", &all, 60 * MINUTE, By::Event);
    let count = |number: usize| candles(&weeks[number], MINUTE, By::Event).len();
    assert_eq!(
        fixture.lines(OTHERS),
        [
            format!("2024-08-08 market_data.btc_ohlcv_1m {} drop minutes", count(0)),
            format!("2024-08-15 market_data.btc_ohlcv_1m {} drop minutes", count(1)),
        ]
    );
    // The ticks of the second week are stored, and late ones come: no refresh brings its candles back.
    let late = some_ticks("BTCUSDT", week(1) + 5 * BUCKET_US, 1);
    let uri = fixture.put("late", &late);
    loaded(&mut fixture.client, &uri, "");
    fixture.run("CALL btc_ingest.run_candles()");
    fixture.run("CALL btc_ingest.refresh_candles()");
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1m", &kept, MINUTE, By::Event);
    // Until the row is disabled.
    fixture.run("UPDATE ops.retention_jobs SET enabled = false WHERE job_name = 'drop minutes'");
    fixture.run("CALL btc_ingest.refresh_candles()");
    let again = [weeks[1].clone(), late, weeks[2].clone()].concat();
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1m", &again, MINUTE, By::Event);
    // The row goes with the candles.
    fixture.run("SELECT btc_ingest.drop_candles('btc_ohlcv_1m')");
    assert_eq!(fixture.number("SELECT count(*) FROM ops.retention_jobs WHERE hypertable ~ '_1m'"), 0);
    assert_eq!(fixture.lines(OTHERS), [""; 0]);
}

#[test]
fn candles_stay_if_another_aggregate_is_built_on_them_or_a_session_uses_them() {
    let Some(mut fixture) = RetentionFixture::of_community() else { return };
    let weeks = fixture.load_weeks(0..2);
    fixture.run("SELECT btc_ingest.create_candles('1 minute')");
    fixture.run("CALL btc_ingest.run_candles()");
    let wanted = stored_candles(&mut fixture.client, "market_data.btc_ohlcv_1m");
    fixture.run(
        "CREATE MATERIALIZED VIEW market_data.trades_1h WITH (timescaledb.continuous) AS
         SELECT time_bucket('1 hour', bucket_5m) AS hour, symbol, sum(trades) AS trades
           FROM market_data.btc_ohlcv_1m GROUP BY 1, 2",
    );
    drop_of(&mut fixture, "drop minutes", "market_data.btc_ohlcv_1m", 1);
    fixture.run(RUN);
    let why = "a refresh of market_data.trades_1h would lose what is dropped here";
    assert_eq!(fixture.lines(HELD), [format!("2024-08-08 {why}")]);
    assert_eq!(stored_candles(&mut fixture.client, "market_data.btc_ohlcv_1m"), wanted);
    let doctor = fixture.doctor();
    assert!(!doctor[0].0 && doctor[0].1.contains(&format!("market_data.btc_ohlcv_1m: {why}")), "{doctor:?}");
    fixture.run("DROP MATERIALIZED VIEW market_data.trades_1h");
    let mut other = fixture.db.client();
    let mut reading = other.transaction().unwrap();
    reading.query("SELECT count(*) FROM market_data.btc_ohlcv_1m", &[]).unwrap();
    fixture.run(RUN);
    assert_eq!(fixture.lines(HELD), ["2024-08-08 another session uses it"]);
    reading.commit().unwrap();
    fixture.run(RUN);
    assert_eq!(fixture.lines(HELD), [""; 0]);
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1m", &weeks[1], MINUTE, By::Event);
}

#[test]
fn chunks_of_any_hypertable_of_the_owner_are_dropped_by_its_row() {
    let mut fixture = RetentionFixture::new();
    fixture.run(
        "CREATE TABLE public.funding (at timestamptz NOT NULL, rate numeric);
         SELECT create_hypertable('public.funding', 'at', chunk_time_interval => interval '7 days');
         INSERT INTO public.funding SELECT '2024-08-08Z'::timestamptz + n * interval '7 days', n
           FROM generate_series(0, 2) n",
    );
    drop_of(&mut fixture, "drop funding", "public.funding", 2);
    fixture.run(RUN);
    assert_eq!(fixture.text("SELECT string_agg(rate::text, ' ') FROM public.funding"), "2");
    assert_eq!(
        fixture.lines(OTHERS),
        ["2024-08-08 public.funding 1 drop funding", "2024-08-15 public.funding 1 drop funding"]
    );
    // What has no chunks by time, and what belongs to another role.
    fixture.run(
        "CREATE TABLE public.plain (at timestamptz); CREATE TABLE public.numbers (at bigint NOT NULL);
         SELECT create_hypertable('public.numbers', 'at', chunk_time_interval => 1000);
         CREATE ROLE funding_owner; ALTER TABLE public.funding OWNER TO funding_owner",
    );
    for (table, why) in [
        ("public.plain", "public.plain is no hypertable and no continuous aggregate"),
        ("public.numbers", "the time column of public.numbers is no timestamp with time zone"),
        ("public.funding", "public.funding does not belong to the owner of the tables"),
    ] {
        let sql = format!("INSERT INTO ops.retention_jobs VALUES ('mine', '{table}', '{{\"drop_after\": \"1 day\"}}')");
        let refusal = fixture.refused(&sql, "TK040");
        assert!(refusal.message.contains(why), "{refusal:?}");
    }
    fixture.run("DROP TABLE public.funding; DROP ROLE funding_owner");
}
