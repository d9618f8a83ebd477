//! Candles, on both editions: with the Apache edition they are a view, with the Community edition an aggregate.

use btc_ingest_kit::Tick;
use btc_ingest_kit::candles::{By, must_hold_candles, stored_candles};
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::real_files::{RealFile, test_data};
use btc_ingest_kit::rows::{but, ticks, ticks_of};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::PRICE_UNIT;

use crate::answers_fixture::{AnswersFixture, generated};

/// Widths with the names of their candles, in microseconds.
const WIDTHS: [(&str, &str, i64); 6] = [
    ("100 milliseconds", "100ms", 100_000),
    ("1 second", "1s", 1_000_000),
    ("1 minute", "1m", 60_000_000),
    ("5 minutes", "5m", 300_000_000),
    ("15 minutes", "15m", 900_000_000),
    ("1 hour", "1h", 3_600_000_000),
];

/// Makes candles of all widths by both times.
fn create_all(fixture: &mut AnswersFixture) {
    for (width, label, _) in WIDTHS {
        for (by, suffix) in [("event_time", ""), ("trade_time", "_tt")] {
            let name = fixture.text(&format!("SELECT btc_ingest.create_candles('{width}', by => '{by}')"));
            assert_eq!(name, format!("market_data.btc_ohlcv_{label}{suffix}"));
        }
    }
}

#[track_caller]
fn must_hold_all(fixture: &mut AnswersFixture, ticks: &[Tick]) {
    for (_, label, width) in WIDTHS {
        let name = format!("market_data.btc_ohlcv_{label}");
        must_hold_candles(&mut fixture.client, &name, ticks, width, By::Event);
        must_hold_candles(&mut fixture.client, &format!("{name}_tt"), ticks, width, By::Trade);
    }
}

#[test]
fn candles_of_every_width_are_those_that_are_computed_elsewhere() {
    let mut fixture = AnswersFixture::new();
    let (btc, eth) = (generated("BTCUSDT", 1, 14), generated("ETHUSDT", 2, 14));
    let all = [btc.clone(), eth.clone()].concat();
    // What decides whether the exact order counts: hundreds of trades at one time, and trades of two buckets.
    let largest = btc.chunk_by(|a, b| a.event_time_us == b.event_time_us).map(<[Tick]>::len).max();
    assert!(largest > Some(100), "{largest:?}");
    fixture.load("btc", &btc);
    create_all(&mut fixture);
    fixture.load("eth", &eth);
    must_hold_all(&mut fixture, &all);
    fixture.run("CALL btc_ingest.refresh_candles()");
    must_hold_all(&mut fixture, &all);
}

