//! A throw-away PostgreSQL cluster on loopback, and a fresh database in it per test.
//!
//! A test binary starts one [`Cluster`], keeps it in a `OnceLock`, and gives every test a [`TestDb`]. The
//! cluster is stopped and removed when its value or the process goes away: see [`crate::janitor`].

mod builder;
mod database;
pub mod hostile_settings;
mod running;

pub use builder::ClusterBuilder;
pub use database::TestDb;
pub use running::{Cluster, backend_pid, client_again, quoted, tail, try_client};
