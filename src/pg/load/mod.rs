//! One load in a transaction: it stores batches in the hypertable and records the result beside the ticks.

pub mod chunk;
pub mod edges;
pub mod events;
pub mod id_sets;
pub mod inspect;
pub mod known;
pub mod late_offsets;
pub mod merged;
pub mod offsets;
pub mod one;
pub mod plan;
pub mod probe;
pub mod reach;
pub mod record;
pub mod register;
pub mod rejects;
pub mod sink;
pub mod slices;
