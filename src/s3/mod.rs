//! S3: the client, one object as bytes, listings, and the meaning of S3's answers.

pub mod answer;
pub mod body;
pub mod client;
pub mod clock;
pub mod codes;
pub mod config;
pub mod credentials;
pub mod head;
pub mod listing;
pub mod object;
pub mod pace;
pub mod plan;
pub mod reads;
pub mod stream;
