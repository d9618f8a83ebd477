//! The slices of one object, over all batches.

use std::collections::BTreeMap;

use crate::tuple::batch::SliceRun;

/// Bucket (microseconds since 1970) and asset.
pub type SliceKey = (i64, String);

/// What one object has in each slice.
pub type Slices = BTreeMap<SliceKey, SliceRun>;

/// Adds what a batch has in a slice.
pub fn add_to(slices: &mut Slices, run: &SliceRun) {
    let slice = slices.entry((run.bucket, run.symbol.to_string()));
    slice.and_modify(|slice| slice.absorb(run)).or_insert_with(|| run.clone());
}
