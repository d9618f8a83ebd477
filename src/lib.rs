//! btc_ingest: Bitcoin trade ticks from Parquet objects in S3 into a TimescaleDB hypertable, exactly once.
//!
//! Modules in reading order; arrows point down only: `pg` → `load` → {`s3`, `decode`, `tuple`} → `model` → `error`.
//! Everything but `pg` builds and is tested without PostgreSQL (`--no-default-features`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod decode;
pub mod error;
pub mod load;
pub mod model;
pub mod s3;
pub mod tuple;

#[cfg(feature = "pg")]
pub mod pg;

#[cfg(feature = "pg")]
::pgrx::pg_module_magic!(name, version);

/// Required by `cargo pgrx test`, at this place.
#[cfg(test)]
pub mod pg_test {
    /// Nothing to set up.
    pub fn setup(_options: Vec<&str>) {}

    /// Settings of the test cluster.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'timescaledb'", "timescaledb.telemetry_level = off"]
    }
}
