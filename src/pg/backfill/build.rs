//! Builds one unit in one transaction: a staging table is filled with the ticks of all its objects, and
//! TimescaleDB then attaches the table as a chunk. If anything prevents that, the reason is noted and the
//! objects are loaded one by one.

use std::time::Instant;

use chrono::{DateTime, SecondsFormat};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::fill::{Filled, fill};
use super::refused::Refused;
use super::row::Backfill;
use super::staging::StagingTable;
use super::units::{Unit, UnitStatus};
use crate::error::Result;
use crate::error::verdict::Verdict;
use crate::pg::load::known::Version;
use crate::pg::queue::attempt;
use crate::pg::queue::outage::{self, Judged};
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::locks::Lock;
use crate::pg::session::target::Target;
use crate::pg::session::tx::{tx, tx_as_superuser};
use crate::pg::session::{guc, lock_waits, spi};
use crate::pg::windows::embed::embed_chunk;

/// The result of an attempt at a unit.
pub enum Outcome {
    /// The unit is finished. The oid is that of the new chunk; without a chunk the objects are loaded one by
    /// one.
    Done(Option<pg_sys::Oid>),
    /// The attempt was rolled back. Another one may succeed later.
    Later(Failure),
    /// The server has run out of disk, memory, connections or locks.
    OutOfResources(Failure),
    /// Another worker has the unit: this one has lost its claim.
    Lost,
    /// The attempt was rolled back. Objects of the unit wait until S3 answers.
    Outage,
}

/// Builds a unit that this worker has claimed, or notes why it cannot be built. Releases the claim.
pub fn work(backfill: &Backfill, slot: i32, unit: Unit) -> Result<Outcome> {
    let outcome = try_once(backfill, slot, unit);
    unit.release();
    outcome
}

fn try_once(backfill: &Backfill, slot: i32, unit: Unit) -> Result<Outcome> {
    let began = Instant::now();
    tx_as_superuser(|client| {
        let target = Target::check(client)?;
        if !unit.keep() {
            return Ok(Outcome::Lost);
        }
        let (status, built) = match ffi::attempt(|| build(client, backfill, unit)) {
            Ok(built) => (UnitStatus::Attached, built),
            Err(Refused::Outage(uri, judged)) => {
                let _owner = target.become_owner();
                record_outage(client, backfill, unit, &uri, &judged)?;
                return Ok(Outcome::Outage);
            }
            Err(Refused::Objection(why)) => (UnitStatus::Objects, Built::nothing(why)),
            Err(Refused::Failure(failure)) => match failure.verdict() {
                Verdict::Permanent => (UnitStatus::Objects, Built::nothing(note_of(&failure))),
                Verdict::OutOfResources => return Ok(Outcome::OutOfResources(failure)),
                _ => return Ok(Outcome::Later(failure)),
            },
        };
        let _owner = target.become_owner();
        record(client, backfill, unit, status, &built)?;
        count(client, backfill, slot, &built.filled, began)?;
        log(backfill, unit, &built);
        Ok(Outcome::Done(built.chunk))
    })
}

/// Lets the prefix of an object wait. The attempt at the unit does not count.
fn record_outage(
    client: &mut SpiClient<'_>,
    backfill: &Backfill,
    unit: Unit,
    uri: &str,
    judged: &Judged,
) -> Result<()> {
    attempt::count(client, uri)?;
    outage::record(client, uri, judged, &Version::default())?;
    spi::execute_kept(client, statement!("unit_take_back"), &[backfill.id.into(), unit.from.into()]).map(drop)
}

fn note_of(failure: &Failure) -> String {
    match failure {
        Failure::Ours(error) => error.to_string(),
        Failure::Postgres { sqlstate, message } => format!("{message} ({sqlstate})"),
    }
}

/// A unit that was built, or the reason why it was not.
#[derive(Default)]
struct Built {
    filled: Filled,
    note: Option<String>,
    /// The table that became a chunk.
    chunk: Option<pg_sys::Oid>,
}

impl Built {
    fn nothing(note: String) -> Self {
        Built { note: Some(note), ..Built::default() }
    }
}

