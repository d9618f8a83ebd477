//! Candles of tables that belong to a role that is no superuser, and what each role may do.

use btc_ingest_kit::candles::{By, must_hold_candles};
use btc_ingest_kit::fixture::backfill::{owned_by, role};
use btc_ingest_kit::rows::ticks;
use btc_ingest_kit::sql::{Session, execute, number};

use crate::answers_fixture::AnswersFixture;

#[test]
fn candles_belong_to_the_tables_owner_and_are_made_with_its_privileges() {
    let mut fixture = AnswersFixture::new();
    fixture.run(&owned_by("candle_owner"));
    fixture.run("ALTER ROLE candle_owner LOGIN");
    let all = ticks(1, 300);
    fixture.load("a", &all);
    for by in ["event_time", "trade_time"] {
        fixture.run(&format!("SELECT btc_ingest.create_candles('1 minute', by => '{by}')"));
    }
    let owners = "SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class
                   WHERE relnamespace = 'market_data'::regnamespace AND relname LIKE 'btc_ohlcv%'";
    assert_eq!(fixture.text(owners), "candle_owner");
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1m", &all, 60_000_000, By::Event);
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1m_tt", &all, 60_000_000, By::Trade);

    // The owner refreshes in its own session: that of a superuser would run the owner's functions.
    fixture.run("GRANT btc_ingest_admin TO candle_owner");
    let mut owner = fixture.db.client_as("candle_owner");
    execute(&mut owner, "CALL btc_ingest.refresh_candles()");
    must_hold_candles(&mut fixture.client, "market_data.btc_ohlcv_1m", &all, 60_000_000, By::Event);
    if fixture.text("SHOW timescaledb.license") == "timescale" {
        // No worker serves this database.
        let refusal = fixture.refused("CALL btc_ingest.refresh_candles()", "TK032");
        assert!(refusal.hint.contains("shared_preload_libraries"), "{refusal:?}");
    }
    fixture.run("SELECT btc_ingest.drop_candles('btc_ohlcv_1m'), btc_ingest.drop_candles('btc_ohlcv_1m_tt')");
    assert_eq!(fixture.text(owners), "null");
}

#[test]
fn an_administrator_makes_candles_and_a_reader_reads_them() {
    let mut fixture = AnswersFixture::new();
    fixture.load("a", &ticks(1, 300));
    for name in ["admin", "loader", "reader"] {
        fixture.run(&role(&format!("candle_{name}")));
        fixture.run(&format!("ALTER ROLE candle_{name} LOGIN; GRANT btc_ingest_{name} TO candle_{name}"));
    }
    let create = "SELECT btc_ingest.create_candles('1 minute')";
    for name in ["candle_loader", "candle_reader"] {
        let error = fixture.db.client_as(name).batch_execute(create).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{name}");
    }
    execute(&mut fixture.db.client_as("candle_admin"), create);
    let mut reader = fixture.db.client_as("candle_reader");
    assert_eq!(number(&mut reader, "SELECT count(*) FROM market_data.btc_ohlcv_1m"), 5);
    assert_eq!(number(&mut reader, "SELECT count(*) FROM btc_ingest.candles"), 1);
    for question in [
        "SELECT count(*) FROM btc_ingest.ticks('BTCUSDT', '2024-08-08', '2024-08-09')",
        "SELECT count(*) FROM btc_ingest.last_price('BTCUSDT')",
        "SELECT count(btc_ingest.complete_until('BTCUSDT'))",
        "SELECT count(*) FROM btc_ingest.incomplete",
        "SELECT count(*) FROM btc_ingest.prices_at('BTCUSDT', ARRAY['2024-08-08 12:01Z'::timestamptz])",
        "SELECT count(*) FROM btc_ingest.markouts('BTCUSDT', '2024-08-08', '2024-08-09', '{1 second}')",
        "SELECT count(*) FROM btc_ingest.bars('BTCUSDT', '2024-08-08', '2024-08-09', 'tick', 10)",
    ] {
        let answer = number(&mut reader, question);
        assert!(answer > 0 || question.contains("incomplete"), "{question}: {answer}");
    }
    // The functions have their caller's privileges.
    fixture.run(
        "CREATE ROLE candle_outsider LOGIN; GRANT USAGE ON SCHEMA btc_ingest TO candle_outsider;
                 GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA btc_ingest TO candle_outsider",
    );
    let bars = "SELECT count(*) FROM btc_ingest.bars('BTCUSDT', '2024-08-08', '2024-08-09', 'tick', 10)";
    let error = fixture.db.client_as("candle_outsider").batch_execute(bars).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42501");
    fixture.run("DROP OWNED BY candle_outsider; DROP ROLE candle_outsider");
}

#[test]
fn an_aggregate_of_another_role_that_took_the_name_is_not_refreshed_by_a_superuser() {
    let mut fixture = AnswersFixture::new();
    if fixture.text("SHOW timescaledb.license") != "timescale" {
        println!("skipped: needs the Community edition");
        return;
    }
    fixture.load("a", &ticks(1, 300));
    fixture.run("SELECT btc_ingest.create_candles('1 minute')");
    let windows = "SELECT count(*) FROM btc_ingest_internal.candle_windows('-infinity', 'infinity')";
    assert_eq!(fixture.number(windows), 1);
    fixture.run(&role("candle_other"));
    fixture.run(
        "GRANT CREATE, USAGE ON SCHEMA market_data TO candle_other;
         GRANT SELECT ON market_data.btc_ticks TO candle_other;
         ALTER MATERIALIZED VIEW market_data.btc_ohlcv_1m OWNER TO candle_other",
    );
    assert_eq!(fixture.number(windows), 0);
    fixture.run("CALL btc_ingest.refresh_candles()");
}

/// The functions read the values of a row as they are stored. One of another type would be taken for a pointer.
#[test]
fn a_column_whose_type_the_owner_has_changed_is_refused_and_ends_no_process() {
    let mut fixture = AnswersFixture::new();
    let uri = fixture.put("a", &ticks(1, 300));
    fixture.run(&format!("SELECT btc_ingest.load_s3_slice('{uri}')"));
    let verify = format!("SELECT * FROM btc_ingest.verify('{uri}')");
    let prices = "SELECT * FROM btc_ingest.prices_at('BTCUSDT', ARRAY['2024-08-08 12:01Z'::timestamptz])";
    let bars = "SELECT * FROM btc_ingest.bars('BTCUSDT', '2024-08-08', '2024-08-09', 'tick', 10)";
    for (change, questions) in [
        ("buyer_order_id TYPE bigint USING 4611686018427387905", vec![verify.as_str()]),
        ("price TYPE double precision", vec![verify.as_str(), prices, bars]),
    ] {
        fixture.run(&format!("ALTER TABLE market_data.btc_ticks ALTER {change}"));
        for question in questions {
            let refusal = fixture.refused(question, "TK009");
            assert!(refusal.message.contains("has another type"), "{change}, {question}: {refusal:?}");
            assert_eq!(fixture.number("SELECT 1::bigint"), 1, "{change}, {question}");
        }
    }
}
