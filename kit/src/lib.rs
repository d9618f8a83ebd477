//! The test kit: everything that a black-box test of `btc_ingest` needs, the demo, the soak and the crowd.
//!
//! In reading order:
//! - [`cluster`]: a throw-away PostgreSQL cluster with TimescaleDB, and a fresh database per test;
//! - [`s3`]: an S3 server in this process, with real protocol and real signatures; [`proxy`]: faults in front of it,
//!   which a test asks for or which strike by chance ([`chaos`]); [`hostile`]: a store that does not follow the
//!   protocol;
//!   [`imds`]: an instance metadata service that hands out credentials that can be rotated;
//! - [`ticks`] and [`parquet`]: generated trades, as Parquet of any physical shape, with exact sums to compare against;
//! - [`silence`]: an endpoint that no request may reach; [`disk`]: a disk that is too small; [`dump`]: pg_dump and
//!   pg_restore;
//! - [`rows`]: a few hand-made trades, compared value by value; [`real_files`]: files of real trades;
//! - [`fixture`]: cluster and server together, a load's report and refusal, the exact sums of what is stored;
//! - [`amcheck`]: PostgreSQL's own checks of what is stored; [`switches`]: variables that change a run of the tests;
//! - [`demo`], [`soak`], [`crowd`] and [`s3::program`]: the programs of this package;
//! - [`sql`], [`janitor`], [`wait`], [`process`], [`http`], [`command`], [`program`]: what the others use.
//!
//! Everything that is started here ends with the process that started it, however that process ends: see [`janitor`].

// A test that cannot set itself up panics and names the place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod amcheck;
pub mod candles;
pub mod chaos;
pub mod cluster;
pub mod command;
pub mod crowd;
pub mod demo;
pub mod disk;
pub mod dump;
pub mod fixture;
pub mod fuzz;
pub mod hostile;
pub mod http;
pub mod imds;
pub mod janitor;
pub mod parquet;
pub mod process;
pub mod program;
pub mod proxy;
pub mod real_files;
pub mod rows;
pub mod s3;
pub mod silence;
pub mod soak;
pub mod sql;
pub mod switches;
pub mod ticks;
pub mod tls;
pub mod wait;

pub use chaos::Chaos;
pub use cluster::{Cluster, ClusterBuilder, TestDb};
pub use disk::SmallDisk;
pub use fixture::ServerFixture;
pub use hostile::{Deviation, HostileStore};
pub use imds::FakeImds;
pub use parquet::ParquetFile;
pub use proxy::{Fault, FaultProxy, When};
pub use s3::{Keys, S3Server};
pub use silence::SilentEndpoint;
pub use ticks::{Generator, Sums, Tick};
pub use wait::wait_until;
