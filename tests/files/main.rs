//! Parquet of every shape: made, real and damaged files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod columns;
mod damaged;
mod formats;
mod real_data;
mod times;
