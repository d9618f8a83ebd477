//! Whether what is stored is what the objects hold, and what is missing.

pub mod days;
pub mod gaps;
mod objects;
mod table;
mod ticks;
pub mod verification;
mod verify;

pub use table::{Span, TableSums};
pub use ticks::Ids;
pub use verify::{Verified, checked_range, read_as_owner, verify, verify_range};
