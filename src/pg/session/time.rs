//! Times between the core and PostgreSQL.

use pgrx::datum::TimestampWithTimeZone;

use super::ffi;
use crate::error::{Error, Result};
use crate::model::bucket::POSTGRES_EPOCH_US;

/// Converts microseconds since 1970.
pub fn timestamp(time_us: i64) -> Result<TimestampWithTimeZone> {
    from_postgres_epoch(time_us - POSTGRES_EPOCH_US)
}

/// Returns the current time; within a transaction it goes on.
pub fn now() -> Result<TimestampWithTimeZone> {
    from_postgres_epoch(ffi::now())
}

fn from_postgres_epoch(us: i64) -> Result<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(us)
        .map_err(|_| Error::Internal { why: format!("PostgreSQL has no time {us} microseconds from the year 2000") })
}
