//! For how long the crowd meets: the command line.

use std::time::Duration;

/// What `--help` says.
pub const USAGE: &str = "\
usage: btc-ingest-crowd [option value …]
  --minutes N   for how long; 10
  --seed N      of everything that is random; 1
The server is the one that PG_CONFIG belongs to, with btc_ingest installed.";

/// The command line, understood.
#[derive(Debug, Clone)]
pub struct Options {
    /// No round begins later.
    pub time: Duration,
    /// Of everything that is random.
    pub seed: u64,
}

impl Options {
    /// Reads the arguments; the error is what to print instead.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Options { time: Duration::from_secs(600), seed: 1 };
        while let Some(name) = args.next() {
            let value = args.next().unwrap_or_default();
            let wrong = || format!("{name} needs a number, not {value:?}\n{USAGE}");
            match name.as_str() {
                "--minutes" => {
                    let minutes: f64 = value.parse().map_err(|_| wrong())?;
                    options.time = Duration::from_secs_f64(minutes.clamp(0.1, 10_000.0) * 60.0);
                }
                "--seed" => options.seed = value.parse().map_err(|_| wrong())?,
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }
}
