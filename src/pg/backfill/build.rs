//! Builds one unit in one transaction: a plain table is filled with the ticks of all its objects, and TimescaleDB then makes the
//! table a chunk. If anything prevents that, the reason is noted and the objects are loaded one by one.

use std::time::Instant;

use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::fill::{Filled, fill};
use super::row::Backfill;
use super::stage::Stage;
use super::units::{Unit, UnitStatus};
use crate::error::verdict::Verdict;
use crate::error::{Error, Result};
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::locks::Lock;
use crate::pg::session::spi;
use crate::pg::session::target::Target;
use crate::pg::session::time::timestamp;
use crate::pg::session::tx::{tx, tx_as_superuser};

/// Why a unit is not built.
pub enum Refused {
    /// What prevents the chunk from being built as a whole.
    Objection(String),
    /// What went wrong.
    Failure(Failure),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Failure(error.into())
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Refused::Failure(failure)
    }
}

/// What a unit has come to, for its worker.
pub enum Outcome {
    /// It is finished. The oid is that of the new chunk, if there is one.
    Done(Option<pg_sys::Oid>),
    /// Nothing was kept; another attempt may succeed later.
    Later(Failure),
    /// The server has run out of disk, memory or locks.
    OutOfResources(Failure),
}

/// Builds a unit, or notes why it cannot be built.
pub fn work(backfill: &Backfill, slot: i32, unit: Unit) -> Result<Outcome> {
    let began = Instant::now();
    tx_as_superuser(|client| {
        let target = Target::check(client)?;
        let (status, built) = match ffi::attempt(|| build(client, backfill, unit)) {
            Ok(built) => (UnitStatus::Attached, built),
            Err(Refused::Objection(why)) => (UnitStatus::Objects, Built::nothing(why)),
            Err(Refused::Failure(failure)) => match failure.verdict() {
                Verdict::Permanent => (UnitStatus::Objects, Built::nothing(note_of(&failure))),
                verdict => {
                    unit.release();
                    return Ok(match verdict {
                        Verdict::OutOfResources => Outcome::OutOfResources(failure),
                        _ => Outcome::Later(failure),
                    });
                }
            },
        };
        let _owner = target.become_owner();
        record(client, backfill, unit, status, &built)?;
        count(client, backfill, slot, &built.filled, began)?;
        unit.release();
        Ok(Outcome::Done(built.chunk))
    })
}

fn note_of(failure: &Failure) -> String {
    match failure {
        Failure::Ours(error) => error.to_string(),
        Failure::Postgres { sqlstate, message } => format!("{message} ({sqlstate})"),
    }
}

/// A unit that was built, or the reason why not.
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
        unit.from.into(),
        status.as_str().to_owned().into(),
        built.filled.rows.into(),
        built.note.clone().into(),
        refresh.into(),
    ];
    spi::execute_kept(client, statement!("unit_done"), &args).map(drop)
}

fn count(client: &mut SpiClient<'_>, backfill: &Backfill, slot: i32, filled: &Filled, began: Instant) -> Result<()> {
    let args = [
        backfill.id.into(),
        slot.into(),
        filled.objects.into(),
        filled.failed.into(),
        filled.rows.into(),
        filled.inserted.into(),
        filled.bytes.into(),
        (began.elapsed().as_secs_f64() * 1e3).into(),
    ];
    spi::execute_kept(client, statement!("backfill_count"), &args).map(drop)
}

/// Gathers statistics for the planner. In a transaction of its own: over rows that are not committed it takes three times as long.
pub fn analyze(chunk: pg_sys::Oid) -> Result<()> {
    ffi::show_activity(Some("analyzing a chunk"));
    tx(|client| {
        let sql = "SELECT to_json(c.oid::regclass::text)::text FROM pg_class c WHERE c.oid = $1::oid";
        let name: Option<String> = spi::fetch_kept(client, sql, &[i64::from(chunk.to_u32()).into()])?;
        match name {
            Some(name) => spi::execute(client, &format!("ANALYZE {name}"), &[]).map(drop),
            // It was dropped meanwhile.
            None => Ok(()),
        }
    })
}

/// Fills a table and makes it a chunk. An error rolls back all of it: ticks in a table that is no chunk would be lost to readers.
fn build(client: &mut SpiClient<'_>, backfill: &Backfill, unit: Unit) -> std::result::Result<Built, Refused> {
    check(client, unit)?;
    let target = Target::check(client)?;
    let table = new_table(client, unit)?;
    let mut stage = Stage::new(table, unit.from..unit.to);
    let filled = {
        // Constraints of the tables' owner run with the owner's privileges.
        let _owner = target.become_owner();
        Target::check_version(client)?;
        fill(client, backfill, unit, &mut stage)?
    };
    if filled.rows == 0 {
        return Err(Refused::Objection("no object holds a tick of it that could be stored".into()));
    }
    attach(client, backfill, unit, &stage, table)?;
    {
        let _owner = target.become_owner();
        stage.offsets.write(client)?;
    }
    Ok(Built { note: filled.note(), filled, chunk: Some(table) })
}

fn new_table(client: &mut SpiClient<'_>, unit: Unit) -> Result<pg_sys::Oid> {
    let args = [timestamp(unit.from)?.into(), timestamp(unit.to)?.into()];
    let table: Option<pg_sys::Oid> = spi::query(client, "SELECT btc_ingest_internal.stage_chunk($1, $2)::oid", &args)?
        .first()
        .get_one()
        .map_err(spi::internal)?;
    table.ok_or_else(|| Error::Internal { why: "btc_ingest_internal.stage_chunk returned no table".into() })
}

/// Builds the table's indexes and has TimescaleDB take it for a chunk.
fn attach(
    client: &mut SpiClient<'_>,
    backfill: &Backfill,
    unit: Unit,
    stage: &Stage,
    table: pg_sys::Oid,
) -> std::result::Result<(), Refused> {
    let table = i64::from(table.to_u32());
    ffi::show_activity(Some("building the indexes of the filled table"));
    let args = [table.into(), (backfill.parallel == 1).into()];
    spi::execute(client, "SELECT btc_ingest_internal.index_chunk($1::oid::regclass, $2)", &args)?;
    ffi::show_activity(Some("making a chunk of the filled table"));
    // One worker at a time: its lock on the hypertable's root lasts until its transaction ends, and a client's INSERT should
    // not wait behind two of them.
    Lock::AttachChunk.take_for_transaction();
    // Meanwhile this chunk may have been made, or a neighbour may hold a trade of this one on its side of the border. The lock
    // that create_chunk takes on the root decides about the first.
    check(client, unit)?;
    if stage.meets_neighbours(client)? {
        let why = "a trade of it is stored on the other side of its border as well";
        return Err(Refused::Objection(why.into()));
    }
    let args = [table.into(), timestamp(unit.from)?.into(), timestamp(unit.to)?.into()];
    spi::execute(client, "SELECT btc_ingest_internal.attach_chunk($1::oid::regclass, $2, $3)", &args)?;
    Ok(())
}

/// Asks whether anything prevents the chunk from being built as a whole.
fn check(client: &mut SpiClient<'_>, unit: Unit) -> std::result::Result<(), Refused> {
    let args = [unit.from.into(), unit.to.into()];
    let objection: Option<String> = spi::fetch_kept(client, statement!("unit_objection"), &args)?;
    objection.map_or(Ok(()), |why| Err(Refused::Objection(why)))
}
