//! The 5-minute bucket, and the epochs of Unix and PostgreSQL.

/// Microseconds in a bucket.
pub const BUCKET_US: i64 = 300_000_000;

/// Microseconds from the Unix epoch (1970) to PostgreSQL's (2000).
pub const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The smallest time that PostgreSQL can hold (4714-11-24 BC), in microseconds since 1970.
pub const MIN_TIME_US: i64 = -211_813_488_000_000_000 + POSTGRES_EPOCH_US;

/// The first time that is too late for a TimescaleDB chunk (294247-01-01 AD), in microseconds since 1970.
pub const END_TIME_US: i64 = 9_223_371_331_200_000_000 - POSTGRES_EPOCH_US;

/// Returns the bucket of a time: its 5-minute floor in UTC. Both are in microseconds since 1970.
#[inline]
pub fn bucket_of(time_us: i64) -> i64 {
    time_us - time_us.rem_euclid(BUCKET_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_the_floor_of_five_minutes_before_and_after_1970() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(BUCKET_US - 1), 0);
        assert_eq!(bucket_of(BUCKET_US), BUCKET_US);
        assert_eq!(bucket_of(-1), -BUCKET_US);
    }
}
