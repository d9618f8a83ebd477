//! A backfill: whole prefixes, by workers that need nobody to watch them. Each worker runs the same loop; whoever comes first
//! lists, then all load. What is to be done next is always read from the tables, so that a crash loses nothing.

mod aggregates;
mod chunks;
mod compression;
mod list;
mod queue;
mod slices;
mod spans;
mod stage;
mod start;
mod survey;
mod verbs;

use std::time::Duration;

use pgrx::spi::SpiClient;
use serde_json::Value;

use super::listing::within;
use super::queue::attempt::may_pass;
use super::shared::{Presence, Role};
use super::target::Target;
use super::worker::{tx, tx_with_all_rights};
use super::{ffi, guc, report, spi};
use crate::error::{Error, Result};
use crate::model::pattern::KeyPattern;
use queue::Whose;
use slices::SliceWorker;

pub use start::{Plan, slots, start, start_workers};
pub use survey::survey;
pub use verbs::{cancel, set_paused};

/// How long a worker waits before it looks again, where it has nothing to do.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// The same while everything is paused.
const PAUSED: Duration = Duration::from_secs(1);

/// A backfill as its row describes it.
pub struct Backfill {
    id: i64,
    status: String,
    mode: String,
    prefixes: Vec<KeyPattern>,
    parallel: i32,
    /// Microseconds since 1970.
    from: Option<i64>,
    to: Option<i64>,
    state: Value,
    paused: bool,
    /// Of the hypertable's chunks, microseconds.
    interval: i64,
}

impl Backfill {
    /// Reads the row; `None`: there is none (any more).
    fn read(client: &mut SpiClient<'_>, id: i64) -> Result<Option<Backfill>> {
        let found = spi::json_kept(client, include_str!("../../../sql/queries/backfill_state.sql"), &[id.into()])?;
        if found.is_null() {
            return Ok(None);
        }
        let prefixes = found["prefixes"].as_array().into_iter().flatten();
        let time = |key: &str| found[key].as_f64().map(|us| us as i64);
        Ok(Some(Backfill {
            id,
            status: found["status"].as_str().unwrap_or_default().to_owned(),
            mode: found["mode"].as_str().unwrap_or_default().to_owned(),
            prefixes: prefixes.map(|text| text.as_str().unwrap_or_default().parse()).collect::<Result<_>>()?,
            parallel: found["parallel"].as_i64().unwrap_or(1) as i32,
            from: time("from"),
            to: time("to"),
            state: found["state"].clone(),
            paused: found["paused"] == true,
            interval: found["interval"].as_i64().unwrap_or(604_800_000_000),
        }))
    }

    fn by_chunks(&self) -> bool {
        self.mode == "chunk"
    }

    fn is_at_work(&self) -> bool {
        self.is_running() && !self.paused
    }

    fn is_running(&self) -> bool {
        matches!(self.status.as_str(), "pending" | "listing" | "loading")
    }

    /// Whether an object that can hold these times belongs to the backfill.
    fn wants(&self, first: i64, end: i64) -> bool {
        within(self.from, self.to, first, end)
    }
}

/// Unfinished backfills.
pub fn unfinished(client: &mut SpiClient<'_>) -> Result<Vec<i64>> {
    let target = Target::check(client)?;
    let _owner = target.become_owner();
    let sql = "SELECT coalesce(json_agg(id), '[]')::text FROM ingestion.backfills
                WHERE status IN ('pending', 'listing', 'loading')";
    let found = spi::json_kept(client, sql, &[])?;
    Ok(found.as_array().into_iter().flatten().filter_map(serde_json::Value::as_i64).collect())
}

