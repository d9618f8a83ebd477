//! Mode 'chunk': all objects of one chunk into a plain table, which then becomes the chunk, in one transaction. Whatever
//! speaks against it is said, and left to the slices.

use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::Backfill;
use super::stage::{Stage, Staged};
use crate::error::{Error, Result};
use crate::pg::ffi::{self, Failure};
use crate::pg::queue::Series;
use crate::pg::queue::attempt::refuse_failure;
use crate::pg::registry::timestamp;
use crate::pg::target::Target;
use crate::pg::worker::{tx, tx_with_all_rights};
use crate::pg::{loader, spi};

/// Subtransactions that one chunk may take: beyond 64 with an xid every other session's snapshots become slower.
const GROUPS: usize = 40;

/// Tries that a unit has.
const MOST_ATTEMPTS: i32 = 3;

/// One chunk to be made, microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    from: i64,
    to: i64,
}

/// Why a unit is rolled back, where the error itself does not say it.
enum Trouble {
    /// What speaks against making the chunk as a whole.
    Objection(String),
    /// What PostgreSQL said while an object was being filled in, and that is not the object's fault.
    Postgres { sqlstate: String, message: String },
}

/// What came of a unit.
#[derive(Default)]
struct Made {
    rows: i64,
    inserted: i64,
    bytes: i64,
    objects: i64,
    failed: i64,
    note: Option<String>,
    /// The table that became a chunk.
    chunk: Option<pg_sys::Oid>,
}

/// Plans the units of a backfill; those that are planned already stay.
pub fn plan(backfill: &Backfill) {
    tx(|client| {
        let args = [backfill.id.into(), backfill.interval.into()];
        spi::execute_kept(client, include_str!("../../../sql/queries/units_plan.sql"), &args)
    });
}

/// What is to be done next of a backfill's units.
pub enum Next {
    /// This one, claimed.
    Unit(Unit),
    /// Others are at the last ones.
    Wait,
    /// None is left.
    Over,
}

/// Claims the earliest unit that is free.
pub fn next(backfill: &Backfill) -> Next {
    tx(|client| {
        let sql = include_str!("../../../sql/queries/unit_next.sql");
        let found = spi::json_kept(client, sql, &[backfill.id.into()])?;
        let units: Vec<Unit> = found
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|unit| Some(Unit { from: unit["from"].as_i64()?, to: unit["to"].as_i64()? }))
            .collect();
        for unit in &units {
            let lock =
                "SELECT pg_try_advisory_lock(hashtextextended(format('btc_ingest.unit:%s', $1::bigint), 0))::text";
            if spi::json_kept(client, lock, &[unit.from.into()])? != true {
                continue;
            }
            // In a later statement: what its last holder did is seen now.
            let again = spi::json_kept(client, sql, &[backfill.id.into()])?;
            if again.as_array().is_some_and(|units| units.iter().any(|other| other["from"] == unit.from))
                && begin(client, backfill.id, *unit)?
            {
                return Ok(Next::Unit(*unit));
            }
            release(client, *unit)?;
        }
        Ok(if units.is_empty() { Next::Over } else { Next::Wait })
    })
}

/// Counts the attempt before it is made: a unit that ends with its backend again and again is left to the slices.
fn begin(client: &mut SpiClient<'_>, id: i64, unit: Unit) -> Result<bool> {
    let args = [id.into(), unit.from.into(), MOST_ATTEMPTS.into()];
    let begun = spi::json_kept(client, include_str!("../../../sql/queries/unit_begin.sql"), &args)?;
    Ok(begun["status"] == "pending")
}

fn release(client: &mut SpiClient<'_>, unit: Unit) -> Result<()> {
    let unlock = "SELECT pg_advisory_unlock(hashtextextended(format('btc_ingest.unit:%s', $1::bigint), 0))";
    spi::execute_kept(client, unlock, &[unit.from.into()]).map(drop)
}

/// What came of a unit, for the worker.
pub enum Outcome {
    /// It is done, one way or the other; the chunk, if there is one.
    Done(Option<pg_sys::Oid>),
    /// Nothing was kept, because of (SQLSTATE, message); it is worth another try, later.
    Later(String, String),
    /// (SQLSTATE, message): disk or memory have run out.
    OutOfResources(String, String),
}

