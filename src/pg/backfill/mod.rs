//! Backfills: background workers load everything under some prefixes. They go on when the session that
//! started them has ended.

pub mod aggregates;
mod build;
pub mod commands;
mod compression;
mod cursor;
mod end;
mod fill;
mod list;
mod objects;
mod refused;
pub mod row;
mod spans;
mod staging;
pub mod start;
pub mod survey;
mod units;
pub mod worker;
