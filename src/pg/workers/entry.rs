//! The main functions of the background workers. The postmaster calls them by name in the new process.

use std::path::Path;

use pgrx::bgworkers::BackgroundWorker;
use pgrx::prelude::*;

use super::{launcher, loader, scheduler};
use crate::pg::backfill;
use crate::pg::candles;
use crate::pg::retention;
use crate::pg::session::ffi;
use crate::pg::windows;

/// Returns whether the files of a database exist. A worker that connected to a dropped database would fail,
/// and the postmaster would start it again without end.
fn database_exists(oid: i64) -> bool {
    // The working directory of a server process is the data directory.
    let directories = |path: &Path| path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    Path::new("base").join(oid.to_string()).exists()
        || directories(Path::new("pg_tblspc"))
            .flat_map(|tablespace| directories(&tablespace).collect::<Vec<_>>())
            .any(|version| version.join(oid.to_string()).exists())
}

/// The arguments of this process, as `session/processes.rs` passes them.
fn arguments() -> Vec<i64> {
    BackgroundWorker::get_extra().split(' ').filter_map(|part| part.parse().ok()).collect()
}

/// Connects this process to the database whose oid is the first of its arguments (`session/processes.rs`).
/// Returns the other arguments, or `None` if the database was dropped.
fn connect_to_database() -> Option<Vec<i64>> {
    let mut args = arguments();
    let database = *args.first().filter(|database| database_exists(**database))?;
    ffi::become_worker(ffi::Database::Oid(pg_sys::Oid::from(database as u32)));
    args.remove(0);
    Some(args)
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
    if connect_to_database().is_some() {
        scheduler::run();
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_loader_main(_arg: pg_sys::Datum) {
    if let Some([slot]) = connect_to_database().as_deref() {
        loader::run(*slot as i32);
        ffi::end_if_asked();
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_backfill_main(_arg: pg_sys::Datum) {
    if let Some([backfill, slot]) = connect_to_database().as_deref() {
        backfill::worker::run(*backfill, *slot as i32);
        ffi::end_if_asked();
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_refresh_main(_arg: pg_sys::Datum) {
    if let [database, role, backfill, chunk] = arguments()[..]
        && database_exists(database)
    {
        let oid = |number: i64| pg_sys::Oid::from(number as u32);
        ffi::become_worker(ffi::Database::AsRole(oid(database), oid(role)));
        backfill::aggregates::refresh_as_owner(backfill, chunk);
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_candles_main(_arg: pg_sys::Datum) {
    if let [database, role] = arguments()[..]
        && database_exists(database)
    {
        let oid = |number: i64| pg_sys::Oid::from(number as u32);
        ffi::become_worker(ffi::Database::AsRole(oid(database), oid(role)));
        candles::refresh::run();
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_index_upkeep_main(_arg: pg_sys::Datum) {
    if let [database, role] = arguments()[..]
        && database_exists(database)
    {
        let oid = |number: i64| pg_sys::Oid::from(number as u32);
        ffi::become_worker(ffi::Database::AsRole(oid(database), oid(role)));
        windows::upkeep::run();
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_retention_main(_arg: pg_sys::Datum) {
    if connect_to_database().is_some() {
        retention::run::run();
        ffi::end_if_asked();
    }
}
