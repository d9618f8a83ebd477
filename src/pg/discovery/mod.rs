//! Discovery: prefixes that are listed again and again, so that what producers only upload is loaded, too. A watch and all that
//! is known of its listings is one row of `ingestion.stream_offsets`.

mod by_hand;
mod commands;
mod listing;
mod register;
mod rounds;
mod watch;

pub use by_hand::{Found, discover};
pub use commands::{unwatch, watch};
pub use rounds::Rounds;
