//! A short soak, a short crowd and a short run of the fuzzer: what `make soak`, `make crowd` and `make fuzz` do for
//! many minutes.
//!
//! Each starts a cluster of its own and keeps every core busy, so they are kept away from tests that measure time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crowd;
mod fuzz;
mod soak;
