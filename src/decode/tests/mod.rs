//! Files written in memory, read back.

mod budget;
mod damage;
mod encodings;
mod kit;
mod rows;
mod schema;
mod types;
