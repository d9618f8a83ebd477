//! The tables: whether all exist, have one owner, and are of the library's schema version; the registry's triggers, and
//! the privileges of the extension's roles.

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint};
use super::installation::Server;
use super::migration;
use crate::error::{Error, Result};
use crate::pg::session::spi;
use crate::pg::session::target::{SCHEMA_VERSION, Target};

/// Runs the checks that every load makes. In a read-only transaction and on a standby only those of the tables: that
/// it takes no writes is no fault.
pub fn checks(server: &Server) -> Result<Vec<Check>> {
    const NAME: &str = "tables";
    let found = Spi::connect_mut(|client| {
        let target = if server.is_read_only { Target::check_catalogs(client) } else { Target::check(client) }?;
        let _owner = target.become_owner();
        Target::check_version(client)
    });
    let error = match found {
        Ok(()) => return Ok(vec![Check::good(NAME, format!("schema version {SCHEMA_VERSION}"))]),
        Err(error) => error,
    };
    let hint = match &error {
        Error::BadTarget { .. } => Some(migration::migrate()?),
        Error::SchemaVersion { tables, library } if tables < library => Some(migration::migrate()?),
        Error::UntrustedTarget { .. } => migration::one_owner()?,
        _ => None,
    };
    Ok(vec![match hint {
        Some(hint) => Check::bad(NAME, error.to_string(), hint),
        None => Check::error(NAME, error.to_string(), &error),
    }])
}

/// Checks the triggers of the registry and of the slices.
pub fn triggers() -> Result<Vec<Check>> {
    const NAME: &str = "triggers";
    let fix: Option<String> = Spi::connect_mut(|client| spi::fetch_kept(client, statement!("doctor_triggers"), &[]))?;
    Ok(vec![match fix {
        None => Check::good(NAME, "those of landing.raw_blobs_5m and ingestion.object_slices are there and enabled"),
        Some(fix) => {
            let detail = "landing.raw_blobs_5m or ingestion.object_slices lacks a trigger, or it does not fire for \
                          every row: rows are not checked, wake no worker, or are left out of gaps";
            let remark =
                "Rows that were written meanwhile are enqueued by the next poll, unless their status was changed.";
            Check::bad(NAME, detail, Hint::run(fix).then(remark))
        }
    }])
}

/// What the extension's roles have lost (`doctor_privileges.sql`).
#[derive(Deserialize)]
struct Privileges {
    /// Roles that do not exist. `None` if all do.
    #[serde(deserialize_with = "spi::nullable")]
    no_role: Option<String>,
    /// The statements that grant what is missing on the extension's own objects.
    #[serde(deserialize_with = "spi::nullable")]
    grants: Option<String>,
    /// Tables that lack a grant of `migrate()`.
    #[serde(deserialize_with = "spi::nullable")]
    data: Option<String>,
}

/// Checks that the extension's roles have the privileges that CREATE EXTENSION gave them.
pub fn privileges() -> Result<Vec<Check>> {
    const NAME: &str = "privileges";
    let found: Privileges = Spi::connect_mut(|client| spi::fetch_kept(client, statement!("doctor_privileges"), &[]))?;
    let mut checks = Vec::new();
    if let Some(roles) = &found.no_role {
        let fix = Hint::run("DROP EXTENSION btc_ingest; CREATE EXTENSION btc_ingest;");
        let remark = "This leaves all data, makes the roles, and grants to them; make their members members again.";
        return Ok(vec![Check::bad(NAME, format!("roles that do not exist: {roles}"), fix.then(remark))]);
    }
    if let Some(grants) = &found.grants {
        let detail = "a role has lost privileges on functions or views of the extension";
        checks.push(Check::bad(NAME, detail, Hint::run(grants)));
    }
    if let Some(tables) = &found.data {
        let detail = format!("a role has lost privileges on {tables}");
        checks.push(Check::bad(NAME, detail, migration::migrate()?));
    }
    if checks.is_empty() {
        checks.push(Check::good(NAME, "the extension's roles have theirs"));
    }
    Ok(checks)
}