/// The life of one worker.
pub fn work(id: i64, slot: i32) {
    if !tx(|client| take_slot(client, id, slot)) {
        return;
    }
    let _presence = Presence::enter(Role::Backfill);
    ffi::end_in_order();
    let mut slices = SliceWorker::new(slot);
    while !ffi::is_ending() {
        ffi::reload_settings();
        match ffi::survive(|| turn(id, &mut slices)) {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) if ffi::is_ending() => break,
            Err(failure) => {
                // Whatever it was, it may pass; a person sees it in the status.
                let words = failure.words();
                report::log(&format!("btc_ingest backfill {id}: {} ({})", words.1, words.0));
                if !may_pass(&words.0) {
                    let _ = ffi::survive(|| stop_with(id, &words.0, &words.1));
                    break;
                }
                let _ = ffi::survive(|| note(id, &words.0, &words.1));
                let _ = ffi::survive(|| slices.fail_in_work(&failure));
                let _ = ffi::survive(|| slices.give_back());
                // What the error has left locked; the slot may have gone to another process then.
                let kept = ffi::survive(|| {
                    tx(|client| {
                        spi::execute_kept(client, "SELECT pg_advisory_unlock_all()", &[])?;
                        take_slot(client, id, slot)
                    })
                });
                slices.forget();
                if matches!(kept, Ok(false)) {
                    break;
                }
                ffi::idle(Duration::from_millis(guc::retry().backoff_ms as u64));
            }
        }
    }
    slices.end();
    ffi::show_activity(None);
}

/// One turn of the loop. `false`: the backfill has ended.
fn turn(id: i64, slices: &mut SliceWorker) -> bool {
    let backfill = match tx(|client| Ok(Backfill::read(client, id))) {
        Ok(Some(backfill)) if backfill.is_running() => backfill,
        Ok(_) => return false,
        Err(error) => {
            stop(id, &error);
            return false;
        }
    };
    if backfill.paused {
        slices.give_back();
        ffi::show_activity(Some("paused"));
        ffi::idle(PAUSED);
    } else if let Err(error) = step(&backfill, slices) {
        if !error.is_transient() {
            stop(id, &error);
            return false;
        }
        // Nothing but time mends this; the object or page that it struck is tried again.
        note(id, error.sqlstate(), &error.to_string());
        ffi::idle(Duration::from_millis(guc::retry().backoff_ms as u64));
    }
    true
}

/// The next piece of work, whatever it is.
fn step(backfill: &Backfill, slices: &mut SliceWorker) -> Result<()> {
    if backfill.status != "loading" {
        if prepare(backfill)? {
            return Ok(());
        }
        // Slices need not wait for the end of the listing; whole chunks do, and so does what must be judged by its times.
        let may_begin = !backfill.by_chunks() && backfill.from.is_none() && backfill.to.is_none();
        if slices.work(backfill, if may_begin { Whose::All } else { Whose::Live })? {
            return Ok(());
        }
        return wait();
    }
    if backfill.by_chunks() {
        // A live slice waits for the unit in work at most.
        while slices.work(backfill, Whose::Live)? {}
        match chunks::next(backfill) {
            chunks::Next::Unit(unit) => return chunk(backfill, slices, unit),
            chunks::Next::Wait => return wait(),
            chunks::Next::Over => {}
        }
    }
    if slices.work(backfill, Whose::All)? || aggregates::refresh_next() || finish(backfill) {
        return Ok(());
    }
    wait()
}

/// What comes before the loading, by one worker at a time. `false`: another one is at it.
fn prepare(backfill: &Backfill) -> Result<bool> {
    let lock = format!("btc_ingest.lister:{}", backfill.id);
    let locked = tx(|client| {
        let sql = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))::text";
        Ok(spi::json_kept(client, sql, &[lock.clone().into()])? == true)
    });
    if !locked {
        return Ok(false);
    }
    let result = prepare_locked(backfill.id);
    tx(|client| spi::execute_kept(client, "SELECT pg_advisory_unlock(hashtextextended($1, 0))", &[lock.into()]));
    result.map(|()| true)
}

fn prepare_locked(id: i64) -> Result<()> {
    // Another worker may have done it between the look at the row and the lock.
    let again = || tx(|client| Ok(Backfill::read(client, id))).map(|found| found.filter(Backfill::is_at_work));
    let Some(backfill) = again()?.filter(|backfill| backfill.status != "loading") else { return Ok(()) };
    if backfill.status == "pending" {
        compression::pause(id);
        set_status(id, "listing");
    }
    if !list::list(&backfill)? {
        return Ok(());
    }
    let times = backfill.by_chunks() || backfill.from.is_some() || backfill.to.is_some();
    while times && spans::read_some(&backfill)? {
        if again()?.is_none() {
            return Ok(());
        }
    }
    if backfill.by_chunks() {
        chunks::plan(&backfill);
    }
    set_status(id, "loading");
    Ok(())
}

