//! Whether a worker may run: its database is named in the settings, and extension, library and tables have matching versions.

use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::pg::session::target::Target;
use crate::pg::session::{guc, spi};

/// What a worker finds in its database.
#[derive(Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// It may run. The text holds the versions of the extensions, which must not change while a process runs.
    Ready(String),
    /// The extension is not installed.
    Absent,
    /// The administrator must fix something first.
    Misfit {
        /// The SQLSTATE of what is wrong.
        sqlstate: String,
        /// What is wrong, and its fix.
        message: String,
    },
    /// `btc_ingest.database` names another database.
    Elsewhere,
}

/// The row of `compatibility.sql`.
#[derive(Deserialize)]
struct Row {
    database: String,
    /// The installed version.
    btc_ingest: Option<String>,
    /// The installed version.
    timescaledb: Option<String>,
    timescaledb_preloaded: bool,
}

/// Looks whether this process may run. Runs with superuser privileges, and reads the tables as their owner.
pub fn look(client: &mut SpiClient<'_>) -> Result<Compatibility> {
    let found: Row = spi::fetch_kept(client, statement!("compatibility"), &[])?;
    if Some(found.database) != guc::database() {
        return Ok(Compatibility::Elsewhere);
    }
    let (Some(own), Some(timescaledb)) = (found.btc_ingest, found.timescaledb) else {
        return Ok(Compatibility::Absent);
    };
    if own != env!("CARGO_PKG_VERSION") {
        let message = format!(
            "the library is btc_ingest {}, the installed SQL {own}: ALTER EXTENSION btc_ingest UPDATE, \
             or restart the server with the library of that version",
            env!("CARGO_PKG_VERSION")
        );
        return Ok(Compatibility::Misfit { sqlstate: "TK011".into(), message });
    }
    let checked = Target::check(client).and_then(|target| {
        let _owner = target.become_owner();
        Target::check_version(client)
    });
    Ok(match checked {
        Ok(()) => Compatibility::Ready(format!("{own} {timescaledb}")),
        // The extension was created after this session began; one of the next statements loads TimescaleDB's library.
        Err(Error::TimescaleNotLoaded) if found.timescaledb_preloaded => Compatibility::Absent,
        Err(error) => {
            let hint = error.hint().map(|hint| format!(". {hint}")).unwrap_or_default();
            Compatibility::Misfit { sqlstate: error.sqlstate().to_owned(), message: format!("{error}{hint}") }
        }
    })
}
