//! What is to be measured, and how much of it: the command line.

use std::path::PathBuf;

use crate::rows::ROWS;

/// What `--help` says.
const USAGE: &str = "\
usage: btc-ingest-bench [option value …]
  --ticks N        ticks of the day, and as many spread over the days of a backfill; 3000000
  --runs N         rounds; every round measures every row once; 5
  --only ROW,…     these rows and what they are compared with; --list names them
  --days N         days that the ticks of a backfill are spread over, in hourly objects; 28
  --latency N      milliseconds added to every request of the far S3 server; 30
  --full N         ticks that a chunk holds before a slice is loaded into it; 30000000
  --object-mb N    size of the object whose load is watched for memory; 1024
  --out FILE       writes the results there as well, as Markdown
  --list           names the rows
The server is the one that PG_CONFIG belongs to, with btc_ingest installed.";

/// The command line, understood.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ticks of the day, and of the backfill.
    pub ticks: usize,
    /// Rounds.
    pub runs: usize,
    /// Keys of rows; all of them where it is empty.
    only: Vec<String>,
    /// Days of the backfill.
    pub days: usize,
    /// Milliseconds.
    pub latency_ms: u64,
    /// Ticks in the full chunk.
    pub full: u64,
    /// Megabytes of the large object.
    pub object_mb: usize,
    /// Where the results go besides standard output.
    pub out: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments; the error is what to print instead of measuring.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            ticks: 3_000_000,
            runs: 5,
            only: Vec::new(),
            days: 28,
            latency_ms: 30,
            full: 30_000_000,
            object_mb: 1024,
            out: None,
        };
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or(format!("{name} needs a value\n{USAGE}"));
            match name.as_str() {
                "--ticks" => options.ticks = number(&name, &value()?)?.max(1),
                "--runs" => options.runs = number(&name, &value()?)?.max(1),
                "--only" => options.only = keys(&value()?)?,
                "--days" => options.days = number(&name, &value()?)?.clamp(1, 365),
                "--latency" => options.latency_ms = number(&name, &value()?)? as u64,
                "--full" => options.full = number(&name, &value()?)?.max(1) as u64,
                "--object-mb" => options.object_mb = number(&name, &value()?)?.max(1),
                "--out" => options.out = Some(value()?.into()),
                "--list" => return Err(list()),
                "--help" | "-h" => return Err(USAGE.to_owned()),
                _ => return Err(format!("unknown argument {name}\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// Whether this row is to be measured: it was named, or none was, or a named one is compared with it.
    pub fn wants(&self, key: &str) -> bool {
        let named = |key: &str| self.only.is_empty() || self.only.iter().any(|only| only == key);
        named(key) || ROWS.iter().any(|row| row.against == Some(key) && named(row.key))
    }

    /// Whether any of these rows is to be measured.
    pub fn wants_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.wants(key))
    }
}

fn number(name: &str, text: &str) -> Result<usize, String> {
    text.replace('_', "").parse().map_err(|_| format!("{name} needs a number, not {text}"))
}

fn keys(text: &str) -> Result<Vec<String>, String> {
    let keys: Vec<String> = text.split(',').map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()).collect();
    match keys.iter().find(|key| ROWS.iter().all(|row| row.key != key.as_str())) {
        Some(unknown) => Err(format!("no row is called {unknown}\n{}", list())),
        None => Ok(keys),
    }
}

fn list() -> String {
    ROWS.iter().map(|row| format!("{:<18} {}", row.key, row.name)).collect::<Vec<_>>().join("\n")
}
