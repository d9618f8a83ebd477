//! Times of the core as PostgreSQL's, and back.

use pgrx::datum::TimestampWithTimeZone;

use super::ffi;
use crate::error::{Error, Result};
use crate::model::bucket::POSTGRES_EPOCH_US;

/// Converts microseconds since 1970 to PostgreSQL's type.
pub fn timestamp(time_us: i64) -> Result<TimestampWithTimeZone> {
    from_postgres_epoch(time_us - POSTGRES_EPOCH_US)
}

/// Returns the current time of the clock, not that of the transaction's start.
pub fn now() -> Result<TimestampWithTimeZone> {
    from_postgres_epoch(ffi::now())
}

fn from_postgres_epoch(us: i64) -> Result<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(us)
        .map_err(|_| Error::Internal { why: format!("PostgreSQL has no time {us} microseconds from the year 2000") })
}
