//! Discovery: watched prefixes are listed again and again, so that objects are loaded that a producer uploads
//! and does not register. A watch is one row of `ingestion.stream_offsets`: its options, and the result of
//! its last listing.

mod by_hand;
mod commands;
mod listing;
mod register;
mod rounds;
mod watch;

pub use by_hand::{Found, discover};
pub use commands::{unwatch, watch};
pub use rounds::Rounds;
