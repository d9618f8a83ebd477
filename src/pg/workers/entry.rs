//! What the postmaster calls in a background worker's process.

use std::path::Path;

use pgrx::bgworkers::BackgroundWorker;
use pgrx::prelude::*;

use super::{launcher, loader, scheduler};
use crate::pg::backfill;
use crate::pg::session::ffi;

/// Whether a database's files are there. Connecting to one that was dropped would be an error, and that worker started again
/// for ever.
fn database_exists(oid: i64) -> bool {
    // A server process runs in the data directory.
    let directories = |path: &Path| path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    Path::new("base").join(oid.to_string()).exists()
        || directories(Path::new("pg_tblspc"))
            .flat_map(|tablespace| directories(&tablespace).collect::<Vec<_>>())
            .any(|version| version.join(oid.to_string()).exists())
}

/// Makes this process a worker in the database that its orders begin with; the rest of them, or nothing: it is gone.
fn begin() -> Option<Vec<i64>> {
    let mut orders: Vec<i64> = BackgroundWorker::get_extra().split(' ').filter_map(|part| part.parse().ok()).collect();
    let database = *orders.first().filter(|database| database_exists(**database))?;
    ffi::become_worker(ffi::Database::Oid(pg_sys::Oid::from(database as u32)));
    orders.remove(0);
    Some(orders)
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_launcher_main(_arg: pg_sys::Datum) {
    ffi::become_worker(ffi::Database::None);
    launcher::run();
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_scheduler_main(_arg: pg_sys::Datum) {
    if begin().is_some() {
        scheduler::run();
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_loader_main(_arg: pg_sys::Datum) {
    if let Some([slot]) = begin().as_deref() {
        loader::run(*slot as i32);
        ffi::end_if_asked();
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_backfill_main(_arg: pg_sys::Datum) {
    if let Some([backfill, slot]) = begin().as_deref() {
        backfill::worker::run(*backfill, *slot as i32);
        ffi::end_if_asked();
    }
}
