//! The slices of one object, over all batches.

use std::collections::BTreeMap;

use crate::tuple::batch::SliceRun;

/// What one object has in each slice, by bucket (microseconds since 1970) and asset.
pub type Slices = BTreeMap<(i64, String), SliceRun>;

/// Adds what a batch has in a slice.
pub fn add_to(slices: &mut Slices, run: &SliceRun) {
    let slice = slices.entry((run.bucket, run.symbol.to_string()));
    slice.and_modify(|slice| slice.absorb(run)).or_insert_with(|| run.clone());
}
