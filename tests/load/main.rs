//! Loads by call: what is stored, what is refused, what goes on beside them, what they cost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_rows;
mod cancel;
mod commit;
mod concurrency;
mod kept;
mod keys;
mod memory;
mod merge;
mod remembered;
mod runs;
mod wide;
