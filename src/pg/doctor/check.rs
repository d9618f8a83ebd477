//! One line of the report of `doctor()`.

use std::fmt;

use crate::error::Error;

/// One line of the report.
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do or to know about it.
    pub hint: Option<Hint>,
}

/// What to do about a finding, as SQL that an administrator can paste as it is printed: statements, and remarks behind
/// them as a comment.
#[derive(Clone)]
pub struct Hint {
    sql: String,
    remark: String,
}

impl Hint {
    /// Returns a hint of statements that mend the fault. They end with a semicolon each.
    pub fn run(sql: impl Into<String>) -> Self {
        Hint { sql: sql.into(), remark: String::new() }
    }

    /// Returns a hint that only tells something, because no statement could mend the fault.
    pub fn know(remark: impl Into<String>) -> Self {
        Hint { sql: String::new(), remark: remark.into() }
    }

    /// Adds a remark.
    pub fn then(mut self, remark: impl Into<String>) -> Self {
        self.remark = remark.into();
        self
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hint { sql, remark } = self;
        let space = if sql.is_empty() || remark.is_empty() { "" } else { " " };
        // A line break would end the comment.
        let remark = remark.split_whitespace().collect::<Vec<_>>().join(" ");
        let dashes = if remark.is_empty() { "" } else { "-- " };
        write!(f, "{sql}{space}{dashes}{remark}")
    }
}

impl Check {
    /// Reports what is as it must be.
    pub fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Check { name, ok: true, detail: detail.into(), hint: None }
    }

    /// Reports what is as it must be, and what the administrator should know about it.
    pub fn known(name: &'static str, detail: impl Into<String>, hint: Hint) -> Self {
        Check { name, ok: true, detail: detail.into(), hint: Some(hint) }
    }

    /// Reports a fault and its fix.
    pub fn bad(name: &'static str, detail: impl Into<String>, hint: Hint) -> Self {
        Check { name, ok: false, detail: detail.into(), hint: Some(hint) }
    }

    /// Reports an error of the extension with its own hint.
    pub fn error(name: &'static str, detail: impl Into<String>, error: &Error) -> Self {
        Self::bad(name, detail, fix(error))
    }
}

/// Returns the statements that mend what an error of the extension reports, as far as the error says which they are.
fn fix(error: &Error) -> Hint {
    let remark = error.hint().map_or_else(|| LOG.to_owned(), |hint| hint.into_owned());
    let sql = match error {
        Error::WrongRegion { actual: Some(region), .. } => set("btc_ingest.s3_region", region),
        Error::Restoring => "SELECT timescaledb_post_restore();".to_owned(),
        Error::RowSecurity { table } => {
            let tables = table.split(", ");
            let statements: Vec<_> = tables.map(|t| format!("ALTER TABLE {t} DISABLE ROW LEVEL SECURITY;")).collect();
            statements.join(" ")
        }
        _ => return Hint::know(remark),
    };
    Hint::run(sql).then(remark)
}

/// The hint of an error that has none of its own.
pub const LOG: &str = "The server's log says more.";

/// Returns the statements that set a setting for the whole server. A reload suffices for it.
pub fn set(setting: &str, value: &str) -> String {
    format!("ALTER SYSTEM SET {setting} = '{}'; SELECT pg_reload_conf();", value.replace('\'', "''"))
}
