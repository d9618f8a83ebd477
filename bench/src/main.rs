//! Measures the loads of btc_ingest beside other ways into the same hypertable, all in one run.
//!
//! In reading order: [`rows`] says what is measured, [`options`] how much of it. [`servers`], [`data`] and [`fixtures`]
//! make what it is measured on; [`bench`](crate::bench) holds all of that. A module for each group of rows measures;
//! [`rounds`] calls them; [`report`] prints.

// A measurement that cannot be set up stops and says where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod arrive;
mod backfill;
mod bench;
mod candles;
mod compressed;
mod data;
mod day;
mod decode;
mod drain;
mod fill;
mod fixtures;
mod format;
mod full_chunk;
mod groups;
mod machine;
mod memory;
mod options;
mod pgcopy;
mod python;
mod quality;
mod regimes;
mod report;
mod results;
mod rounds;
mod rows;
mod servers;
mod single;
mod slices;
mod tuned;
mod windows;
mod workers;

use std::process::ExitCode;

use options::Options;

fn main() -> ExitCode {
    let options = match Options::parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("btc-ingest-bench: {error}; --help lists the options");
            return ExitCode::from(2);
        }
    };
    let out = options.out.clone();
    let bench = rounds::prepare(options);
    let results = rounds::run(&bench);
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
