//! A caught error as a value.

use std::ffi::c_int;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use crate::error::Error;
use crate::error::verdict::Verdict;

/// Why a piece of work was rolled back.
#[derive(Debug)]
pub enum Failure {
    /// An error of ours.
    Ours(Error),
    /// An error that PostgreSQL raised.
    Postgres {
        /// Its five characters; a code that pgrx does not know is XX000.
        sqlstate: String,
        /// Message and detail.
        message: String,
    },
}

impl Failure {
    /// Returns SQLSTATE and message.
    pub fn sqlstate_and_message(&self) -> (String, String) {
        match self {
            Failure::Ours(error) => (error.sqlstate().to_owned(), error.to_string()),
            Failure::Postgres { sqlstate, message } => (sqlstate.clone(), message.clone()),
        }
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

/// An error that was caught, as a value.
pub fn failure(error: CaughtError) -> Failure {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic { ereport: report, .. }) = error;
    let code = report.sql_error_code() as c_int;
    let sqlstate = (0..5).map(|place| char::from((code >> (6 * place) & 0x3f) as u8 + 0x30)).collect();
    let message = match report.detail() {
        Some(detail) => format!("{} ({detail})", report.message()),
        None => report.message().to_owned(),
    };
    Failure::Postgres { sqlstate, message }
}

/// Makes a context current again.
pub fn restore_memory(memory: pg_sys::MemoryContext) {
    // SAFETY: the context was current a moment ago and is the parent of the subtransaction's.
    unsafe { pg_sys::CurrentMemoryContext = memory };
}
