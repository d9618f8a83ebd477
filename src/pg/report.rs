//! What PostgreSQL's log and clients are told. Of our errors SQLSTATE, message, detail and hint come from `error`, the object's
//! name from here.

// The one place for them.
#![allow(clippy::disallowed_macros)]

use super::ffi;
use crate::error::{Error, Result};

/// A line for the server's log.
pub fn log(line: &str) {
    ffi::uninterrupted(|| pgrx::log!("{line}"));
}

/// A line for a server's log that is to hold everything.
pub fn debug(line: &str) {
    ffi::uninterrupted(|| pgrx::debug1!("{line}"));
}

/// What a client may want to know.
pub fn notice(line: &str) {
    ffi::uninterrupted(|| pgrx::notice!("{line}"));
}

/// What a client should know.
pub fn warning(line: &str) {
    ffi::uninterrupted(|| pgrx::warning!("{line}"));
}

/// Returns the value, or raises the error and does not return. To be called last in a `#[pg_extern]`.
pub fn or_raise<T>(uri: Option<&str>, result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => raise(uri, &error),
    }
}

fn raise(uri: Option<&str>, error: &Error) -> ! {
    let message = match uri {
        Some(uri) if !matches!(error, Error::InvalidUri { .. }) => format!("{uri}: {error}"),
        _ => error.to_string(),
    };
    ffi::raise(error.sqlstate(), &message, error.detail().as_deref(), error.hint())
}
