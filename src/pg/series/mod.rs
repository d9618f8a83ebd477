//! Ticks of one symbol in the order of time, read once from the first to the last: prices as of times, prices after
//! trades, and bars. The functions run with the privileges of their caller and in the snapshot of its statement.

pub mod bars;
pub mod markouts;
pub mod prices;
mod read;
