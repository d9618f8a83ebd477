//! A short soak: what `make soak` does for many minutes, in half of one.

use std::time::Duration;

use btc_ingest_kit::soak::{self, Options};

#[test]
fn slices_flow_in_exactly_once_through_faults_and_kills() {
    let time = Duration::from_secs(20);
    let options = Options { time, seed: 1, slices: 200, kills: 6, outage: Duration::from_secs(3) };
    match soak::run(&options) {
        Ok(summary) => println!("{summary}"),
        Err(summary) => panic!("{summary}"),
    }
}
