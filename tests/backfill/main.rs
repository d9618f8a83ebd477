//! Backfills of whole prefixes, object by object.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod again;
mod control;
mod disk;
mod faults;
mod logged;
mod order;
mod prefixes;
mod standby;
mod wide;
