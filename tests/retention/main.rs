//! Retention: policies, what holds a chunk back, what is dropped and comes back, and the candles of dropped ticks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod candles;
mod compressed;
mod drops;
mod faults;
mod gone;
mod other;
mod policies;
mod restored;
mod retention_fixture;
