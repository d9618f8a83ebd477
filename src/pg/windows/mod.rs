//! Windows: a vector per slice, what followed each of them, and the search for the nearest ones.

mod catalog;
pub mod embed;
pub mod index;
pub mod label;
pub mod nearest;
pub mod offset;
mod read;
pub mod reference;
pub mod rounds;
pub mod state;
pub mod upkeep;
mod write;
