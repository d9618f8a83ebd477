//! Requests to the postmaster for background workers.

use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::prelude::*;

use super::ffi;

/// How soon the postmaster restarts a backfill's worker that an error has ended.
const RESTART: Duration = Duration::from_secs(5);
/// How soon the postmaster restarts the launcher. No other process restarts the schedulers and loaders, so
/// this is short.
const RESTART_LAUNCHER: Duration = Duration::from_secs(1);

fn builder(name: &str, kind: &str, function: &str) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new(name)
        .set_type(&format!("btc_ingest {kind}"))
        .set_library("btc_ingest")
        .set_function(function)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
}

/// Registers the launcher. Called from `_PG_init` while `shared_preload_libraries` is loaded.
pub fn register_launcher() {
    builder("btc_ingest launcher", "launcher", "btc_ingest_launcher_main")
        .set_restart_time(Some(RESTART_LAUNCHER))
        .load();
}

/// Asks the postmaster for a database's scheduler. Returns `None` if `max_worker_processes` is reached.
pub fn start_scheduler(database: pg_sys::Oid) -> Option<DynamicBackgroundWorker> {
    builder("btc_ingest scheduler", "scheduler", "btc_ingest_scheduler_main")
        .set_extra(&database.to_u32().to_string())
        .set_notify_pid(ffi::my_pid())
        .load_dynamic()
        .ok()
}

/// Asks the postmaster for a loader in this database. Returns `None` if `max_worker_processes` is reached.
pub fn start_loader(slot: i32) -> Option<DynamicBackgroundWorker> {
    builder(&format!("btc_ingest loader {slot}"), "loader", "btc_ingest_loader_main")
        .set_extra(&format!("{} {slot}", ffi::current_database().to_u32()))
        .set_notify_pid(ffi::my_pid())
        .load_dynamic()
        .ok()
}

/// Asks the postmaster for a worker of a backfill in this database. Returns `None` if
/// `max_worker_processes` is reached.
pub fn start_backfill(backfill: i64, slot: i32) -> Option<DynamicBackgroundWorker> {
    let name = format!("btc_ingest backfill {backfill} worker {slot}");
    builder(&name, "backfill", "btc_ingest_backfill_main")
        .set_extra(&format!("{} {backfill} {slot}", ffi::current_database().to_u32()))
        .set_restart_time(Some(RESTART))
        .load_dynamic()
        .ok()
}

/// Asks the postmaster for a process that refreshes the continuous aggregates over one chunk. Its session's role is
/// `owner`, which must be allowed to log in. `chunk` is the start of the chunk in microseconds since 1970. Returns
/// `None` if `max_worker_processes` is reached.
pub fn start_refresh(owner: pg_sys::Oid, backfill: i64, chunk: i64) -> Option<DynamicBackgroundWorker> {
    builder(&format!("btc_ingest refresh of backfill {backfill}"), "refresh", "btc_ingest_refresh_main")
        .set_extra(&format!("{} {} {backfill} {chunk}", ffi::current_database().to_u32(), owner.to_u32()))
        .set_notify_pid(ffi::my_pid())
        .load_dynamic()
        .ok()
}

/// Asks the postmaster for a process that drops chunks. Returns `None` if `max_worker_processes` is reached.
pub fn start_retention() -> Option<DynamicBackgroundWorker> {
    builder("btc_ingest retention", "retention", "btc_ingest_retention_main")
        .set_extra(&ffi::current_database().to_u32().to_string())
        .set_notify_pid(ffi::my_pid())
        .load_dynamic()
        .ok()
}

/// Asks the postmaster for a process that makes the index on vectors anew. Its session's role is `owner`, which must be
/// allowed to log in. Returns `None` if `max_worker_processes` is reached.
pub fn start_index_upkeep(owner: pg_sys::Oid) -> Option<DynamicBackgroundWorker> {
    builder("btc_ingest upkeep of the index on vectors", "index upkeep", "btc_ingest_index_upkeep_main")
        .set_extra(&format!("{} {}", ffi::current_database().to_u32(), owner.to_u32()))
        .set_notify_pid(ffi::my_pid())
        .load_dynamic()
        .ok()
}

/// Asks the postmaster for a process that refreshes candles. Its session's role is `owner`, which must be allowed to
/// log in. Returns `None` if `max_worker_processes` is reached.
pub fn start_candles(owner: pg_sys::Oid) -> Option<DynamicBackgroundWorker> {
    builder("btc_ingest refresh of candles", "candles", "btc_ingest_candles_main")
        .set_extra(&format!("{} {}", ffi::current_database().to_u32(), owner.to_u32()))
        .set_notify_pid(ffi::my_pid())
        .load_dynamic()
        .ok()
}
