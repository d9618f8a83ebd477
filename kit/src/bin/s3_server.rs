//! `btc-ingest-s3`: see `btc_ingest_kit::s3::program`.

use std::process::ExitCode;

use btc_ingest_kit::program;
use btc_ingest_kit::s3::program::{Arguments, USAGE, serve};

fn main() -> ExitCode {
    program::main(USAGE, Arguments::parse, |arguments| serve(&arguments).map(|()| String::new()))
}