#[test]
fn the_order_of_the_loads_does_not_matter_and_replaced_values_count() {
    let mut fixture = AnswersFixture::new();
    create_all(&mut fixture);
    let all = generated("BTCUSDT", 3, 3);
    let slices: Vec<&[Tick]> = all.chunk_by(|a, b| a.bucket_us() == b.bucket_us()).collect();
    assert_eq!(slices.len(), 3);
    // The last slice first, the middle one late, and one of them twice.
    fixture.load("third", slices[2]);
    fixture.load("first", slices[0]);
    fixture.run("CALL btc_ingest.refresh_candles()");
    let mut shuffled = slices[1].to_vec();
    shuffled.reverse();
    fixture.load("second", &shuffled);
    fixture.load("again", slices[1]);
    fixture.run("CALL btc_ingest.refresh_candles()");
    must_hold_all(&mut fixture, &all);

    // An object replaces ticks by others: the first and the last price of the slice change.
    let mut right = all.clone();
    let end = slices[0].len() + slices[1].len();
    for place in [slices[0].len(), end - 1] {
        right[place] = but(&right[place], |tick| tick.price += 10 * PRICE_UNIT);
    }
    let uri = fixture.put("right", &right[slices[0].len()..end]);
    loaded(&mut fixture.client, &uri, r#"options => '{"on_conflict": "replace"}'"#);
    fixture.run("CALL btc_ingest.refresh_candles('2024-08-08 12:00+00', '2024-08-08 13:00+00')");
    must_hold_all(&mut fixture, &right);
    assert_ne!(right, all);
}

#[test]
fn candles_of_real_trades_are_those_that_are_computed_elsewhere() {
    let Some(data) = test_data() else { return };
    let mut fixture = AnswersFixture::new();
    create_all(&mut fixture);
    let wholes = RealFile::all(&data).into_iter().filter(RealFile::is_whole);
    // Spot and futures have the same symbol.
    for file in wholes.filter(|file| file.dataset().starts_with("spot")) {
        let uri = fixture.server.put(&format!("{}/{}", fixture.db.name(), file.name()), file.bytes());
        loaded(&mut fixture.client, &uri, "");
    }
    let stored = stored_ticks(&mut fixture);
    assert!(stored.len() > 30_000);
    let burst = stored.chunk_by(|a, b| a.event_time_us == b.event_time_us).map(<[Tick]>::len).max();
    assert!(burst > Some(200), "{burst:?}");
    must_hold_all(&mut fixture, &stored);
    fixture.run("CALL btc_ingest.refresh_candles()");
    must_hold_all(&mut fixture, &stored);
}

/// Reads the ticks that are stored.
fn stored_ticks(fixture: &mut AnswersFixture) -> Vec<Tick> {
    let sql = "SELECT (extract(epoch FROM event_time) * 1000000)::bigint,
                      (extract(epoch FROM trade_time) * 1000000)::bigint, symbol, trade_id,
                      (price * 100000000)::bigint, (quantity * 1000000000000)::bigint, is_market_maker
                 FROM market_data.btc_ticks ORDER BY event_time, trade_id";
    let rows = fixture.client.query(sql, &[]).unwrap();
    rows.iter()
        .map(|row| Tick {
            event_time_us: row.get(0),
            trade_time_us: row.get(1),
            symbol: row.get::<_, &str>(2).into(),
            trade_id: row.get(3),
            price: row.get(4),
            quantity: row.get::<_, i64>(5).into(),
            buyer_order_id: None,
            seller_order_id: None,
            is_market_maker: row.get(6),
        })
        .collect()
}

#[test]
fn taker_volumes_and_nulls_are_worked_out_by_hand() {
    let mut fixture = AnswersFixture::new();
    for by in ["event_time", "trade_time"] {
        fixture.run(&format!("SELECT btc_ingest.create_candles('1 minute', by => '{by}')"));
    }
    fixture.run(
        "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity,
                                            is_market_maker)
         SELECT '2024-08-08 12:00Z', t::timestamptz, NULL, 'BTCUSDT', id, price, quantity, maker
           FROM (VALUES ('2024-08-08 12:00:01Z', 1, NULL, 5, false), ('2024-08-08 12:00:02Z', 2, 10, 1, false),
                        ('2024-08-08 12:00:03Z', 3, 14, 2, true), ('2024-08-08 12:00:03Z', 4, 8, 4, false),
                        ('2024-08-08 12:00:04Z', 5, 9, NULL, NULL), ('2024-08-08 12:01:00Z', 6, NULL, NULL, NULL))
                AS v (t, id, price, quantity, maker)",
    );
    // Volume is that of all trades; without a price a trade is no open and no part of the average price.
    // 1 * 10 + 2 * 14 + 4 * 8 = 70; takers bought 5 + 1 + 4, for 10 + 32.
    let wanted = [
        "12:00 12:00 open 10 high 14 low 8 close 9 volume 12 for 70 in 5 taken 10 for 42 at 10 ids 1 5",
        "12:01 12:00 volume in 1 taken 0 for 0 ids 6 6",
    ];
    for name in ["btc_ohlcv_1m", "btc_ohlcv_1m_tt"] {
        let found = fixture.texts(&format!(
            "SELECT concat_ws(' ', to_char(bucket AT TIME ZONE 'UTC', 'HH24:MI'),
                        to_char(bucket_5m AT TIME ZONE 'UTC', 'HH24:MI'), 'open ' || trim_scale(open),
                        'high ' || trim_scale(high), 'low ' || trim_scale(low), 'close ' || trim_scale(close),
                        'volume' || coalesce(' ' || trim_scale(volume), ''), 'for ' || trim_scale(quote_volume),
                        'in ' || trades, 'taken ' || trim_scale(taker_buy_volume),
                        'for ' || trim_scale(taker_buy_quote_volume), 'at ' || trim_scale(vwap), 'ids',
                        first_trade_id, last_trade_id)
               FROM market_data.{name} ORDER BY bucket"
        ));
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn what_cannot_be_candles_is_refused_and_leaves_nothing() {
    let mut fixture = AnswersFixture::new();
    for (call, why) in [
        ("create_candles('7 seconds')", "candles cannot be 7s wide"),
        ("create_candles('50 milliseconds')", "candles cannot be 50ms wide"),
        ("create_candles('2 days')", "candles cannot be 2d wide"),
        ("create_candles('-1 minute')", "microseconds wide"),
        ("create_candles('1 month')", "must have no months"),
        ("create_candles(NULL)", "width must not be null"),
        ("create_candles('1 minute', 'No Name')", "cannot be the name of candles"),
        ("create_candles('1 minute', 'btc_ticks')", "market_data.btc_ticks exists already"),
        ("create_candles('1 minute', by => 'ingested_at')", "by must be event_time or trade_time"),
        ("create_candles('1 hour', chunk_interval => '1 minute')", "chunk_interval must not be shorter"),
        ("drop_candles('btc_ohlcv_1m')", "there are no candles \"btc_ohlcv_1m\""),
        ("drop_candles('btc_ticks')", "there are no candles"),
        ("drop_candles(NULL)", "cannot be the name of candles"),
    ] {
        let refusal = fixture.refused(&format!("SELECT btc_ingest.{call}"), "TK031");
        assert!(refusal.message.contains(why), "{call}: {refusal:?}");
    }
    let wide = fixture.refused("SELECT btc_ingest.create_candles('7 seconds')", "TK031").message;
    assert!(wide.contains("100ms") && wide.contains("1m, ") && wide.ends_with("1d are possible"), "{wide}");
    fixture.refused("CALL btc_ingest.refresh_candles('2024-08-09', '2024-08-08')", "TK031");
    assert_eq!(fixture.number("SELECT count(*) FROM btc_ingest.candles"), 0);
    assert_eq!(fixture.number(MADE), 0);
    fixture.run("SELECT btc_ingest.create_candles('1 minute', 'mine')");
    let again = fixture.refused("SELECT btc_ingest.create_candles('1 second', 'mine')", "TK031");
    assert!(again.message.contains("market_data.mine exists already: drop_candles('mine')"), "{again:?}");
}

/// Everything in the schema but the ticks.
const MADE: &str = "SELECT count(*) FROM pg_class WHERE relnamespace = 'market_data'::regnamespace
                       AND relkind IN ('v', 'm') OR relname LIKE '%materialized_hypertable%' AND relkind = 'r'";

#[test]
fn candles_are_listed_and_dropped_and_the_policy_that_is_wanted_goes_with_them() {
    let mut fixture = AnswersFixture::new();
    fixture.load("a", &ticks(1, 300));
    create_all(&mut fixture);
    let community = fixture.text("SHOW timescaledb.license") == "timescale";
    let listed = "SELECT string_agg(DISTINCT concat_ws(' ', by, state, chunk_interval), ', ') FROM btc_ingest.candles";
    let wanted = |state: &str| format!("event_time {state}, trade_time {state}");
    assert_eq!(fixture.number("SELECT count(*) FROM btc_ingest.candles"), 12);
    assert_eq!(fixture.text(listed), if community { wanted("filling 7 days") } else { wanted("computed") });
    fixture.run("CALL btc_ingest.refresh_candles()");
    assert_eq!(fixture.text(listed), if community { wanted("kept 7 days") } else { wanted("computed") });
    let policies = "SELECT count(*) FROM ops.retention_jobs WHERE job_name LIKE 'candles btc_ohlcv_%'
                       AND policy = '{\"compress_after\": \"30 days\", \"segment_by\": \"symbol\"}' AND enabled";
    assert_eq!(fixture.number(policies), if community { 12 } else { 0 });
    fixture.run("DROP VIEW market_data.btc_ohlcv_1h_tt");
    let gone = "SELECT state FROM btc_ingest.candles WHERE name = 'btc_ohlcv_1h_tt'";
    assert_eq!(fixture.text(gone), "gone");
    for (_, label, _) in WIDTHS {
        let name = fixture.text(&format!("SELECT btc_ingest.drop_candles('btc_ohlcv_{label}')"));
        assert_eq!(name, format!("market_data.btc_ohlcv_{label}"));
        fixture.run(&format!("SELECT btc_ingest.drop_candles('market_data.btc_ohlcv_{label}_tt')"));
    }
    assert_eq!(fixture.number("SELECT count(*) FROM btc_ingest.candles"), 0);
    assert_eq!(fixture.number(policies), 0);
    assert_eq!(fixture.number(MADE), 0);
    assert_eq!(fixture.number("SELECT count(*) FROM market_data.btc_ticks"), 300);
    fixture.run("SELECT btc_ingest.create_candles('1 minute')");
}

#[test]
fn an_incomplete_candle_is_recognised_until_its_object_is_loaded() {
    let mut fixture = AnswersFixture::new();
    fixture.run("SELECT btc_ingest.create_candles('5 minutes'), btc_ingest.create_candles('15 minutes')");
    let all = ticks(1, 900);
    fixture.load("first", &all[..300]);
    fixture.load("third", &all[600..]);
    let complete = |name: &str, width: &str| {
        format!(
            "SELECT string_agg(to_char(c.bucket AT TIME ZONE 'UTC', 'HH24:MI'), ' ' ORDER BY c.bucket)
               FROM market_data.{name} c
              WHERE NOT EXISTS (SELECT FROM btc_ingest.incomplete i
                                 WHERE coalesce(i.asset, c.symbol) = c.symbol
                                   AND i.from_time < c.bucket + interval '{width}' AND i.to_time > c.bucket)"
        )
    };
    // The ticks at both edges of the hole share their candles with missing ones.
    assert_eq!(fixture.text(&complete("btc_ohlcv_5m", "5 minutes")), "null");
    assert_eq!(fixture.text(&complete("btc_ohlcv_15m", "15 minutes")), "null");
    let second = fixture.put("second", &all[300..600]);
    fixture.run(&format!("SELECT btc_ingest.register_s3_slice('{second}', 'BTCUSDT', '2024-08-08 12:05+00')"));
    fixture.run("SELECT btc_ingest.sweep()");
    assert_eq!(fixture.text(&complete("btc_ohlcv_5m", "5 minutes")), "12:00 12:05 12:10");
    assert_eq!(fixture.text(&complete("btc_ohlcv_15m", "15 minutes")), "12:00");
    // The object is replaced in S3 and registered again.
    fixture.put("second", &all[300..601]);
    fixture.run(&format!("SELECT btc_ingest.register_s3_slice('{second}', 'BTCUSDT', '2024-08-08 12:05+00')"));
    assert_eq!(fixture.text(&complete("btc_ohlcv_5m", "5 minutes")), "12:00 12:10");
    fixture.run("SELECT btc_ingest.sweep()");
    assert_eq!(fixture.text(&complete("btc_ohlcv_5m", "5 minutes")), "12:00 12:05 12:10");
}

#[test]
fn candles_outlive_the_extension_and_are_known_when_it_returns() {
    let mut fixture = AnswersFixture::new();
    let all = [ticks(1, 300), ticks_of("ETHUSDT", 1, 50)].concat();
    fixture.load("a", &all);
    create_all(&mut fixture);
    fixture.run("DROP EXTENSION btc_ingest");
    must_hold_all(&mut fixture, &all);
    fixture.run("SET client_min_messages = warning; CREATE EXTENSION btc_ingest");
    assert_eq!(fixture.number("SELECT count(*) FROM btc_ingest.candles WHERE state <> 'gone'"), 12);
    fixture.run("SELECT btc_ingest.drop_candles('btc_ohlcv_1m')");
    assert!(!stored_candles(&mut fixture.client, "market_data.btc_ohlcv_1s").is_empty());
}
