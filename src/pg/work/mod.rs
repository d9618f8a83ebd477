//! Units of work for jobs outside the database: leased by a token, under which results are staged and published once.

pub mod digests;
pub mod units;
