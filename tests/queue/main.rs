//! Registered objects are loaded by background workers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod claims;
mod commands;
mod ending;
mod innocent;
mod locks;
mod outage;
mod outage_fixture;
mod queue_fixture;
mod real_files;
mod registered_again;
mod registrations;
mod replicated;
mod retries;
mod s3_down;
mod sqlstates;
mod sweep;
mod wide;
mod worker;