/// Records the result in the unit's row, and whether continuous aggregates must be refreshed over the new
/// chunk.
fn record(
    client: &mut SpiClient<'_>,
    backfill: &Backfill,
    unit: Unit,
    status: UnitStatus,
    built: &Built,
) -> Result<()> {
    let aggregates = "SELECT (EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
                              WHERE hypertable_schema = 'market_data' AND hypertable_name = 'btc_ticks'))::text";
    let refresh = status == UnitStatus::Attached && spi::fetch::<bool>(client, aggregates, &[])?;
    let args = [
        backfill.id.into(),
        unit.times()?.0.into(),
        status.as_str().to_owned().into(),
        built.filled.rows.into(),
        built.note.clone().into(),
        refresh.into(),
    ];
    spi::execute_kept(client, statement!("unit_done"), &args).map(drop)
}

/// Writes a line about each object and one about the chunk into the server's log.
fn log(backfill: &Backfill, unit: Unit, built: &Built) {
    built.filled.loaded.iter().for_each(|report| guc::log_load(&format!("btc_ingest: {report}")));
    let from = DateTime::from_timestamp_micros(unit.from).map(|from| from.to_rfc3339_opts(SecondsFormat::Secs, true));
    let (id, from) = (backfill.id, from.unwrap_or_default());
    let Filled { rows, loaded, .. } = &built.filled;
    guc::log_load(&match (&built.chunk, &built.note) {
        (Some(_), _) => {
            format!("btc_ingest: backfill {id} has made the chunk of {from}: {rows} rows, {} objects", loaded.len())
        }
        (None, note) => {
            let why = note.as_deref().unwrap_or_default();
            format!("btc_ingest: backfill {id} loads the chunk of {from} object by object: {why}")
        }
    });
}

/// Adds the result to the counts of the worker.
fn count(client: &mut SpiClient<'_>, backfill: &Backfill, slot: i32, filled: &Filled, began: Instant) -> Result<()> {
    let args = [
        backfill.id.into(),
        slot.into(),
        (filled.loaded.len() as i64).into(),
        filled.failed.into(),
        filled.rows.into(),
        filled.inserted.into(),
        filled.bytes.into(),
        (began.elapsed().as_secs_f64() * 1e3).into(),
    ];
    spi::execute_kept(client, statement!("backfill_count"), &args).map(drop)
}

/// Gathers the planner's statistics of a new chunk. It has a transaction of its own, because ANALYZE takes
/// three times as long over rows that are not committed.
pub fn analyze(chunk: pg_sys::Oid) -> Result<()> {
    ffi::show_activity(Some("analyzing a chunk"));
    tx(|client| {
        let sql = "SELECT to_json(c.oid::regclass::text)::text FROM pg_class c WHERE c.oid = $1::oid";
        let name: Option<String> = spi::fetch_kept(client, sql, &[i64::from(chunk.to_u32()).into()])?;
        match name {
            Some(name) => spi::execute(client, &format!("ANALYZE {name}"), &[]).map(drop),
            // Another session has dropped the chunk.
            None => Ok(()),
        }
    })
}

/// Fills a staging table and attaches it as a chunk. The caller rolls all of it back on an error, because
/// readers would not see ticks in a table that is no chunk. Everything runs with the privileges of the tables'
/// owner, except `finish_chunk`, which writes to system catalogs.
fn build(client: &mut SpiClient<'_>, backfill: &Backfill, unit: Unit) -> std::result::Result<Built, Refused> {
    let target = Target::check(client)?;
    let name = format!("btc_ticks_{}_{}", unit.from / 1_000_000, ffi::my_pid());
    let (staging, filled) = {
        let _owner = target.become_owner();
        Target::check_version(client)?;
        check(client, unit)?;
        let mut staging = StagingTable::new(new_table(client, &name, unit)?, unit.from..unit.to);
        if guc::fills_in_runs() {
            // They are filled while the next ticks are read.
            make_indexes(client, staging.table, true)?;
        }
        let filled = fill(client, backfill, unit, &mut staging)?;
        if filled.rows == 0 {
            return Err(Refused::Objection("no object holds a tick of it that could be stored".into()));
        }
        attach(client, backfill, unit, &staging)?;
        (staging, filled)
    };
    // create_chunk has locked the hypertable.
    target.must_still_hold(client)?;
    let oid = |oid: pg_sys::Oid| i64::from(oid.to_u32());
    let args = [oid(target.root).into(), oid(staging.table).into(), name.into(), unit.from.into(), unit.to.into()];
    spi::execute(client, "SELECT btc_ingest_internal.finish_chunk($1::oid, $2::oid, $3, $4, $5)", &args)?;
    {
        let _owner = target.become_owner();
        if guc::embed_on_load() {
            embed_chunk(client, &target, (unit.from, unit.to))?;
        }
        lock_waits::limit_unit_in_transaction();
        staging.offsets.write(client)?;
    }
    Ok(Built { note: filled.note(), filled, chunk: Some(staging.table) })
}

