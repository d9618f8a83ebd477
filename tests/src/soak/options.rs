//! How long a soak is and how rough: the command line.

use std::time::Duration;

/// What `--help` says.
pub const USAGE: &str = "\
usage: btc-ingest-soak [option value …]
  --minutes N   for how long slices come and processes are killed; 10
  --seed N      of everything that is random; 1
  --slices N    good slices, over three assets; 2000
  --kills N     processes killed in that time; 6 a minute, and at least 30
  --outage N    seconds for which S3 is gone at the end; 60
The server is the one that PG_CONFIG belongs to, with btc_ingest installed.";

/// The command line, understood.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long slices come, and processes are killed.
    pub time: Duration,
    /// Of everything that is random.
    pub seed: u64,
    /// Good slices.
    pub slices: usize,
    /// Processes that are killed.
    pub kills: usize,
    /// For how long S3 is gone.
    pub outage: Duration,
}

impl Options {
    /// Reads the arguments; the error is what to print instead.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut minutes, mut kills) = (10.0, None);
        let mut options =
            Options { time: Duration::ZERO, seed: 1, slices: 2000, kills: 0, outage: Duration::from_secs(60) };
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or(format!("{name} needs a value\n{USAGE}"));
            match name.as_str() {
                "--minutes" => minutes = number::<f64>(&name, &value()?)?.clamp(0.1, 10_000.0),
                "--seed" => options.seed = number(&name, &value()?)?,
                "--slices" => options.slices = number(&name, &value()?)?,
                "--kills" => kills = Some(number(&name, &value()?)?),
                "--outage" => options.outage = Duration::from_secs(number(&name, &value()?)?),
                _ => return Err(USAGE.to_owned()),
            }
        }
        options.time = Duration::from_secs_f64(minutes * 60.0);
        options.kills = kills.unwrap_or(((6.0 * minutes) as usize).max(30));
        Ok(options)
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} needs a number, not {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_soak_kills_more() {
        let parse = |text: &str| Options::parse(text.split_whitespace().map(str::to_owned));
        assert_eq!(parse("").unwrap().kills, 60);
        assert_eq!(parse("--minutes 2").unwrap().kills, 30);
        assert_eq!(parse("--minutes 2 --kills 3 --seed 7").unwrap().kills, 3);
        assert!(parse("--minutes").unwrap_err().contains("needs a value"));
        assert!(parse("--seed x").unwrap_err().contains("needs a number"));
    }
}
