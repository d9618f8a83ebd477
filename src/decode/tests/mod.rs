//! Tests that write files in memory and read them back.

mod budget;
mod damage;
mod encodings;
mod fuzz;
mod kit;
mod rows;
mod schema;
mod types;
