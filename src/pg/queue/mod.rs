//! The queue of objects to load: which objects are due, which session has claimed them, and what became of
//! each attempt.

pub mod attempt;
pub mod claim;
pub mod claiming;
pub mod commands;
pub mod control;
pub mod enqueue;
pub mod held_chunks;
pub mod live;
pub mod loading;
pub mod outage;
pub mod prefetch;
pub mod sweep;
mod sweep_offsets;
