//! The background workers that load registered objects: one launcher for the server, one scheduler for the
//! database of `btc_ingest.database`, and its loaders. Each turn reads from the tables what is to be done.

mod compatibility;
mod entry;
mod launcher;
mod loader;
mod scheduler;
mod supervisor;
