//! A short meeting of the crowd: what `make crowd` does for many minutes.

use std::time::Duration;

use btc_ingest_kit::crowd::{self, Options};

#[test]
fn whoever_meets_at_an_object_it_is_loaded_once_and_nothing_is_forgotten() {
    match crowd::run(&Options { time: Duration::from_secs(15), seed: 1 }) {
        Ok(summary) => println!("{summary}"),
        Err(summary) => panic!("{summary}"),
    }
}
