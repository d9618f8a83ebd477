//! The tables: whether all exist, have one owner, and are of the library's schema version.

use pgrx::prelude::*;

use super::check::Check;
use super::installation::Server;
use crate::error::Result;
use crate::pg::session::target::{SCHEMA_VERSION, Target};

/// Runs the checks that every load makes. On a standby only those of the tables: that it takes no writes is
/// no fault.
pub fn checks(server: &Server) -> Result<Vec<Check>> {
    let found = Spi::connect_mut(|client| {
        let target = if server.in_recovery { Target::check_catalogs(client) } else { Target::check(client) }?;
        let _owner = target.become_owner();
        Target::check_version(client)
    });
    Ok(vec![match found {
        Ok(()) => Check::good("tables", format!("schema version {SCHEMA_VERSION}")),
        Err(error) => Check::error("tables", error.to_string(), &error),
    }])
}
