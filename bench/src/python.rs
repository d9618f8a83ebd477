//! What a Python job does with the same object: pyarrow to CSV to a client's COPY, and ADBC.

use std::path::PathBuf;
use std::process::Command;

use btc_ingest_kit::command::run;

use crate::bench::Bench;
use crate::results::Results;
use crate::rig::DATABASE;

/// The rows that read the day's object as a file.
pub const NEED_FILE: &[&str] = &["csv", "adbc"];

/// pyarrow → CSV → COPY … FROM STDIN.
pub fn csv(bench: &Bench, results: &mut Results) {
    script(bench, results, "csv", "csv_copy.py", "import pyarrow.csv, psycopg");
}

/// pyarrow → ADBC's bulk ingestion.
pub fn adbc(bench: &Bench, results: &mut Results) {
    script(bench, results, "adbc", "adbc_ingest.py", "import pyarrow, adbc_driver_postgresql.dbapi");
}

/// Where the day's object lies for the scripts: they are spared S3.
pub fn file(bench: &Bench) -> PathBuf {
    bench.rig.file("day.parquet")
}

/// Runs a script that prints the seconds from reading to the commit, without the start of Python.
fn script(bench: &Bench, results: &mut Results, key: &'static str, name: &str, imports: &str) {
    if run(Command::new("python3").args(["-c", imports])).is_err() {
        return results.note(key, format!("skipped: python3 cannot {imports}"));
    }
    bench.rig.reset();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python").join(name);
    let port = bench.rig.cluster.port();
    let mut command = Command::new("python3");
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(path)
        .arg(file(bench))
        .arg(format!("postgresql://postgres@127.0.0.1:{port}/{DATABASE}"));
    let said = run(&mut command).unwrap_or_else(|e| panic!("{e}"));
    let seconds = said.trim().parse().unwrap_or_else(|e| panic!("{name} said {said}: {e}"));
    bench.rig.check(&bench.day.sums, key);
    results.add(key, seconds, bench.day.whole.ticks);
}
