//! Questions about the stored ticks: ranges, last prices, candles, prices as of times, bars.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aggregates;
mod answers_fixture;
mod appended;
mod candles;
mod cookbook;
mod dashboards;
mod duckdb;
mod embedding;
mod linked;
mod owners;
mod series;
mod ticks;
mod upkeep;
mod windows;
