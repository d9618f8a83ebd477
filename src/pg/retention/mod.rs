//! Retention: the jobs that `ops.retention_jobs` wants, chunks that are dropped after a proof, and ranges that come
//! back.

mod chunk;
mod other;
pub mod outcome;
pub mod policies;
pub mod restore;
pub mod run;
pub mod step;
