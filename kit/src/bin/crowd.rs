//! `btc-ingest-crowd`: see `btc_ingest_kit::crowd`.

use std::process::ExitCode;

use btc_ingest_kit::crowd::{self, Options, USAGE};
use btc_ingest_kit::program;

fn main() -> ExitCode {
    program::main(USAGE, Options::parse, |options| crowd::run(&options))
}
