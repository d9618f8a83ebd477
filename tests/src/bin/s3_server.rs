//! `btc-ingest-s3`: see `btc_ingest_tests::s3_program`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match btc_ingest_tests::s3_program::run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
