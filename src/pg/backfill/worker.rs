//! A worker of a backfill. All workers run the same loop: one of them lists the prefixes, then all load. Each
//! turn reads from the tables what comes next, so that a crash loses nothing.

use std::time::Duration;

use pgrx::spi::SpiClient;

use super::objects::{ObjectWorker, Scope};
use super::row::Backfill;
use super::{aggregates, build, compression, end, list, spans, units};
use crate::error::verdict::Verdict;
use crate::error::{Error, Result};
use crate::model::backfill::BackfillStatus;
use crate::pg::queue::live;
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::locks::{self, Lock};
use crate::pg::session::shared::{Presence, Role};
use crate::pg::session::tx::tx;
use crate::pg::session::{guc, lock_waits, report, spi};

/// How long a worker sleeps if it has found nothing to do.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long a worker sleeps while `pause_ingest()` is in force.
const PAUSED: Duration = Duration::from_secs(1);

/// Runs a worker until its backfill has ended or the process must end.
pub fn run(id: i64, slot: i32) {
    if !take_slot(id, slot) {
        return;
    }
    let _presence = Presence::enter(Role::Backfill);
    lock_waits::limit_in_unit_process();
    ffi::end_in_order();
    let mut objects = ObjectWorker::new(id, slot);
    while !ffi::is_ending() {
        ffi::reload_settings();
        let goes_on = match ffi::survive(|| turn(id, &mut objects)) {
            Ok(goes_on) => goes_on,
            Err(_) if ffi::is_ending() => false,
            Err(failure) => recover(id, slot, &mut objects, &failure),
        };
        if !goes_on {
            break;
        }
    }
    objects.loading.end();
    ffi::show_activity(None);
}

/// Cleans up after a failure that no object's load has caught, for example at a commit. Returns whether the
/// worker goes on.
fn recover(id: i64, slot: i32, objects: &mut ObjectWorker, failure: &Failure) -> bool {
    log(id, failure);
    if failure.verdict() == Verdict::Permanent {
        let _ = ffi::survive(|| end::stop(id, failure));
        return false;
    }
    let _ = ffi::survive(|| end::note(id, failure));
    let _ = ffi::survive(|| objects.loading.fail_current(failure));
    let _ = ffi::survive(|| objects.loading.release_all());
    // The failure may have left other locks, so the session releases all its locks, also that of its slot.
    // Another process may take the slot then.
    locks::release_all();
    objects.loading.forget();
    let kept = take_slot(id, slot);
    if kept {
        pause_after_failure();
    }
    kept
}

/// Takes the worker's slot until the process ends, so that one process runs per slot. After a failure that
/// may pass it tries again. Returns `false` if another process has the slot, or after a permanent failure.
fn take_slot(backfill: i64, slot: i32) -> bool {
    while !ffi::is_ending() {
        match ffi::survive(|| tx(|client| try_slot(client, backfill, slot))) {
            Ok(taken) => return taken,
            Err(failure) => {
                log(backfill, &failure);
                if failure.verdict() == Verdict::Permanent {
                    return false;
                }
                pause_after_failure();
            }
        }
    }
    false
}

fn log(id: i64, failure: &Failure) {
    let (sqlstate, message) = failure.sqlstate_and_message();
    report::log(&format!("btc_ingest backfill {id}: {message} ({sqlstate})"));
}

fn pause_after_failure() {
    ffi::idle(Duration::from_millis(guc::retry().backoff_ms as u64));
}

/// Does one turn. Returns `false` if the backfill has ended.
fn turn(id: i64, objects: &mut ObjectWorker) -> Result<bool> {
    let backfill = match tx(|client| Backfill::read(client, id))? {
        Some(backfill) if backfill.status.is_running() => backfill,
        _ => return Ok(false),
    };
    if !objects.loading.has_place()? {
        return Ok(false);
    }
    if backfill.paused {
        objects.loading.release_all()?;
        ffi::show_activity(Some("paused"));
        ffi::idle(PAUSED);
        return Ok(true);
    }
    match step(&backfill, objects) {
        Ok(()) => Ok(true),
        Err(error) if error.verdict() == Verdict::Permanent && !may_pass(id, &error)? => {
            end::stop(id, &error.into())?;
            Ok(false)
        }
        Err(error) => {
            // The worker tries again what has failed: a page of the listing, a footer, an object.
            let failure = error.into();
            end::note(id, &failure)?;
            objects.loading.fail_current(&failure)?;
            objects.loading.release_all()?;
            pause_after_failure();
            Ok(true)
        }
    }
}

/// Returns whether a failure that is permanent for an object is one that S3, or what leads to it, recovers from: the
/// prefix could be listed before. At the first listing, a wrong name or a missing privilege is more likely.
fn may_pass(id: i64, error: &Error) -> Result<bool> {
    Ok(error.may_be_outage()
        && tx(|client| Backfill::read(client, id))?
            .is_some_and(|backfill| backfill.status != BackfillStatus::Loading && backfill.has_listed()))
}

