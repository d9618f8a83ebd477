//! The dashboards for Grafana: every statement in them runs, for the role that the documents name, and shows what is
//! there.

use std::path::PathBuf;

use btc_ingest_kit::Tick;
use btc_ingest_kit::candles::{By, candles};
use btc_ingest_kit::fixture::backfill::role;
use btc_ingest_kit::sql::{Session, execute};
use postgres::types::Type;
use postgres::{Client, Row};
use serde_json::Value;

use crate::answers_fixture::{AnswersFixture, generated};

/// Panels that are empty where nothing runs.
const MAY_BE_EMPTY: [&str; 2] = ["Loads in work", "Backfills"];
const MARKET: (&str, &str) = ("2024-08-08T11:58:30Z", "2024-08-08T13:00:00Z");

/// A statement of a dashboard.
struct Statement {
    title: String,
    sql: String,
    is_series: bool,
}

fn dashboard(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../infra/database/dashboards").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Returns the statements of panels, annotations and variables.
fn statements(dashboard: &Value) -> Vec<Statement> {
    let mut found = Vec::new();
    let list = |value: &Value| value.as_array().unwrap().clone();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            found.push(statement(&panel["title"], &target["rawSql"], target["format"] == "time_series"));
        }
    }
    for note in list(&dashboard["annotations"]["list"]) {
        found.push(statement(&note["name"], &note["target"]["rawSql"], false));
    }
    for variable in list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query") {
        found.push(statement(&variable["name"], &variable["query"], false));
    }
    found
}

fn statement(title: &Value, sql: &Value, is_series: bool) -> Statement {
    Statement { title: title.as_str().unwrap().to_owned(), sql: sql.as_str().unwrap().to_owned(), is_series }
}

/// What stands at the top of a dashboard.
struct Chosen<'a> {
    range: (&'a str, &'a str),
    interval: &'a str,
    candles: &'a str,
}

/// Replaces macros and variables as Grafana does.
fn replaced(sql: &str, chosen: &Chosen<'_>) -> String {
    let (from, to) = chosen.range;
    let mut sql = sql.to_owned();
    while let Some(at) = sql.find("$__timeFilter(") {
        let column_at = at + "$__timeFilter(".len();
        let end = column_at + sql[column_at..].find(')').unwrap();
        let filter = format!("{} BETWEEN '{from}' AND '{to}'", &sql[column_at..end]);
        sql.replace_range(at..=end, &filter);
    }
    let sql = sql
        .replace("$__timeFrom()", &format!("'{from}'"))
        .replace("$__timeTo()", &format!("'{to}'"))
        .replace("$__interval", chosen.interval)
        .replace("${candles:sqlstring}", &format!("'{}'", chosen.candles))
        .replace("${candles}", chosen.candles)
        .replace("${symbol:sqlstring}", "'BTCUSDT'");
    assert!(!sql.contains('$'), "a macro that is not known here: {sql}");
    sql
}

#[track_caller]
fn rows(client: &mut Client, statement: &Statement, chosen: &Chosen<'_>) -> Vec<Row> {
    let sql = replaced(&statement.sql, chosen);
    let rows = client.query(&*sql, &[]).unwrap_or_else(|error| panic!("{}: {error:?}\n{sql}", statement.title));
    if statement.is_series {
        let columns = client.prepare(&sql).unwrap();
        let kinds: Vec<&Type> = columns.columns().iter().map(|column| column.type_()).collect();
        assert_eq!((columns.columns()[0].name(), kinds[0]), ("time", &Type::TIMESTAMPTZ), "{sql}");
        assert!(
            kinds[1..].iter().all(|kind| [Type::FLOAT8, Type::TEXT].contains(kind)),
            "{}: {kinds:?}",
            statement.title
        );
    }
    rows
}

