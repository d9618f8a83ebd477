//! `btc-ingest-fuzz`: see `btc_ingest_kit::fuzz`.

use std::process::ExitCode;

use btc_ingest_kit::fuzz::{self, Options, USAGE};
use btc_ingest_kit::program;

fn main() -> ExitCode {
    program::main(USAGE, Options::parse, |options| fuzz::run(&options))
}
