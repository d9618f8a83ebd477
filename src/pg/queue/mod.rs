//! Objects on their way into the tables, whoever loads them: what is due, who has claimed it, what became of an attempt.

pub mod attempt;
pub mod claim;
pub mod control;
pub mod feed;
pub mod live;
pub mod loading;
mod series;
pub mod sweep;
pub mod verbs;

pub use series::Series;
