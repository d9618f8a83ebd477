//! What is to be measured, and how much of it: the command line.

use std::path::PathBuf;

use lexopt::{Arg, Error, Parser, ValueExt};

use crate::rows::ROWS;

/// What `--help` prints.
const USAGE: &str = "\
usage: btc-ingest-bench [option value …]
  --ticks N        ticks of the day, and as many spread over the days of a backfill; 3000000
  --runs N         rounds; every round measures every row once; 5
  --only ROW,…     these rows and what they are compared with; --list names them
  --days N         days that the ticks of a backfill are spread over, in hourly objects; 28
  --latency N      milliseconds added to every request of the far S3 server; 30
  --full N         ticks that a chunk holds before a slice is loaded into it; 30000000
  --object-mb N    size of the object whose load is watched for memory; 1024
  --set NAME=VALUE a setting of btc_ingest: load-set, slices-set and arrive-set have it
  --windows DSN    the database whose labelled windows helps reads, instead of generated ones
  --out FILE       writes the results to this file as well, as Markdown
  --list           names the rows
The server is the one that PG_CONFIG belongs to, with btc_ingest installed.";

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ticks of the day, and of the backfill.
    pub ticks: usize,
    /// Rounds.
    pub runs: usize,
    /// Keys of rows; if empty, all rows.
    only: Vec<String>,
    /// Days of the backfill.
    pub days: usize,
    /// Milliseconds.
    pub latency_ms: u64,
    /// Ticks in the full chunk.
    pub full: u64,
    /// Megabytes of the large object.
    pub object_mb: usize,
    /// Name and value of a setting with which some rows are measured once more.
    pub set: Option<(String, String)>,
    /// The connection string of a database with windows.
    pub windows: Option<String>,
    /// The file that the results are written to, besides standard output.
    pub out: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments. Returns `None` if they only ask for a text, which is then printed.
    pub fn parse(mut args: Parser) -> Result<Option<Self>, Error> {
        let mut options = Self {
            ticks: 3_000_000,
            runs: 5,
            only: Vec::new(),
            days: 28,
            latency_ms: 30,
            full: 30_000_000,
            object_mb: 1024,
            set: None,
            windows: None,
            out: None,
        };
        while let Some(argument) = args.next()? {
            match argument {
                Arg::Long("ticks") => options.ticks = number(&mut args)?.max(1),
                Arg::Long("runs") => options.runs = number(&mut args)?.max(1),
                Arg::Long("only") => options.only = keys(&args.value()?.string()?)?,
                Arg::Long("days") => options.days = number(&mut args)?.clamp(1, 365),
                Arg::Long("latency") => options.latency_ms = number(&mut args)? as u64,
                Arg::Long("full") => options.full = number(&mut args)?.max(1) as u64,
                Arg::Long("object-mb") => options.object_mb = number(&mut args)?.max(1),
                Arg::Long("set") => options.set = Some(setting(&args.value()?.string()?)?),
                Arg::Long("windows") => options.windows = Some(args.value()?.string()?),
                Arg::Long("out") => options.out = Some(args.value()?.into()),
                Arg::Long("list") => {
                    println!("{}", list());
                    return Ok(None);
                }
                Arg::Long("help") | Arg::Short('h') => {
                    println!("{USAGE}");
                    return Ok(None);
                }
                unknown => return Err(unknown.unexpected()),
            }
        }
        Ok(Some(options))
    }

    /// Returns whether this row is to be measured: it was named, or none was, or a named one is compared with it.
    pub fn wants(&self, key: &str) -> bool {
        let named = |key: &str| self.only.is_empty() || self.only.iter().any(|only| only == key);
        named(key) || ROWS.iter().any(|row| row.against == Some(key) && named(row.key))
    }

    /// Returns whether this row was named itself.
    pub fn names(&self, key: &str) -> bool {
        self.only.iter().any(|only| only == key)
    }

    /// Returns whether every row is to be measured.
    pub fn wants_all(&self) -> bool {
        self.only.is_empty()
    }

    /// Returns whether any of these rows is to be measured.
    pub fn wants_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.wants(key))
    }
}

/// Reads the value of the option that was read last: a number, which may have `_` between its digits.
fn number(args: &mut Parser) -> Result<usize, Error> {
    args.value()?.parse_with(|text| text.replace('_', "").parse::<usize>())
}

/// Reads a setting of the extension with its value.
fn setting(text: &str) -> Result<(String, String), Error> {
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c));
    match text.split_once('=') {
        Some((name, value)) if name.starts_with("btc_ingest.") && is_name(name) => Ok((name.into(), value.into())),
        _ => Err("a setting is written as btc_ingest.NAME=VALUE".into()),
    }
}

fn keys(text: &str) -> Result<Vec<String>, Error> {
    let keys: Vec<String> = text.split(',').map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()).collect();
    match keys.iter().find(|key| ROWS.iter().all(|row| row.key != key.as_str())) {
        Some(unknown) => Err(format!("no row is called {unknown}\n{}", list()).into()),
        None => Ok(keys),
    }
}

fn list() -> String {
    ROWS.iter().map(|row| format!("{:<18} {}", row.key, row.name)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Options>, Error> {
        Options::parse(Parser::from_args(args.iter().copied()))
    }

    #[test]
    fn a_row_brings_what_it_is_compared_with() {
        let options = parse(&["--only", "force, drain-1", "--ticks", "1_000", "--out=a.md"]).unwrap().unwrap();
        assert_eq!((options.ticks, options.runs, options.out), (1000, 5, Some("a.md".into())));
        let options = parse(&["--only", "force, drain-1"]).unwrap().unwrap();
        assert!(options.wants_any(&["force"]) && options.wants("load-slices") && options.wants("drain-1"));
        assert!(!options.wants_any(&["copy", "copy-slices", "drain-2"]));
        assert!(parse(&[]).unwrap().unwrap().wants("copy"));
    }

    #[test]
    fn a_setting_has_a_name_and_a_value() {
        let options = parse(&["--set", "btc_ingest.time_skew_limit=5s"]).unwrap().unwrap();
        assert_eq!(options.set, Some(("btc_ingest.time_skew_limit".into(), "5s".into())));
        for bad in ["btc_ingest.x", "fsync=off", "btc_ingest.x; DROP=1"] {
            assert!(parse(&["--set", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for args in [&["--only", "copi"][..], &["--ticks", "many"], &["--runs"], &["--quick"], &["copy"]] {
            assert!(parse(args).is_err(), "{args:?}");
        }
        assert!(parse(&["--help"]).unwrap().is_none());
    }
}
