//! Objects on their way into the tables: which are due, which process has claimed them, and what became of an attempt.

pub mod attempt;
pub mod claim;
pub mod commands;
pub mod control;
pub mod enqueue;
pub mod listed;
pub mod live;
pub mod loading;
pub mod prefetch;
pub mod sweep;
