//! What a listing of a prefix finds: which keys are taken as objects, and their columns for the registry.

pub mod listed;
pub mod picker;
