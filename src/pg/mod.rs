//! The only code that knows PostgreSQL. `api` is what SQL calls; `ffi` holds every `unsafe` block of the crate.

pub mod api;
mod backfill;
mod chunk;
mod discovery;
mod doctor;
mod ffi;
mod guc;
mod ingest;
mod inspect;
mod listing;
mod loader;
mod probe;
mod queue;
mod register;
mod registry;
mod report;
mod shared;
mod sink;
mod spi;
mod target;
#[cfg(any(test, feature = "pg_test"))]
mod tests;
mod worker;

use pgrx::prelude::*;

// What CREATE EXTENSION runs, in this order.
extension_sql_file!("../../sql/bootstrap.sql", name = "bootstrap", bootstrap);
extension_sql_file!("../../sql/adopt.sql", name = "adopt", requires = ["bootstrap"]);
extension_sql_file!("../../sql/indexes.sql", name = "indexes", requires = ["adopt"]);
extension_sql_file!("../../sql/migrate.sql", name = "migrate", requires = ["indexes"]);
extension_sql_file!("../../sql/functions.sql", name = "functions", requires = ["migrate"]);
extension_sql_file!("../../sql/chunks.sql", name = "chunks", requires = ["functions"]);
extension_sql_file!("../../sql/backfill.sql", name = "backfill", requires = ["chunks"]);
extension_sql_file!("../../sql/ingest.sql", name = "ingest", requires = ["backfill"]);
extension_sql_file!("../../sql/status.sql", name = "status", requires = ["ingest"]);
extension_sql_file!("../../sql/discover.sql", name = "discover", requires = ["status"]);
extension_sql_file!("../../sql/install.sql", name = "install", finalize);

/// The schema version that this library's SQL is written for; `migrate()` brings the tables to it.
pub const SCHEMA_VERSION: i32 = 3;

/// Called once when the library is loaded, by a backend's first call or by `shared_preload_libraries`.
#[pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    guc::register();
    if ffi::is_preloading() {
        ffi::request_shared_memory();
        ffi::watch_databases();
        if !ffi::is_upgrading() {
            worker::register_launcher();
        }
    }
}
