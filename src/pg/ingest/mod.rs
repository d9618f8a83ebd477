//! The processes that load what is registered, with nobody watching: one launcher for the server, and for the database of
//! `btc_ingest.database` one scheduler and its loaders. What is to be done is always read from the tables.

mod fit;
mod keeper;
mod launcher;
mod loader;
mod scheduler;

pub use launcher::launch;
pub use loader::load;
pub use scheduler::schedule;
