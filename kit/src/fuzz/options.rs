//! The command line of the fuzzer: for how long it runs.

use std::time::Duration;

use lexopt::Parser;
use lexopt::prelude::{Long, Short};

use crate::program::value;

/// The usage of the program.
pub const USAGE: &str = "\
usage: btc-ingest-fuzz [option value …]
  --minutes N   for how long; 10
  --seed N      of the first statement; each further one has the next number; 1
The server is the one that PG_CONFIG belongs to, with btc_ingest installed.";

/// How long it runs, and with which statements.
#[derive(Debug, Clone)]
pub struct Options {
    /// No statement begins later.
    pub time: Duration,
    /// No more statements than this.
    pub most: u64,
    /// The seed of the first statement.
    pub seed: u64,
}

impl Options {
    /// Parses the command line. Returns `None` if it asks for the usage.
    pub fn parse(parser: &mut Parser) -> Result<Option<Self>, lexopt::Error> {
        let (mut minutes, mut seed) = (10.0, 1);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("minutes") => minutes = value::<f64>(parser)?.clamp(0.1, 10_000.0),
                Long("seed") => seed = value(parser)?,
                Long("help") | Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(Options { time: Duration::from_secs_f64(minutes * 60.0), most: u64::MAX, seed }))
    }
}