/// Makes a database with candles of three slices, an object that waits, and one that failed, and a role that has the
/// extension's role of that name.
fn with_everything(name: &str) -> (AnswersFixture, Vec<Tick>) {
    let mut fixture = AnswersFixture::new();
    let ticks = generated("BTCUSDT", 5, 3);
    fixture.load("slices", &ticks);
    fixture.run("SELECT btc_ingest.create_candles('1 minute'), btc_ingest.create_candles('1 second')");
    fixture.run("SELECT btc_ingest.create_candles('5 minutes', by => 'trade_time')");
    let damaged = fixture.server.put(&format!("{}/damaged.parquet", fixture.db.name()), "no parquet");
    fixture.run(&format!("SELECT btc_ingest.register_s3_slice('{damaged}', 'BTCUSDT', '2024-08-08 12:20Z')"));
    execute(&mut fixture.client, "SELECT * FROM btc_ingest.sweep()");
    let waiting = fixture.put("waiting", &ticks);
    fixture.run(&format!("SELECT btc_ingest.register_s3_slice('{waiting}', 'BTCUSDT', '2024-08-08 12:30Z')"));
    fixture.run(&role(name));
    fixture.run(&format!("ALTER ROLE {name} LOGIN; GRANT btc_ingest_{name} TO {name}"));
    (fixture, ticks)
}

#[test]
fn every_panel_of_the_market_shows_what_is_stored_to_a_reader() {
    let (fixture, ticks) = with_everything("reader");
    let mut reader = fixture.db.client_as("reader");
    let statements = statements(&dashboard("market.json"));
    for name in ["btc_ohlcv_1s", "btc_ohlcv_1m", "btc_ohlcv_5m_tt"] {
        for interval in ["100ms", "1s", "2m", "15m", "1d"] {
            let chosen = Chosen { range: MARKET, interval, candles: name };
            for statement in &statements {
                assert!(!rows(&mut reader, statement, &chosen).is_empty(), "{} is empty", statement.title);
            }
        }
    }
    let price = statements.iter().find(|statement| statement.title == "Price").unwrap();
    for (interval, width) in [("1s", 60), ("2m", 120), ("15m", 900)] {
        let chosen = Chosen { range: MARKET, interval, candles: "btc_ohlcv_1m" };
        let found: Vec<String> = rows(&mut reader, price, &chosen)
            .iter()
            .map(|row| ["open", "high", "low", "close"].map(|name| format!("{:.8}", row.get::<_, f64>(name))).join(" "))
            .collect();
        let wanted: Vec<String> = candles(&ticks, width * 1_000_000, By::Event)
            .iter()
            .map(|line| line.split_once(": ").unwrap().1.split_once(',').unwrap().0.to_owned())
            .collect();
        assert_eq!(found, wanted, "{interval}");
    }
}

#[test]
fn every_panel_of_the_ingestion_shows_what_is_there_to_a_monitor() {
    let (mut fixture, _) = with_everything("monitor");
    let mut monitor = fixture.db.client_as("monitor");
    let (from, to) = (
        fixture.text("SELECT (now() - interval '6 hours')::text"),
        fixture.text("SELECT (now() + interval '1 hour')::text"),
    );
    for interval in ["100ms", "1m", "1d"] {
        let chosen = Chosen { range: (&from, &to), interval, candles: "" };
        for statement in statements(&dashboard("ingestion.json")) {
            let found = rows(&mut monitor, &statement, &chosen);
            assert!(!found.is_empty() || MAY_BE_EMPTY.contains(&&*statement.title), "{} is empty", statement.title);
        }
    }
    // What no panel must show to a monitor: it may not read a price.
    let read = monitor.batch_execute("SELECT price FROM market_data.btc_ticks");
    assert_eq!(read.unwrap_err().code().unwrap().code(), "42501");
}

#[test]
fn panels_have_places_of_their_own_and_one_data_source() {
    let provisioned = std::fs::read_to_string(
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../infra/database/dashboards/provisioning/datasources/btc_ingest.yaml"),
    )
    .unwrap();
    for name in ["market.json", "ingestion.json"] {
        let dashboard = dashboard(name);
        let mut taken = std::collections::HashSet::new();
        let mut ids = std::collections::HashSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_i64().unwrap()), "{name}: an id twice");
            let place = |key: &str| panel["gridPos"][key].as_i64().unwrap();
            for x in place("x")..place("x") + place("w") {
                assert!(x < 24, "{name}: {} is too wide", panel["title"]);
                for y in place("y")..place("y") + place("h") {
                    assert!(taken.insert((x, y)), "{name}: {} lies on another panel", panel["title"]);
                }
            }
            for source in [&panel["datasource"], &panel["targets"][0]["datasource"]] {
                assert_eq!(source["uid"], "${datasource}");
                assert!(provisioned.contains(&format!("type: {}\n", source["type"].as_str().unwrap())));
            }
        }
    }
}