fn set_status(id: i64, status: &str) {
    let sql = "UPDATE ingestion.backfills SET status = $2, sqlstate = NULL, message = NULL WHERE id = $1 AND status IN ('pending', 'listing')";
    tx(|client| spi::execute_kept(client, sql, &[id.into(), status.to_owned().into()]));
}

/// One chunk as a whole.
fn chunk(backfill: &Backfill, slices: &SliceWorker, unit: chunks::Unit) -> Result<()> {
    match chunks::work(backfill, slices.slot(), unit) {
        chunks::Outcome::Done(chunk) => {
            chunk.into_iter().for_each(chunks::analyze);
            aggregates::refresh_next();
            // A process that is to end answers no signal any more, and compressing may take minutes.
            if !ffi::is_ending() {
                compression::compress_next(backfill);
            }
        }
        chunks::Outcome::Later(sqlstate, message) => {
            note(backfill.id, &sqlstate, &message);
            ffi::idle(Duration::from_millis(guc::retry().backoff_ms as u64));
        }
        chunks::Outcome::OutOfResources(sqlstate, message) => stop_with(backfill.id, &sqlstate, &message),
    }
    Ok(())
}

fn wait() -> Result<()> {
    ffi::show_activity(Some("waiting for the other workers"));
    ffi::idle(LOOK_AGAIN);
    Ok(())
}

/// One process per slot, whoever started it; the lock goes with the process.
fn take_slot(client: &mut SpiClient<'_>, id: i64, slot: i32) -> Result<bool> {
    let lock = "SELECT pg_try_advisory_lock(hashtextextended(format('btc_ingest.backfill:%s:%s', $1::bigint, $2::int), 0))::text";
    if spi::json_kept(client, lock, &[id.into(), slot.into()])? != true {
        return Ok(false);
    }
    spi::execute_kept(
        client,
        include_str!("../../../sql/queries/backfill_worker_begin.sql"),
        &[id.into(), slot.into()],
    )?;
    Ok(true)
}

/// Ends the backfill if this was the last of it.
fn finish(backfill: &Backfill) -> bool {
    if compression::compress_next(backfill) {
        return true;
    }
    let sql = include_str!("../../../sql/queries/backfill_finish.sql");
    end(backfill.id, |client| Ok(spi::execute_kept(client, sql, &[backfill.id.into()])? > 0))
}

/// Ends a backfill, and lets compression policies run again, in one transaction: a worker that ended in between would leave
/// them off for good.
fn end(id: i64, work: impl FnOnce(&mut SpiClient<'_>) -> Result<bool>) -> bool {
    tx_with_all_rights(|client| {
        let target = Target::check(client)?;
        let ended = {
            let _owner = target.become_owner();
            work(client)?
        };
        if ended {
            compression::resume(client, id)?;
        }
        Ok(ended)
    })
}

/// Ends the backfill because nothing more can be done until somebody has mended something.
fn stop(id: i64, error: &Error) {
    stop_with(id, error.sqlstate(), &with_hint(error));
}

/// What is wrong, and what mends it.
fn with_hint(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}. {hint}"),
        None => error.to_string(),
    }
}

/// Says what the backfill is waiting for.
fn note(id: i64, sqlstate: &str, message: &str) {
    let sql = "UPDATE ingestion.backfills SET sqlstate = $2, message = $3 WHERE id = $1";
    tx(|client| {
        let args = [id.into(), sqlstate.to_owned().into(), message.to_owned().into()];
        spi::execute_kept(client, sql, &args)
    });
}

fn stop_with(id: i64, sqlstate: &str, message: &str) {
    end(id, |client| {
        let args = [id.into(), sqlstate.to_owned().into(), message.to_owned().into()];
        spi::execute_kept(client, include_str!("../../../sql/queries/backfill_stop.sql"), &args)?;
        Ok(true)
    });
}
