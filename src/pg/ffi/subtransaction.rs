//! Pieces of work that can be rolled back by themselves. Catching an error of PostgreSQL's without this would leave the
//! session in pieces.

use std::ffi::c_int;
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::worker::is_ending;
use crate::error::{Error, Result};

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
    /// SQLSTATE and message.
    pub fn words(&self) -> (String, String) {
        match self {
            Failure::Ours(error) => (error.sqlstate().to_owned(), error.to_string()),
            Failure::Postgres { sqlstate, message } => (sqlstate.clone(), message.clone()),
        }
    }
}

/// Runs `work` in a subtransaction, and rolls it back if it fails in whatever way. What ends the process is no failure and goes
/// on to the caller's caller.
pub fn attempt<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<T, Failure> {
    let subtransaction = Subtransaction::begin();
    PgTryBuilder::new(AssertUnwindSafe(|| match work() {
        Ok(value) => {
            subtransaction.keep();
            Ok(value)
        }
        Err(error) => {
            subtransaction.roll_back();
            Err(Failure::Ours(error))
        }
    }))
    .catch_others(move |error: CaughtError| {
        subtransaction.roll_back();
        if is_ending() {
            error.rethrow();
        }
        Err(failure(error))
    })
    .catch_rust_panic(move |error: CaughtError| {
        subtransaction.roll_back();
        Err(failure(error))
    })
    .execute()
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

/// Runs `work` in a subtransaction. `Ok(None)`: it met a unique violation and was rolled back. Any other error rolls the
/// subtransaction back and goes on to the caller's transaction: an open one would swallow its caller's own roll-back.
pub fn unless_unique_violation<T>(work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let subtransaction = Subtransaction::begin();
    PgTryBuilder::new(AssertUnwindSafe(|| match work() {
        Ok(value) => {
            subtransaction.keep();
            Ok(Some(value))
        }
        Err(error) => {
            subtransaction.roll_back();
            Err(error)
        }
    }))
    .catch_when(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, move |_| {
        subtransaction.roll_back();
        Ok(None)
    })
    .catch_others(move |error: CaughtError| {
        subtransaction.roll_back();
        error.rethrow()
    })
    .catch_rust_panic(move |error: CaughtError| {
        subtransaction.roll_back();
        error.rethrow()
    })
    .execute()
}

/// A subtransaction that was begun; whoever has it ends it on every path.
#[derive(Clone, Copy)]
struct Subtransaction {
    memory: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl Subtransaction {
    fn begin() -> Self {
        // SAFETY: reads two globals of this backend.
        let this =
            unsafe { Subtransaction { memory: pg_sys::CurrentMemoryContext, owner: pg_sys::CurrentResourceOwner } };
        // SAFETY: inside a transaction.
        unsafe { pg_sys::BeginInternalSubTransaction(std::ptr::null()) };
        restore_memory(this.memory);
        this
    }

    fn keep(self) {
        // SAFETY: ends the subtransaction begun above, which is the current one: work within leaves none open.
        unsafe { pg_sys::ReleaseCurrentSubTransaction() };
        self.restore();
    }

    fn roll_back(self) {
        // SAFETY: as above.
        unsafe { pg_sys::RollbackAndReleaseCurrentSubTransaction() };
        self.restore();
    }

    fn restore(self) {
        restore_memory(self.memory);
        // SAFETY: it was current before the subtransaction and outlives it.
        unsafe { pg_sys::CurrentResourceOwner = self.owner };
    }
}

/// Makes a context current again.
pub fn restore_memory(memory: pg_sys::MemoryContext) {
    // SAFETY: the context was current a moment ago and is the parent of the subtransaction's.
    unsafe { pg_sys::CurrentMemoryContext = memory };
}
