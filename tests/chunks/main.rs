//! Backfills that build whole chunks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aggregates;
mod compressed;
mod dump;
mod equal;
mod far_times;
mod faults;
mod logged;
mod order;
mod outage;
mod owner;
mod pair_fixture;
mod traps;
