//! One line of the report of `doctor()`.

use crate::error::Error;

/// The hint of an error that has none of its own.
pub const LOG: &str = "The server's log says more.";

/// One line of the report.
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do or to know about it.
    pub hint: Option<String>,
}

impl Check {
    /// Reports what is as it must be.
    pub fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Check { name, ok: true, detail: detail.into(), hint: None }
    }

    /// Reports what is as it must be, and what the administrator should know about it.
    pub fn known(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Check { name, ok: true, detail: detail.into(), hint: Some(hint.into()) }
    }

    /// Reports a fault and its fix.
    pub fn bad(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Check { name, ok: false, detail: detail.into(), hint: Some(hint.into()) }
    }

    /// Reports an error of the extension with its own hint.
    pub fn error(name: &'static str, detail: impl Into<String>, error: &Error) -> Self {
        Self::bad(name, detail, error.hint().unwrap_or(LOG))
    }
}
