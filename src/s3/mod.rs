//! S3: how to reach it, one object as bytes, and what its answers mean.

pub mod answer;
pub mod client;
pub mod clock;
pub mod listing;
pub mod object;
pub mod stream;
