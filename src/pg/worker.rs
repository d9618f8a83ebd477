//! Background workers: how they are started, what each process does first, and their transactions.

use std::path::Path;
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::target::Target;
use super::{backfill, ffi, ingest};
use crate::error::Result;

/// How soon the postmaster starts a backfill's worker again that an error has ended.
const RESTART: Duration = Duration::from_secs(5);
/// The same for the launcher, which is all that brings the others back.
const RESTART_LAUNCHER: Duration = Duration::from_secs(1);

/// Runs `work` in a transaction of its own, with the rights of the tables' owner: whatever hangs on the tables gains nothing
/// by a worker. An error unwinds as PostgreSQL's do, to [`ffi::survive`].
pub fn tx<T>(work: impl FnOnce(&mut SpiClient<'_>) -> Result<T>) -> T {
    tx_with_all_rights(|client| {
        let target = Target::check(client)?;
        let _owner = target.become_owner();
        work(client)
    })
}

/// The same with a superuser's rights, for what no owner may do. Nothing of the tables' own may run in it.
pub fn tx_with_all_rights<T>(work: impl FnOnce(&mut SpiClient<'_>) -> Result<T>) -> T {
    ffi::transaction(|| match Spi::connect_mut(|client| work(client)) {
        Ok(value) => value,
        Err(error) => pgrx::error!("{error}"),
    })
}

fn builder(name: &str, kind: &str, function: &str) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new(name)
        .set_type(&format!("btc_ingest {kind}"))
        .set_library("btc_ingest")
        .set_function(function)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
}

/// Registers the process that keeps all others. From `_PG_init`, preloaded.
pub fn register_launcher() {
    builder("btc_ingest launcher", "launcher", "btc_ingest_launcher_main")
        .set_restart_time(Some(RESTART_LAUNCHER))
        .load();
}

/// Asks the postmaster for a database's scheduler; `None`: it has no room for one.
pub fn start_scheduler(database: pg_sys::Oid) -> Option<DynamicBackgroundWorker> {
    builder("btc_ingest scheduler", "scheduler", "btc_ingest_scheduler_main")
        .set_extra(&database.to_u32().to_string())
        .set_notify_pid(ffi::my_pid())
        .load_dynamic()
        .ok()
}

/// Asks the postmaster for a loader in this database; `None`: it has no room for one.
pub fn start_loader(slot: i32) -> Option<DynamicBackgroundWorker> {
    builder(&format!("btc_ingest loader {slot}"), "loader", "btc_ingest_loader_main")
        .set_extra(&format!("{} {slot}", ffi::current_database().to_u32()))
        .set_notify_pid(ffi::my_pid())
        .load_dynamic()
        .ok()
}

/// Asks the postmaster for a worker of a backfill in this database; `None`: it has no room for one.
pub fn start_backfill(backfill: i64, slot: i32) -> Option<DynamicBackgroundWorker> {
    let name = format!("btc_ingest backfill {backfill} worker {slot}");
    builder(&name, "backfill", "btc_ingest_backfill_main")
        .set_extra(&format!("{} {backfill} {slot}", ffi::current_database().to_u32()))
        .set_restart_time(Some(RESTART))
        .load_dynamic()
        .ok()
}

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
    ingest::launch();
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_scheduler_main(_arg: pg_sys::Datum) {
    if begin().is_some() {
        ingest::schedule();
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_loader_main(_arg: pg_sys::Datum) {
    if let Some([slot]) = begin().as_deref() {
        ingest::load(*slot as i32);
        ffi::end_if_asked();
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_backfill_main(_arg: pg_sys::Datum) {
    if let Some([backfill, slot]) = begin().as_deref() {
        backfill::work(*backfill, *slot as i32);
        ffi::end_if_asked();
    }
}
