//! The cookbook: each query gives the answer that stands behind it, and what is computed of the demo's ticks elsewhere.

use std::path::PathBuf;
use std::process::Command;

use btc_ingest_kit::candles::{By, candles};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::{decimal_text, time_us};
use btc_ingest_kit::{ParquetFile, Tick, demo};

use crate::answers_fixture::AnswersFixture;

fn page() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/use/cookbook.md");
    std::fs::read_to_string(path).unwrap()
}

/// Returns the blocks of the page: what stands behind the fence, and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = page.split("```").collect();
    let block = |part: &&str| part.split_once('\n').map(|(info, text)| (info.to_owned(), text.to_owned())).unwrap();
    parts.iter().skip(1).step_by(2).map(block).collect()
}

/// Puts the demo's objects into S3 as the page names them. Tests of other binaries have buckets of their own.
fn with_demo() -> (AnswersFixture, Vec<Tick>) {
    let fixture = AnswersFixture::new();
    let mut loaded = Vec::new();
    for object in demo::objects() {
        fixture.server.put(&object.key, ParquetFile::new().bytes(&object.ticks));
        if object.key.contains("T1200Z") || object.key.contains("hourly") {
            loaded.extend(object.ticks);
        }
    }
    (fixture, loaded)
}

fn without_spaces_at_ends(text: &str) -> String {
    text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_query_of_the_cookbook_gives_the_answer_that_stands_behind_it() {
    let (fixture, _) = with_demo();
    let page = page();
    let blocks = blocks(&page);
    let mut compared = 0;
    for (index, (info, sql)) in blocks.iter().enumerate().filter(|(_, (info, _))| info == "sql") {
        let options = ["-P", "footer=off"];
        let found = fixture.db.cluster().psql_with(fixture.db.name(), &options, sql).unwrap();
        if let Some((_, wanted)) = blocks.get(index + 1).filter(|(info, _)| info == "text") {
            assert_eq!(without_spaces_at_ends(&found), without_spaces_at_ends(wanted), "{info}: {sql}\n{found}");
            compared += 1;
        }
    }
    assert!(compared >= 8, "only {compared} answers");
}

#[test]
fn answers_of_the_cookbook_are_those_that_are_computed_of_the_ticks() {
    let (_, ticks) = with_demo();
    let page = page();
    let has = |answer: &str| assert!(page.contains(answer), "the page has no {answer}");
    let of = |symbol: &'static str| ticks.iter().filter(move |tick| &*tick.symbol == symbol);
    let hour =
        |from: &str, to: &str| time_us(&format!("2024-08-08T{from}:00Z"))..time_us(&format!("2024-08-08T{to}:00Z"));

    let last = of("ETHUSDT").max_by_key(|tick| (tick.event_time_us, tick.trade_id)).unwrap();
    has(&format!(" {} | {}", decimal_text(last.price.into(), 8, 8), decimal_text(last.quantity, 12, 12)));

    let half = hour("13:00", "13:30");
    let (mut value, mut volume) = (0i128, 0i128);
    for tick in of("BTCUSDT").filter(|tick| half.contains(&tick.event_time_us)) {
        value += i128::from(tick.price) * tick.quantity;
        volume += tick.quantity;
    }
    has(&format!(" BTCUSDT | {}", decimal_text((2 * value / volume + 1) / 2, 8, 8)));

    let minute = hour("12:04", "12:05");
    let candle = candles(of("BTCUSDT").filter(|tick| minute.contains(&tick.event_time_us)), 60_000_000, By::Event);
    let close = candle[0].split_whitespace().nth(7).unwrap().trim_end_matches(',').to_owned();
    let filled = page.lines().filter(|line| line.contains(&format!("| {close} |"))).count();
    assert_eq!(filled, 3, "the close {close} of the last minute, and of the two without a trade");

    let mut ids: Vec<i64> = of("BTCUSDT").map(|tick| tick.trade_id).collect();
    ids.sort_unstable();
    let missing: i64 = ids.windows(2).map(|pair| pair[1] - pair[0] - 1).sum();
    has(&format!(" {missing} | 2024-08-08 12:04:00 | 2024-08-08 13:00:00"));
}

#[test]
fn the_python_program_of_the_cookbook_reads_the_candles() {
    let (mut fixture, _) = with_demo();
    let works = Command::new("python3").args(["-c", "import adbc_driver_postgresql.dbapi, pyarrow"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        println!("skipped: python3 has no adbc_driver_postgresql");
        return;
    }
    fixture.run(
        "SELECT btc_ingest.load_s3_slice('s3://landing/Binance/BTCUSDT/2024/08/08/BTCUSDT_20240808T1200Z.parquet');
         SELECT btc_ingest.create_candles('1 minute')",
    );
    let page = page();
    let (_, program) = blocks(&page).into_iter().find(|(info, _)| info == "python").unwrap();
    let url = format!("postgresql://postgres@127.0.0.1:{}/{}", fixture.db.cluster().port(), fixture.db.name());
    let output = Command::new("python3").args(["-c", &program]).env("DATABASE_URL", url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(found.trim(), "5 ['bucket', 'symbol', 'close', 'volume']");
}
