//! A slice as a vector: 256 numbers that describe how a market traded in five minutes, at any price and in any unit of
//! volume.
//!
//! A [`WindowBuilder`] takes the trades of a slice in the order of time and keeps sums of fixed size, so that a slice
//! may have any number of trades. Each block of the vector has a file of its own, which gives formula and source of
//! each index. The formulas are those of the papers that the files name.

mod counts;
mod dynamics;
mod flow;
mod grid;
mod histogram;
pub mod labels;
mod path;
mod quantiles;
mod search;
mod shapes;
mod stats;
mod trade;
mod trading;
mod vector;
mod volatility;

#[cfg(test)]
mod planted;
#[cfg(test)]
mod tests;

pub use search::hnsw_candidates;
pub use trade::Trade;
pub use vector::{DIMENSIONS, FEATURE_VERSION, Window, WindowBuilder, window_of};
