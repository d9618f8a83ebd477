//! `btc-ingest-soak`: see `btc_ingest_kit::soak`.

use std::process::ExitCode;

use btc_ingest_kit::program;
use btc_ingest_kit::soak::{self, Options, USAGE};

fn main() -> ExitCode {
    program::main(USAGE, Options::parse, |options| soak::run(&options))
}
