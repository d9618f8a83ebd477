//! btc_ingest loads Bitcoin trade ticks from Parquet objects in S3 into a TimescaleDB hypertable, each exactly once.
//!
//! A module imports only from modules to its right: `pg` → `load` → {`s3`, `decode`, `tuple`} → `model` → `error`.
//! `s3`, `decode` and `tuple` do not import from each other. All modules except `pg` form the core, which is built and
//! tested without PostgreSQL (`--no-default-features`).

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

/// The hooks of `cargo pgrx test`, which looks for them here.
#[cfg(test)]
pub mod pg_test {
    /// Does nothing: the tests need no set-up.
    pub fn setup(_options: Vec<&str>) {}

    /// Settings of the test cluster.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'timescaledb'", "timescaledb.telemetry_level = off"]
    }
}
