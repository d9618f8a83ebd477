//! Backfills: everything under some prefixes is loaded by workers, which go on when the session that started them has ended.

mod aggregates;
mod build;
pub mod commands;
mod compression;
mod end;
mod fill;
mod list;
mod objects;
mod queue;
pub mod row;
mod spans;
mod stage;
pub mod start;
pub mod survey;
mod units;
pub mod worker;
