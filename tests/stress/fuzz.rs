//! A short run of the fuzzer: what `make fuzz` does for many minutes.

use std::time::Duration;

use btc_ingest_kit::fuzz::{self, Options};

#[test]
fn no_statement_gives_an_internal_error_ends_its_backend_or_hangs() {
    match fuzz::run(&Options { time: Duration::from_secs(600), most: 250, seed: 1 }) {
        Ok(summary) => println!("{summary}"),
        Err(summary) => panic!("{summary}"),
    }
}