/// Does the next piece of work.
fn step(backfill: &Backfill, objects: &mut ObjectWorker) -> Result<()> {
    if backfill.status != BackfillStatus::Loading {
        return step_while_listing(backfill, objects);
    }
    if backfill.by_chunks() {
        // Live objects come first, so that they wait for one unit at most.
        while objects.work(backfill, Scope::Live)? {}
        if backfill.waits_for_s3 {
            return wait_for_s3(backfill, objects, Scope::Live);
        }
        // An object that has failed in an outage belongs to its chunk again.
        tx(|client| live::retry_due(client, Some(backfill.id)))?;
        match units::next(backfill)? {
            units::Next::Unit(unit) => return build_chunk(backfill, objects.slot, unit),
            units::Next::Wait => return wait(),
            units::Next::Over => {}
        }
    }
    if objects.work(backfill, Scope::All)? || aggregates::refresh_next()? || end::finish(backfill)? {
        return Ok(());
    }
    wait()
}

/// Lists the prefixes. While another worker lists them, loads what is listed already.
fn step_while_listing(backfill: &Backfill, objects: &mut ObjectWorker) -> Result<()> {
    if backfill.waits_for_s3 {
        return wait_for_s3(backfill, objects, if backfill.needs_times() { Scope::Live } else { Scope::All });
    }
    if prepare(backfill)? {
        return Ok(());
    }
    let scope = if backfill.lists_first() { Scope::Live } else { Scope::All };
    if objects.work(backfill, scope)? { Ok(()) } else { wait() }
}

/// Prepares the loads: lists the prefixes, reads footers, plans units. Returns `false` if another worker does
/// that.
fn prepare(backfill: &Backfill) -> Result<bool> {
    let lock = Lock::Preparation(backfill.id);
    if !tx(|_| Ok(lock.try_for_session()))? {
        return Ok(false);
    }
    let result = prepare_locked(backfill.id);
    lock.release();
    result.map(|()| true)
}

fn prepare_locked(id: i64) -> Result<()> {
    let read_active = || tx(|client| Backfill::read(client, id)).map(|found| found.filter(Backfill::is_active));
    // Another worker may have prepared the loads before this one got the lock.
    let Some(backfill) = read_active()?.filter(|backfill| backfill.status != BackfillStatus::Loading) else {
        return Ok(());
    };
    if backfill.status == BackfillStatus::Pending {
        compression::pause(id)?;
        set_status(id, BackfillStatus::Listing)?;
    }
    if !list::list(&backfill)? {
        return Ok(());
    }
    // An object that has failed in an outage may have no times yet.
    tx(|client| live::retry_due(client, Some(id)))?;
    while backfill.needs_times() && spans::read_some(&backfill)? {
        if read_active()?.is_none_or(|backfill| backfill.waits_for_s3) {
            return Ok(());
        }
    }
    if backfill.by_chunks() {
        units::plan(&backfill)?;
    }
    set_status(id, BackfillStatus::Loading)
}

fn set_status(id: i64, status: BackfillStatus) -> Result<()> {
    let sql = "UPDATE ingestion.backfills SET status = $2, sqlstate = NULL, message = NULL
                WHERE id = $1 AND status IN ('pending', 'listing')";
    tx(|client| spi::execute_kept(client, sql, &[id.into(), status.to_string().into()]).map(drop))
}

/// Builds one chunk, then analyzes it, refreshes continuous aggregates and compresses a finished chunk.
fn build_chunk(backfill: &Backfill, slot: i32, unit: units::Unit) -> Result<()> {
    match build::work(backfill, slot, unit)? {
        build::Outcome::Done(chunk) => {
            chunk.map_or(Ok(()), build::analyze)?;
            aggregates::refresh_next()?;
            // The compression of a chunk may take minutes, and no signal interrupts a process that is ending.
            if !ffi::is_ending() {
                compression::compress_next(backfill)?;
            }
        }
        build::Outcome::Later(failure) => {
            end::note(backfill.id, &failure)?;
            pause_after_failure();
        }
        build::Outcome::OutOfResources(failure) => end::stop(backfill.id, &failure)?,
        build::Outcome::Outage | build::Outcome::Lost => {}
    }
    Ok(())
}

/// Loads what does not wait for S3.
fn wait_for_s3(backfill: &Backfill, objects: &mut ObjectWorker, scope: Scope) -> Result<()> {
    if !objects.work(backfill, scope)? {
        ffi::show_activity(Some("waiting for S3"));
        ffi::idle(LOOK_AGAIN);
    }
    Ok(())
}

fn wait() -> Result<()> {
    ffi::show_activity(Some("waiting for the other workers"));
    ffi::idle(LOOK_AGAIN);
    Ok(())
}

/// Takes the worker's slot and shows this process in its row. Returns `false` if another process has the
/// slot.
fn try_slot(client: &mut SpiClient<'_>, backfill: i64, slot: i32) -> Result<bool> {
    if !(Lock::BackfillWorker { backfill, slot }).try_for_session() {
        return Ok(false);
    }
    spi::execute_kept(client, statement!("backfill_worker_begin"), &[backfill.into(), slot.into()])?;
    Ok(true)
}
