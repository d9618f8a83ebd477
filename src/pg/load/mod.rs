//! One load in a transaction: batches into the hypertable, and what is recorded beside the ticks.

pub mod chunk;
pub mod events;
pub mod inspect;
pub mod known;
pub mod offsets;
pub mod one;
pub mod plan;
pub mod probe;
pub mod record;
pub mod register;
pub mod rejects;
pub mod sink;
