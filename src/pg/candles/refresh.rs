//! A refresh of the continuous aggregates of candles, in a process whose session has the role of the tables' owner: a
//! refresh commits while it runs, and the functions of an aggregate run with the privileges of that session.
//! TimescaleDB's log of what has changed outlasts a crash, so that the next refresh does what one has left.

use serde::Deserialize;

use super::beside;
use crate::error::Result;
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::locks::Lock;
use crate::pg::session::time::now;
use crate::pg::session::tx::tx;
use crate::pg::session::{report, spi};

/// The refresh of one aggregate (`candles_calls.sql`).
#[derive(Deserialize)]
struct Refresh {
    name: String,
    /// The range that was wanted when the calls were made, as PostgreSQL writes it.
    #[serde(deserialize_with = "spi::nullable")]
    wanted_from: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    wanted_to: Option<String>,
    calls: Vec<String>,
}

/// Refreshes all candles once, unless another process refreshes now.
pub fn run() {
    ffi::show_activity(Some("refreshing candles"));
    if let Err(failure) = ffi::survive(run_alone) {
        let (sqlstate, message) = failure.sqlstate_and_message();
        report::log(&format!("btc_ingest: candles were not refreshed: {message} ({sqlstate})"));
    }
}

fn run_alone() -> Result<()> {
    // TimescaleDB refuses two refreshes that overlap.
    if !tx(|_| Ok(Lock::Refresh.try_for_session()))? {
        return Ok(());
    }
    let all: Vec<Refresh> = tx(|client| spi::fetch(client, statement!("candles_calls"), &[]))?;
    let beside = ffi::survive(|| tx(|client| beside::fill(client, None)).map(drop));
    for refresh in &all {
        let began = now()?;
        let calls = || {
            refresh.calls.iter().for_each(|call| ffi::run_at_top_level(call));
            Ok(())
        };
        match (ffi::survive(calls), &beside) {
            (Ok(()), Ok(())) => {
                let args = [
                    refresh.name.clone().into(),
                    began.into(),
                    refresh.wanted_from.clone().into(),
                    refresh.wanted_to.clone().into(),
                ];
                tx(|client| spi::execute(client, statement!("candles_refreshed"), &args))?;
            }
            // The next process begins where this one was ended.
            _ if ffi::is_ending() => return Ok(()),
            (Err(failure), _) => note(&refresh.name, &failure)?,
            (Ok(()), Err(failure)) => note(&refresh.name, failure)?,
        }
    }
    Lock::Refresh.release();
    Ok(())
}

/// Records why candles were not refreshed. A failure that repeats itself is logged once.
fn note(name: &str, failure: &Failure) -> Result<()> {
    let (sqlstate, message) = failure.sqlstate_and_message();
    let why = format!("{message} ({sqlstate})");
    let sql = "UPDATE ingestion.candles SET last_error = $2 WHERE name = $1 AND last_error IS DISTINCT FROM $2
               RETURNING 1";
    let args = [name.to_owned().into(), why.clone().into()];
    if tx(|client| spi::execute(client, sql, &args))? > 0 {
        report::log(&format!("btc_ingest: the candles {name} were not refreshed: {why}"));
    }
    Ok(())
}
