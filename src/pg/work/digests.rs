//! Digests of the stored ticks, with which those that a job has computed from the objects are compared.

use std::collections::BTreeSet;
use std::sync::Arc;

use pgrx::datum::TimestampWithTimeZone;

use crate::error::Result;
use crate::load::compare::SliceKey;
use crate::model::digest::TickSums;
use crate::pg::quality::{Span, TableSums, checked_range, read_as_owner};
use crate::pg::session::guc;

/// Returns the sums of each slice of an asset that has stored ticks, in the order of their buckets.
pub fn stored(
    asset: &str,
    from: TimestampWithTimeZone,
    to: TimestampWithTimeZone,
) -> Result<Vec<(SliceKey, TickSums)>> {
    let span = Span { buckets: checked_range(asset, from, to)?, assets: BTreeSet::from([Arc::from(asset)]) };
    read_as_owner(|client| {
        let mut sums = TableSums::new(guc::limits().memory);
        sums.add(client, &span, &|_| true)?;
        Ok(sums.into_slices().into_iter().collect())
    })
}
