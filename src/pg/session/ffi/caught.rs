//! Errors of PostgreSQL that were caught, as values.

use std::ffi::c_int;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::sqlstates::sqlstate_of;
use crate::error::verdict::Verdict;
use crate::error::{Error, Result};
use crate::model::text::printable;

/// How many characters of a message are stored.
const MAX_STORED: usize = 8_192;

/// Why a piece of work was rolled back.
#[derive(Debug)]
pub enum Failure {
    /// An error of ours.
    Ours(Error),
    /// An error that PostgreSQL raised.
    Postgres {
        /// The five characters of its SQLSTATE.
        sqlstate: String,
        /// Its message, with the detail in parentheses.
        message: String,
    },
}

impl Failure {
    /// Returns SQLSTATE and message. The message is fit to be stored: it may quote a file or a store, which could put
    /// zero bytes into a table.
    pub fn sqlstate_and_message(&self) -> (String, String) {
        match self {
            Failure::Ours(error) => (error.sqlstate().to_owned(), printable(&error.to_string(), MAX_STORED)),
            Failure::Postgres { sqlstate, message } => (sqlstate.clone(), message.clone()),
        }
    }

    /// Returns the failure, or the error that ends the statement if the statement was cancelled.
    pub fn unless_cancelled(self) -> Result<Failure> {
        match self.verdict() {
            Verdict::Cancelled => Err(Error::StatementCancelled { message: self.sqlstate_and_message().1 }),
            _ => Ok(self),
        }
    }

    /// Returns whether its cause may lie outside the object whose load has failed.
    pub fn may_be_outage(&self) -> bool {
        matches!(self, Failure::Ours(error) if error.may_be_outage())
    }

    /// Returns whether the disk is full, which is never the fault of one object.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Failure::Postgres { sqlstate, .. } if Verdict::is_disk_full(sqlstate))
    }

    /// Returns what the failure means for another attempt.
    pub fn verdict(&self) -> Verdict {
        match self {
            Failure::Ours(error) => error.verdict(),
            Failure::Postgres { sqlstate, .. } => Verdict::of_sqlstate(sqlstate),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Ours(error)
    }
}

/// Converts a caught error.
pub fn failure(error: CaughtError) -> Failure {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic { ereport: report, .. }) = error;
    let code = sqlstate_of(report.sql_error_code() as c_int, report.message());
    let sqlstate = (0..5).map(|place| char::from((code >> (6 * place) & 0x3f) as u8 + 0x30)).collect();
    let message = match report.detail() {
        Some(detail) => format!("{} ({detail})", report.message()),
        None => report.message().to_owned(),
    };
    Failure::Postgres { sqlstate, message }
}

/// Makes a memory context current again. The context must be alive.
pub fn restore_memory(memory: pg_sys::MemoryContext) {
    // SAFETY: every caller passes a context that is alive: one that was current before its transaction or
    // subtransaction began, or one that it has just made.
    unsafe { pg_sys::CurrentMemoryContext = memory };
}
