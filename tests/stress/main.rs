//! A short soak and a short crowd: what `make soak` and `make crowd` do for many minutes.
//!
//! Each starts a cluster of its own and keeps every core busy, so they are kept away from tests that measure time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crowd;
mod soak;
