//! The compatibility check: a worker runs only in the database that the settings name, and only if extension,
//! library and tables have matching versions.

use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::pg::session::target::Target;
use crate::pg::session::{guc, spi};

/// The result of the check.
#[derive(Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// The worker may run.
    Ready {
        /// The versions of the extensions, which must not change while the process runs.
        versions: String,
        /// The tables.
        target: Target,
    },
    /// The extension is not installed.
    Absent,
    /// The administrator must fix something first.
    Incompatible {
        /// The SQLSTATE of the error.
        sqlstate: String,
        /// The error and its fix.
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
    #[serde(deserialize_with = "spi::nullable")]
    btc_ingest: Option<String>,
    /// The installed version.
    #[serde(deserialize_with = "spi::nullable")]
    timescaledb: Option<String>,
    timescaledb_preloaded: bool,
}

/// Checks whether this process may run. The caller has superuser privileges; the tables are read as their owner.
pub fn check(client: &mut SpiClient<'_>) -> Result<Compatibility> {
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
        return Ok(Compatibility::Incompatible { sqlstate: "TK011".into(), message });
    }
    let checked = Target::check(client).and_then(|target| {
        let _owner = target.become_owner();
        Target::check_version(client)?;
        target.must_have_key().map(|()| target)
    });
    Ok(match checked {
        Ok(target) => Compatibility::Ready { versions: format!("{own} {timescaledb}"), target },
        // The extension was created after this process started. One of the next statements loads
        // TimescaleDB's library.
        Err(Error::TimescaleNotLoaded) if found.timescaledb_preloaded => Compatibility::Absent,
        Err(error) => {
            let hint = error.hint().map(|hint| format!(". {hint}")).unwrap_or_default();
            Compatibility::Incompatible { sqlstate: error.sqlstate().to_owned(), message: format!("{error}{hint}") }
        }
    })
}
