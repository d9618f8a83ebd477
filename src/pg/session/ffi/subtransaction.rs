//! Work in subtransactions. An error of PostgreSQL may be caught only around a subtransaction that is then
//! rolled back: the error leaves locks, buffers and memory of the work behind.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::caught::{Failure, failure, restore_memory};
use super::ending::is_ending;
use super::sqlstates::{callbacks, restore_callbacks};
use crate::error::Result;

/// Runs `work` in a subtransaction, and rolls it back if `work` returns an error or PostgreSQL raises one.
/// An error that is raised because this process must end is raised again.
pub fn attempt<T, E: From<Failure>>(work: impl FnOnce() -> std::result::Result<T, E>) -> std::result::Result<T, E> {
    let callbacks = callbacks();
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
        restore_callbacks(callbacks);
        Err(failure(error).into())
    })
    .catch_rust_panic(move |error: CaughtError| {
        subtransaction.roll_back();
        restore_callbacks(callbacks);
        Err(failure(error).into())
    })
    .execute()
}

/// Runs `work` in a subtransaction. Returns `Ok(None)` if a unique violation has rolled it back. Any other
/// error rolls the subtransaction back and is returned or raised again. The subtransaction must not stay
/// open then: the caller's own rollback would end it instead of the caller's subtransaction.
pub fn unless_unique_violation<T>(work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let callbacks = callbacks();
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
        restore_callbacks(callbacks);
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

/// A subtransaction that has begun. The function that has begun it ends it on every path.
#[derive(Clone, Copy)]
struct Subtransaction {
    memory: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl Subtransaction {
    fn begin() -> Self {
        // SAFETY: both are variables that only this thread writes.
        let this =
            unsafe { Subtransaction { memory: pg_sys::CurrentMemoryContext, owner: pg_sys::CurrentResourceOwner } };
        // SAFETY: called inside a transaction, as all of its callers run in one.
        unsafe { pg_sys::BeginInternalSubTransaction(std::ptr::null()) };
        restore_memory(this.memory);
        this
    }

    fn keep(self) {
        // SAFETY: the current subtransaction is the one that `begin` has begun: the work inside leaves no
        // other one open.
        unsafe { pg_sys::ReleaseCurrentSubTransaction() };
        self.restore();
    }

    fn roll_back(self) {
        // SAFETY: the current subtransaction is the one that `begin` has begun: an error inside a nested
        // one has rolled that one back first.
        unsafe { pg_sys::RollbackAndReleaseCurrentSubTransaction() };
        self.restore();
    }

    fn restore(self) {
        restore_memory(self.memory);
        // SAFETY: this owner was current before the subtransaction began, and belongs to a transaction that
        // is still open.
        unsafe { pg_sys::CurrentResourceOwner = self.owner };
    }
}
