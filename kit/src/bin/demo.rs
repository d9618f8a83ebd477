//! `btc-ingest-demo`: see `btc_ingest_kit::demo`.

use std::process::ExitCode;

use btc_ingest_kit::demo::{Command, USAGE};
use btc_ingest_kit::program;

fn main() -> ExitCode {
    program::main(USAGE, Command::parse, |command| command.run().map(|()| String::new()))
}
