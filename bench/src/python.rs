//! What a Python job does with the same object: pyarrow to CSV to a client's COPY, and ADBC.

use std::path::PathBuf;
use std::process::Command;

use btc_ingest_kit::command::run;

use crate::bench::Bench;
use crate::results::Results;
use crate::servers::DATABASE;

/// The rows that read the day's object as a file.
pub const NEED_FILE: &[&str] = &["csv", "adbc"];

/// Measures pyarrow → CSV → COPY … FROM STDIN.
pub fn csv(bench: &Bench, results: &mut Results) {
    script(bench, results, "csv", "csv_copy.py", "import pyarrow.csv, psycopg");
}

/// Measures pyarrow → ADBC's bulk ingestion.
pub fn adbc(bench: &Bench, results: &mut Results) {
    script(bench, results, "adbc", "adbc_ingest.py", "import pyarrow, adbc_driver_postgresql.dbapi");
}

/// Returns the file that holds the day's object for the scripts, which do not read from S3.
pub fn file(bench: &Bench) -> PathBuf {
    bench.servers.file("day.parquet")
}

/// Runs a script that prints the seconds from the first read to the commit, which exclude the start of Python.
fn script(bench: &Bench, results: &mut Results, key: &'static str, name: &str, imports: &str) {
    if run(Command::new("python3").args(["-c", imports])).is_err() {
        return results.note(key, format!("skipped: python3 cannot {imports}"));
    }
    bench.servers.reset();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python").join(name);
    let port = bench.servers.cluster.port();
    let mut command = Command::new("python3");
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(path)
        .arg(file(bench))
        .arg(format!("postgresql://postgres@127.0.0.1:{port}/{DATABASE}"));
    let said = run(&mut command).unwrap_or_else(|e| panic!("{e}"));
    let seconds = said.trim().parse().unwrap_or_else(|e| panic!("{name} said {said}: {e}"));
    bench.servers.check(&bench.day.sums, key);
    results.add(key, seconds, bench.day.whole.ticks);
}
