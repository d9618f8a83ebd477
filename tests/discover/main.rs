//! Watched prefixes, and the other ways by which uploaded objects become registered.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod discover_fixture;
mod faults;
mod lambda;
mod many;
mod prefixes;
