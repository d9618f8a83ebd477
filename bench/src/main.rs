//! Measures the loads of btc_ingest beside other ways into the same hypertable, all in one run.
//!
//! In reading order: [`rows`] says what is measured, [`options`] how much of it; [`rig`] and [`data`] are what it stands
//! on; [`bench`](crate::bench) goes through the rounds; a module per group of rows measures; [`report`] prints.

// A measurement that cannot be set up has nothing better to do than to stop and say where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod arrive;
mod backfill;
mod bench;
mod data;
mod day;
mod decode;
mod drain;
mod full;
mod machine;
mod memory;
mod options;
mod pgcopy;
mod python;
mod report;
mod results;
mod rig;
mod rows;
mod slices;
mod workers;

use std::process::ExitCode;

use bench::Bench;
use options::Options;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let out = options.out.clone();
    let bench = Bench::prepare(options);
    let results = bench.run();
    let text = report::markdown(&bench, &results);
    println!("{text}");
    if let Some(file) = out
        && let Err(error) = std::fs::write(&file, &text)
    {
        eprintln!("{}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    if results.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
