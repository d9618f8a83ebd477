//! A short run of the crowd: what `make crowd` does for many minutes.

use std::time::Duration;

use btc_ingest_kit::crowd::{self, Options};

#[test]
fn an_object_at_which_all_kinds_of_sessions_meet_is_loaded_once_and_nothing_is_forgotten() {
    match crowd::run(&Options { time: Duration::from_secs(15), seed: 1 }) {
        Ok(summary) => println!("{summary}"),
        Err(summary) => panic!("{summary}"),
    }
}
