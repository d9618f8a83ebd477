//! The only code that knows PostgreSQL. SQL calls the functions of `api`; `session::ffi` has every `unsafe`
//! block of the crate.

/// Includes the text of a statement in `sql/queries`.
macro_rules! statement {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/queries/", $name, ".sql"))
    };
}

pub mod api;
mod backfill;
mod candles;
mod discovery;
mod doctor;
mod listing;
mod load;
mod quality;
mod queue;
mod retention;
mod series;
mod session;
#[cfg(any(test, feature = "pg_test"))]
mod tests;
mod windows;
mod work;
mod workers;

use pgrx::prelude::*;

use session::{ffi, guc, processes};

// The files that CREATE EXTENSION runs, in this order.
extension_sql_file!("../../sql/bootstrap.sql", name = "bootstrap", bootstrap);
extension_sql_file!("../../sql/tables.sql", name = "tables", requires = ["bootstrap"]);
extension_sql_file!("../../sql/tick_type.sql", name = "tick_type", requires = ["tables"]);
extension_sql_file!("../../sql/adopt.sql", name = "adopt", requires = ["tick_type"]);
extension_sql_file!("../../sql/indexes.sql", name = "indexes", requires = ["adopt"]);
extension_sql_file!("../../sql/id_sets.sql", name = "id_sets", requires = ["indexes"]);
extension_sql_file!("../../sql/migrate.sql", name = "migrate", requires = ["id_sets"]);
extension_sql_file!("../../sql/locks.sql", name = "locks", requires = ["migrate"]);
extension_sql_file!("../../sql/load.sql", name = "load", requires = ["locks"]);
extension_sql_file!("../../sql/chunks.sql", name = "chunks", requires = ["load"]);
extension_sql_file!("../../sql/backfill.sql", name = "backfill", requires = ["chunks"]);
extension_sql_file!("../../sql/queue.sql", name = "queue", requires = ["backfill"]);
extension_sql_file!("../../sql/status.sql", name = "status", requires = ["queue"]);
extension_sql_file!("../../sql/discover.sql", name = "discover", requires = ["status"]);
extension_sql_file!("../../sql/quality.sql", name = "quality", requires = ["discover"]);
extension_sql_file!("../../sql/ledger.sql", name = "ledger", requires = ["quality"]);
extension_sql_file!("../../sql/slices.sql", name = "slices", requires = ["ledger"]);
extension_sql_file!("../../sql/answers.sql", name = "answers", requires = ["slices"]);
extension_sql_file!("../../sql/candles.sql", name = "candles", requires = ["answers"]);
extension_sql_file!("../../sql/series.sql", name = "series", requires = ["candles"]);
extension_sql_file!("../../sql/retention.sql", name = "retention", requires = ["series"]);
extension_sql_file!("../../sql/windows.sql", name = "windows", requires = ["retention"]);
extension_sql_file!("../../sql/work.sql", name = "work", requires = ["windows"]);
extension_sql_file!("../../sql/settings.sql", name = "settings", requires = ["work"]);
extension_sql_file!("../../sql/install.sql", name = "install", finalize);

/// PostgreSQL calls this once when it loads the library, for a backend's first call or by `shared_preload_libraries`.
#[pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    guc::register();
    if ffi::is_preloading() {
        ffi::request_shared_memory();
        ffi::watch_databases();
        if !ffi::is_upgrading() {
            processes::register_launcher();
        }
    }
}
