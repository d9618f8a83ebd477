//! Whether what is stored is what the objects hold.

mod objects;
mod table;
mod ticks;
mod verify;

pub use ticks::Ids;
pub use verify::{Verified, verify, verify_range};
