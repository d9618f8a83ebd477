//! `btc-ingest-crowd`: see `btc_ingest_tests::crowd`.

use std::process::ExitCode;

use btc_ingest_tests::crowd::{self, Options};

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| crowd::run(&options)) {
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
