//! btc_ingest: Bitcoin trade ticks from Parquet objects in S3 into a TimescaleDB hypertable, exactly once.
//!
//! Modules in reading order; arrows point down only: `pg` → `load` → {`s3`, `decode`, `tuple`} → `model` → `error`.
//! Everything but `pg` builds and is tested without PostgreSQL (`--no-default-features`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod error;
pub mod model;