/// Makes the chunk, or says why not.
pub fn work(backfill: &Backfill, slot: i32, unit: Unit) -> Outcome {
    let began = std::time::Instant::now();
    tx_with_all_rights(|client| {
        let target = Target::check(client)?;
        let mut trouble = None;
        let attempt = ffi::attempt(|| make(client, backfill, unit, &mut trouble));
        let (status, made) = match (attempt, trouble) {
            (Ok(made), _) => ("attached", made),
            (Err(_), Some(Trouble::Objection(why))) => ("slices", Made::nothing(why)),
            (Err(Failure::Postgres { sqlstate, message }), None)
            | (Err(_), Some(Trouble::Postgres { sqlstate, message })) => {
                if sqlstate.starts_with("53") {
                    release(client, unit)?;
                    return Ok(Outcome::OutOfResources(sqlstate, message));
                }
                // Cancelled, a deadlock, or a lock on the root that somebody holds for long.
                if sqlstate == "57014" || sqlstate == "55P03" || sqlstate.starts_with("40") {
                    release(client, unit)?;
                    return Ok(Outcome::Later(sqlstate, message));
                }
                ("slices", Made::nothing(format!("{message} ({sqlstate})")))
            }
            (Err(Failure::Ours(error)), None) if error.is_transient() => {
                release(client, unit)?;
                return Ok(Outcome::Later(error.sqlstate().to_owned(), error.to_string()));
            }
            (Err(Failure::Ours(error)), None) => ("slices", Made::nothing(error.to_string())),
        };
        let _owner = target.become_owner();
        let aggregates = "SELECT (EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
                                  WHERE hypertable_schema = 'market_data' AND hypertable_name = 'btc_ticks'))::text";
        let refresh = status == "attached" && spi::json(client, aggregates, &[])? == true;
        let args = [
            backfill.id.into(),
            unit.from.into(),
            status.to_owned().into(),
            made.rows.into(),
            made.note.clone().into(),
            refresh.into(),
        ];
        spi::execute_kept(client, include_str!("../../../sql/queries/unit_done.sql"), &args)?;
        let args = [
            backfill.id.into(),
            slot.into(),
            made.objects.into(),
            made.failed.into(),
            made.rows.into(),
            made.inserted.into(),
            made.bytes.into(),
            (began.elapsed().as_secs_f64() * 1e3).into(),
        ];
        spi::execute_kept(client, include_str!("../../../sql/queries/backfill_count.sql"), &args)?;
        release(client, unit)?;
        Ok(Outcome::Done(made.chunk))
    })
}

/// Statistics for the planner. In a transaction of its own: over rows that are not committed it takes three times as long.
pub fn analyze(chunk: pg_sys::Oid) {
    ffi::show_activity(Some("analyzing a chunk"));
    tx(|client| {
        let sql = "SELECT to_json(c.oid::regclass::text)::text FROM pg_class c WHERE c.oid = $1::oid";
        match spi::json_kept(client, sql, &[i64::from(chunk.to_u32()).into()])?.as_str() {
            Some(name) => spi::execute(client, &format!("ANALYZE {name}"), &[]).map(drop),
            // Dropped since.
            None => Ok(()),
        }
    });
}

impl Made {
    fn nothing(note: String) -> Self {
        Made { note: Some(note), ..Made::default() }
    }
}

/// Fills a table and makes a chunk of it. Whatever is wrong rolls all of it back: a table that was filled and is no chunk
/// would be ticks that nobody finds.
fn make(client: &mut SpiClient<'_>, backfill: &Backfill, unit: Unit, trouble: &mut Option<Trouble>) -> Result<Made> {
    let refuse = |trouble: &mut Option<Trouble>, why: String| {
        *trouble = Some(Trouble::Objection(why));
        Err(Error::Cancelled)
    };
    if let Some(why) = objection(client, unit)? {
        return refuse(trouble, why);
    }
    let target = Target::check(client)?;
    let (from, to) = (timestamp(unit.from)?, timestamp(unit.to)?);
    let staged: Option<pg_sys::Oid> =
        spi::query(client, "SELECT btc_ingest.stage_chunk($1, $2)::oid", &[from.into(), to.into()])?
            .first()
            .get_one()
            .map_err(spi::internal)?;
    let Some(staged) = staged else { return Err(Error::Internal { why: "no table to fill".into() }) };

    let mut stage = Stage::new(staged, unit.from..unit.to);
    let mut made = {
        // Constraints of the tables' owner run with the owner's rights.
        let _owner = target.become_owner();
        Target::check_version(client)?;
        fill(client, backfill, unit, &mut stage, trouble)?
    };
    if made.rows == 0 {
        return refuse(trouble, "no object holds a tick of it that could be stored".into());
    }
    ffi::show_activity(Some("building the indexes of the filled table"));
    // Before the others are made to wait.
    let table = i64::from(staged.to_u32());
    let args = [table.into(), (backfill.parallel == 1).into()];
    spi::execute(client, "SELECT btc_ingest.index_chunk($1::oid::regclass, $2)", &args)?;
    ffi::show_activity(Some("making a chunk of the filled table"));
    // One at a time: the other one's lock on the root lasts until its transaction ends, and whoever only inserts should not
    // be queued behind two of us.
    spi::execute(client, "SELECT pg_advisory_xact_lock(hashtextextended('btc_ingest.attach', 0))", &[])?;
    // What was made meanwhile: this chunk, or a neighbour with a trade of ours on its side of the border. The lock on the
    // root that create_chunk takes is the last word on the first.
    if let Some(why) = objection(client, unit)? {
        return refuse(trouble, why);
    }
    if stage.meets_neighbours(client)? {
        return refuse(trouble, "a trade of it is stored on the other side of its border as well".into());
    }
    let args = [table.into(), from.into(), to.into()];
    spi::execute(client, "SELECT btc_ingest.attach_chunk($1::oid::regclass, $2, $3)", &args)?;
    {
        let _owner = target.become_owner();
        stage.offsets.write(client)?;
    }
    made.chunk = Some(staged);
    Ok(made)
}

