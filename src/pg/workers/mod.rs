//! The background processes that load what is registered: one launcher for the server, and one scheduler and its loaders for
//! the database of `btc_ingest.database`. Each turn reads from the tables what is to be done.

mod compatibility;
mod entry;
mod launcher;
mod loader;
mod scheduler;
mod supervisor;
