//! Background workers: how one is started, what its process does first, and the loop that an unfinished backfill needs after
//! the server was restarted.

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::path::Path;
use std::time::Duration;

use super::target::Target;
use super::{backfill, ffi, guc};
use crate::error::Result;

/// How soon the postmaster starts a worker again that an error has ended.
const RESTART: Duration = Duration::from_secs(5);

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

/// Asks the postmaster for a worker of a backfill in this database; `false`: it has no room for one.
pub fn start_backfill(backfill: i64, slot: i32) -> bool {
    let database = ffi::current_database();
    BackgroundWorkerBuilder::new(&format!("btc_ingest backfill {backfill} worker {slot}"))
        .set_type("btc_ingest backfill")
        .set_library("btc_ingest")
        .set_function("btc_ingest_backfill_main")
        .set_extra(&format!("{} {backfill} {slot}", database.to_u32()))
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(RESTART))
        .load_dynamic()
        .is_ok()
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

/// Registers the worker that goes on with unfinished backfills after a start or a promotion. From `_PG_init`, preloaded.
pub fn register_resumer() {
    BackgroundWorkerBuilder::new("btc_ingest resumer")
        .set_type("btc_ingest resumer")
        .set_library("btc_ingest")
        .set_function("btc_ingest_resume_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .load();
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_backfill_main(_arg: pg_sys::Datum) {
    let extra: Vec<i64> = BackgroundWorker::get_extra().split(' ').filter_map(|part| part.parse().ok()).collect();
    if let [database, backfill, slot] = extra[..]
        && database_exists(database)
    {
        ffi::become_worker(ffi::Database::Oid(pg_sys::Oid::from(database as u32)));
        backfill::work(backfill, slot as i32);
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
#[allow(unsafe_code, missing_docs)]
pub extern "C-unwind" fn btc_ingest_resume_main(_arg: pg_sys::Datum) {
    let Some(name) = guc::database() else { return };
    ffi::become_worker(ffi::Database::Name(&name));
    for (backfill, parallel) in tx_with_all_rights(backfill::unfinished) {
        for slot in 0..parallel {
            start_backfill(backfill, slot);
        }
    }
}
