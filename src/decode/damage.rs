//! Errors about bytes that contradict themselves, and a guard against libraries that panic on such bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};

pub(super) fn damaged(why: impl Into<String>) -> Error {
    Error::Damaged { why: why.into() }
}

/// Runs a library over bytes that may be damaged. A panic of the library becomes an error.
pub(super) fn guarded<T>(what: &str, work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        damaged(format!("{what} cannot be decoded ({})", said.unwrap_or("no reason given")))
    })
}
