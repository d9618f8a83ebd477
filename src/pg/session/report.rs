//! Reports to PostgreSQL's log and to clients, and the errors that end a statement. SQLSTATE, message,
//! detail and hint of an error come from `error`; the object's uri is added here.

// The one file that may call pgrx's macros for reports.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods)]

use super::ffi::{self, Report};
use crate::error::{Error, Result};
use crate::model::text::printable;

/// How many characters of a message or detail are shown.
const MAX_SHOWN: usize = 8_192;

/// Writes a line into the server's log.
pub fn log(line: &str) {
    ffi::uninterrupted(|| pgrx::log!("{line}"));
}

/// Writes a line into the log of a server whose `log_min_messages` is `debug1` or lower.
pub fn debug(line: &str) {
    ffi::uninterrupted(|| pgrx::debug1!("{line}"));
}

/// Sends a NOTICE to the client.
pub fn notice(line: &str) {
    ffi::uninterrupted(|| pgrx::notice!("{line}"));
}

/// Sends a WARNING to the client.
pub fn warning(line: &str) {
    ffi::uninterrupted(|| pgrx::warning!("{line}"));
}

/// Returns the value, or raises the error with the object's uri before its message. The caller calls this
/// last and holds no value that must be dropped: the error leaves by `longjmp`, which drops nothing.
pub fn or_raise<T>(uri: Option<&str>, result: Result<T>) -> T {
    let report = match result {
        Ok(value) => return value,
        Err(error) => report(uri, &error),
    };
    ffi::raise(report)
}

/// Copies an error into PostgreSQL's memory. Rust's own strings are dropped when this returns, and the
/// error itself when its caller's match ends, so none of them is left when [`ffi::raise`] is called.
fn report(uri: Option<&str>, error: &Error) -> Report {
    let message = match uri {
        Some(uri) if !matches!(error, Error::InvalidUri { .. }) => format!("{uri}: {error}"),
        _ => error.to_string(),
    };
    let detail = error.detail().map(|detail| printable(&detail, MAX_SHOWN));
    Report::new(error.sqlstate(), &printable(&message, MAX_SHOWN), detail.as_deref(), error.hint().as_deref())
}
