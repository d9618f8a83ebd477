//! From our errors to PostgreSQL's: SQLSTATE, message, detail and hint come from `error`, the object's name from here.

use super::ffi;
use crate::error::{Error, Result};

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