fn objection(client: &mut SpiClient<'_>, unit: Unit) -> Result<Option<String>> {
    let args = [unit.from.into(), unit.to.into()];
    let found = spi::json_kept(client, include_str!("../../../sql/queries/unit_objection.sql"), &args)?;
    Ok(found.as_str().map(str::to_owned))
}

/// Fills the table, a group of objects per subtransaction, so that a bad object costs its group's time and nothing else.
fn fill(
    client: &mut SpiClient<'_>,
    backfill: &Backfill,
    unit: Unit,
    stage: &mut Stage,
    trouble: &mut Option<Trouble>,
) -> Result<Made> {
    let args = [backfill.id.into(), unit.from.into(), unit.to.into()];
    let found = spi::json_kept(client, include_str!("../../../sql/queries/unit_objects.sql"), &args)?;
    let uris: Vec<String> =
        found.as_array().into_iter().flatten().filter_map(|uri| uri.as_str().map(str::to_owned)).collect();
    let mut made = Made::default();
    let mut orders: Vec<loader::Order> = Vec::with_capacity(uris.len());
    for uri in &uris {
        match loader::order(client, uri) {
            Ok(order) => orders.push(order),
            Err(error) => {
                refuse_failure(client, uri, &Failure::Ours(error))?;
                made.failed += 1;
            }
        }
    }
    let jobs = |orders: &[loader::Order]| orders.iter().map(|order| order.job.clone()).collect::<Vec<_>>();
    let size = orders.len().div_ceil(GROUPS).max(1);
    let mut left = 0;
    let mut series = Series::start(jobs(&orders))?;
    let mut at = 0;
    while at < orders.len() {
        let end = (at + size).min(orders.len());
        ffi::show_activity(Some(&format!("filling a chunk: {at} of {} objects", orders.len())));
        let before = stage.mark();
        let mut failed_at = at;
        let group = ffi::attempt(|| {
            let mut done = Vec::with_capacity(end - at);
            for (number, order) in orders[at..end].iter().enumerate() {
                failed_at = at + number;
                done.push(stage.load(client, order, series.thread())?);
            }
            Ok(done)
        });
        match group {
            Ok(done) => {
                for staged in done {
                    made.rows += staged.rows();
                    match staged {
                        Staged::Finished { report, .. } => {
                            made.objects += 1;
                            made.inserted += report.inserted;
                            made.bytes += report.bytes;
                        }
                        Staged::Left { .. } => left += 1,
                    }
                }
                at = end;
            }
            Err(Failure::Postgres { sqlstate, message })
                if ["53", "57", "40"].iter().any(|class| sqlstate.starts_with(class)) =>
            {
                *trouble = Some(Trouble::Postgres { sqlstate, message });
                return Err(Error::Cancelled);
            }
            Err(Failure::Ours(error)) if error.is_transient() => return Err(error),
            Err(failure) => {
                stage.forget_since(before);
                refuse_failure(client, &orders[failed_at].job.uri.to_string(), &failure)?;
                made.failed += 1;
                orders.remove(failed_at);
                series = Series::start(jobs(&orders[at..]))?;
            }
        }
    }
    if left > 0 {
        made.note = Some(format!(
            "{left} objects reach over the chunk or meet other objects; the slices load the rest of them"
        ));
    }
    Ok(made)
}