/// Creates an empty table with the hypertable's columns.
fn new_table(client: &mut SpiClient<'_>, name: &str, unit: Unit) -> Result<pg_sys::Oid> {
    let (from, to) = unit.times()?;
    let args = [name.to_owned().into(), from.into(), to.into()];
    let statements: Vec<String> = spi::fetch(client, statement!("unit_stage"), &args)?;
    run(client, &statements)?;
    let sql = "SELECT to_json(format('ingestion.%I', $1)::regclass::oid::bigint)::text";
    spi::fetch::<u32>(client, sql, &[name.to_owned().into()]).map(pg_sys::Oid::from)
}

/// Runs statements that define tables and indexes.
fn run(client: &mut SpiClient<'_>, statements: &[String]) -> Result<()> {
    statements.iter().try_for_each(|sql| spi::execute(client, sql, &[]).map(drop))
}

/// Makes the indexes of the staging table that it does not have yet; if it is still empty, only those that are filled
/// with the table.
fn make_indexes(client: &mut SpiClient<'_>, table: pg_sys::Oid, empty: bool) -> Result<()> {
    ffi::set_local(c"default_tablespace", c"");
    let args = [i64::from(table.to_u32()).into(), empty.into()];
    let statements: Vec<String> = spi::fetch(client, statement!("unit_index"), &args)?;
    run(client, &statements)
}

/// Makes the indexes that the staging table lacks, and has TimescaleDB attach it as a chunk.
fn attach(
    client: &mut SpiClient<'_>,
    backfill: &Backfill,
    unit: Unit,
    staging: &StagingTable,
) -> std::result::Result<(), Refused> {
    ffi::show_activity(Some("making the indexes of the filled table"));
    // A parallel index build writes temporary files. It pays off only while no other worker uses the processors.
    if backfill.parallel > 1 {
        ffi::set_local(c"max_parallel_maintenance_workers", c"0");
    }
    make_indexes(client, staging.table, false)?;
    ffi::show_activity(Some("making a chunk of the filled table"));
    // One worker at a time: it locks the root of the hypertable until its transaction ends, and a client's
    // INSERT should not wait for two such transactions.
    Lock::AttachChunk.take_for_transaction();
    // While the table was filled, another session may have created this chunk, or stored one of its trades in
    // the neighbouring chunk. A chunk that is created after this check makes create_chunk fail, because that
    // locks the root.
    check(client, unit)?;
    if staging.overlaps_neighbours(client)? {
        let why = "a trade of it is stored on the other side of its border as well";
        return Err(Refused::Objection(why.into()));
    }
    lock_waits::limit_unit_in_transaction();
    let args = [i64::from(staging.table.to_u32()).into(), unit.from.into(), unit.to.into()];
    let uncheck: String = spi::fetch(client, statement!("unit_attach"), &args)?;
    run(client, &[uncheck]).map_err(Refused::from)
}

/// Refuses a unit whose chunk cannot be built as a whole.
fn check(client: &mut SpiClient<'_>, unit: Unit) -> std::result::Result<(), Refused> {
    let (from, to) = unit.times()?;
    let args = [from.into(), to.into()];
    let objection: Option<String> = spi::fetch_kept(client, statement!("unit_objection"), &args)?;
    objection.map_or(Ok(()), |why| Err(Refused::Objection(why)))
}
