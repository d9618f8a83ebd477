//! `btc-ingest-soak`: see `btc_ingest_tests::soak`.

use std::process::ExitCode;

use btc_ingest_tests::soak::{self, Options};

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| soak::run(&options)) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
