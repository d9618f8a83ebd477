//! Pieces of work that can be rolled back by themselves. Catching an error of PostgreSQL's without this would leave the
//! session in pieces.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::caught::{Failure, failure, restore_memory};
use super::ending::is_ending;
use crate::error::Result;

/// Runs `work` in a subtransaction, and rolls it back if `work` returns an error or PostgreSQL raises one. An error that is
/// raised because this process must end is raised again.
pub fn attempt<T, E: From<Failure>>(work: impl FnOnce() -> std::result::Result<T, E>) -> std::result::Result<T, E> {
    let subtransaction = Subtransaction::begin();
    PgTryBuilder::new(AssertUnwindSafe(|| {
        let result = work();
        match result {
            Ok(_) => subtransaction.keep(),
            Err(_) => subtransaction.roll_back(),
        }
        result
    }))
    .catch_others(move |error: CaughtError| {
        subtransaction.roll_back();
        if is_ending() {
            error.rethrow();
        }
        Err(failure(error).into())
    })
    .catch_rust_panic(move |error: CaughtError| {
        subtransaction.roll_back();
        Err(failure(error).into())
    })
    .execute()
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
