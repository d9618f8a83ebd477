//! Candles of real trades against those that DuckDB computes of the same files.

use std::path::{Path, PathBuf};
use std::process::Command;

use btc_ingest_kit::candles::stored_candles;
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::real_files::{RealFile, test_data};
use btc_ingest_kit::sql::Session;

use crate::answers_fixture::AnswersFixture;

const DUCKDB: &str = "duckdb==2.0.1";

/// Returns a Python that has DuckDB: an environment of this test's own, or `None` where DuckDB cannot be had.
fn python() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("duckdb");
    let python = directory.join("bin/python");
    let has_it = || Command::new(&python).args(["-c", "import duckdb"]).output().is_ok_and(|o| o.status.success());
    if !has_it() {
        let environment = Command::new("python3").args(["-m", "venv"]).arg(&directory).output();
        let pip =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "10"];
        let install = || Command::new(&python).args(pip).arg(DUCKDB).output();
        if !(environment.is_ok_and(|o| o.status.success()) && install().is_ok_and(|o| o.status.success()) && has_it()) {
            println!("skipped: {DUCKDB} cannot be installed");
            return None;
        }
    }
    Some(python)
}

#[test]
fn candles_of_real_trades_are_those_that_duckdb_computes_of_the_files() {
    let Some(data) = test_data() else { return };
    let Some(python) = python() else { return };
    let mut fixture = AnswersFixture::new();
    // Spot and futures have the same symbol.
    let files = RealFile::all(&data).into_iter().filter(|file| file.is_whole() && file.dataset().starts_with("spot"));
    let files: Vec<RealFile> = files.collect();
    for file in &files {
        let uri = fixture.server.put(&format!("{}/{}", fixture.db.name(), file.name()), file.bytes());
        loaded(&mut fixture.client, &uri, "");
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("answers/candles_by_duckdb.py");
    let mut compared = 0;
    for (width, us) in [
        ("100 milliseconds", 100_000_i64),
        ("1 second", 1_000_000),
        ("1 minute", 60_000_000),
        ("5 minutes", 300_000_000),
        ("1 hour", 3_600_000_000),
    ] {
        for by in ["event_time", "trade_time"] {
            let name = fixture.text(&format!("SELECT btc_ingest.create_candles('{width}', by => '{by}')"));
            let mut command = Command::new(&python);
            command.arg(&program).args([us.to_string().as_str(), by]);
            let output = command.args(files.iter().map(|file| data.join("real").join(file.name()))).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let wanted: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
            let found = stored_candles(&mut fixture.client, &name);
            let differing: Vec<_> = found.iter().zip(&wanted).filter(|(found, wanted)| found != wanted).collect();
            assert!(differing.is_empty() && found.len() == wanted.len(), "{name}: {:#?}", differing.first());
            compared += wanted.len();
        }
    }
    assert!(compared > 5_000, "{compared}");
}
