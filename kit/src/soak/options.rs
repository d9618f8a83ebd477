//! The command line of the soak: for how long it runs, and how many faults it makes.

use std::time::Duration;

use lexopt::Parser;
use lexopt::prelude::{Long, Short};

use crate::program::value;

/// The usage of the program.
pub const USAGE: &str = "\
usage: btc-ingest-soak [option value …]
  --minutes N   for how long slices come and processes are killed; 10
  --seed N      of everything that is random; 1
  --slices N    good slices, over three assets; 2000
  --kills N     processes killed in that time; 6 a minute, and at least 30
  --outage N    seconds for which S3 is gone at the end; 60
The server is the one that PG_CONFIG belongs to, with btc_ingest installed.";

/// The command line, parsed.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long slices come, and processes are killed.
    pub time: Duration,
    /// The seed of everything that is random.
    pub seed: u64,
    /// Good slices.
    pub slices: usize,
    /// Processes that are killed.
    pub kills: usize,
    /// How long S3 is gone.
    pub outage: Duration,
}

impl Options {
    /// Parses the command line. Returns `None` if it asks for the usage.
    pub fn parse(parser: &mut Parser) -> Result<Option<Self>, lexopt::Error> {
        let (mut minutes, mut kills) = (10.0, None);
        let mut options =
            Options { time: Duration::ZERO, seed: 1, slices: 2000, kills: 0, outage: Duration::from_secs(60) };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("minutes") => minutes = value::<f64>(parser)?.clamp(0.1, 10_000.0),
                Long("seed") => options.seed = value(parser)?,
                Long("slices") => options.slices = value(parser)?,
                Long("kills") => kills = Some(value(parser)?),
                Long("outage") => options.outage = Duration::from_secs(value(parser)?),
                Long("help") | Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        options.time = Duration::from_secs_f64(minutes * 60.0);
        options.kills = kills.unwrap_or(((6.0 * minutes) as usize).max(30));
        Ok(Some(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Options>, lexopt::Error> {
        Options::parse(&mut Parser::from_args(text.split_whitespace()))
    }

    #[test]
    fn a_longer_soak_kills_more() {
        let kills = |text: &str| parse(text).unwrap().unwrap().kills;
        assert_eq!(kills(""), 60);
        assert_eq!(kills("--minutes 2"), 30);
        assert_eq!(kills("--minutes 2 --kills 3 --seed 7"), 3);
        assert!(parse("--minutes").unwrap_err().to_string().contains("missing argument for option '--minutes'"));
        assert!(parse("--seed x").unwrap_err().to_string().contains("cannot parse"));
        assert!(parse("--help").unwrap().is_none());
    }
}
