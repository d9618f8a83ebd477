//! Whether a worker is where it should be: its database named in the settings, the extension there, library and tables fitting.

use pgrx::spi::SpiClient;

use crate::error::{Error, Result};
use crate::pg::target::Target;
use crate::pg::{guc, spi};

/// What a worker finds in its database.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    /// All is well; the versions of the extensions, which must not change under a running process.
    Ready(String),
    /// The extension is not installed (yet, or any more).
    Absent,
    /// Something must be mended first; what.
    Misfit { sqlstate: String, message: String },
    /// `btc_ingest.database` names another one.
    Elsewhere,
}

/// Looks.
pub fn look(client: &mut SpiClient<'_>) -> Result<Fit> {
    let found = spi::json_kept(client, include_str!("../../../sql/queries/fit.sql"), &[])?;
    if found["database"].as_str() != guc::database().as_deref() {
        return Ok(Fit::Elsewhere);
    }
    let (Some(own), Some(timescaledb)) = (found["btc_ingest"].as_str(), found["timescaledb"].as_str()) else {
        return Ok(Fit::Absent);
    };
    if own != env!("CARGO_PKG_VERSION") {
        let message = format!(
            "the library is btc_ingest {}, the installed SQL {own}: ALTER EXTENSION btc_ingest UPDATE, or restart the server with the fitting library",
            env!("CARGO_PKG_VERSION")
        );
        return Ok(Fit::Misfit { sqlstate: "TK011".into(), message });
    }
    let checked = Target::check(client).and_then(|target| {
        let _owner = target.become_owner();
        Target::check_version(client)
    });
    Ok(match checked {
        Ok(()) => Fit::Ready(format!("{own} {timescaledb}")),
        // The extension was created after this session had begun, and TimescaleDB's library comes with one of the next statements.
        Err(Error::TimescaleNotLoaded) if found["timescaledb_preloaded"] == true => Fit::Absent,
        Err(error) => {
            let hint = error.hint().map(|hint| format!(". {hint}")).unwrap_or_default();
            Fit::Misfit { sqlstate: error.sqlstate().to_owned(), message: format!("{error}{hint}") }
        }
    })
}
