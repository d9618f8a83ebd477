//! The tables: all there, of one owner, of the library's schema version.

use pgrx::prelude::*;

use super::Check;
use super::installation::Server;
use crate::error::Result;
use crate::pg::session::target::{SCHEMA_VERSION, Target};

/// What a load's own guard says of them. On a standby it is asked about the tables only: that nothing can be written there
/// is no fault.
pub fn checks(server: &Server) -> Result<Vec<Check>> {
    let found = Spi::connect_mut(|client| {
        let target = if server.in_recovery() { Target::check_catalogs(client) } else { Target::check(client) }?;
        let _owner = target.become_owner();
        Target::check_version(client)
    });
    Ok(vec![match found {
        Ok(()) => Check::good("tables", format!("schema version {SCHEMA_VERSION}")),
        Err(error) => Check::error("tables", error.to_string(), &error),
    }])
}
