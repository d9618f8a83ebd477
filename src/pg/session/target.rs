//! The guard before a load: the tables exist, they are TimescaleDB's, and no code of a role other than
//! their owner or a superuser runs on them.

use std::cell::Cell;

use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::{ffi, spi};
use crate::error::{Error, Result};

/// The schema version that this library's SQL is written for; `migrate()` brings the tables to it.
pub const SCHEMA_VERSION: i32 = 4;

/// All tables that a load or a worker writes, and `ingestion.schema_version`, which each reads first.
const WRITTEN: [&str; 12] = [
    "ingestion.schema_version",
    "ingestion.backfills",
    "ingestion.backfill_workers",
    "ingestion.backfill_chunks",
    "ingestion.control",
    "market_data.btc_ticks",
    "landing.raw_blobs_5m",
    "landing.rejected_ticks",
    "ingestion.objects",
    "ingestion.object_slices",
    "ingestion.load_history",
    "ingestion.stream_offsets",
];

/// Runs `work` behind the guard and with the privileges of the tables' owner, on tables of the library's
/// schema version.
pub fn as_owner<T>(work: impl FnOnce(&mut SpiClient<'_>, &Target) -> Result<T>) -> Result<T> {
    Spi::connect_mut(|client| {
        let target = Target::check(client)?;
        let _owner = target.become_owner();
        Target::check_version(client)?;
        work(client, &target)
    })
}

/// What the guard has read of the tables.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The role that owns the tables.
    owner: pg_sys::Oid,
    owner_is_superuser: bool,
    /// `market_data.btc_ticks`.
    pub root: pg_sys::Oid,
    /// Collation of `market_data.btc_ticks.symbol`.
    pub symbol_collation: pg_sys::Oid,
    /// Whether TimescaleDB's catalog has the table chunk_constraint, which newer versions do without.
    pub has_chunk_constraint: bool,
}

thread_local! {
    /// The last answer of the catalogs, and the version of the catalogs that it was read from.
    static REMEMBERED: Cell<Option<(Target, u64)>> = const { Cell::new(None) };
}

/// The row of `target.sql`. The first fields describe objections and are null if there is no objection.
#[derive(Deserialize)]
struct Found {
    #[serde(deserialize_with = "spi::nullable")]
    missing: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    not_tables: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    row_security: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    owners: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    foreign_schemas: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    foreign_functions: Option<String>,
    hypertable: bool,
    chunk_constraint: bool,
    /// This field and the next three are null if the table is missing.
    #[serde(deserialize_with = "spi::nullable")]
    root: Option<u32>,
    #[serde(deserialize_with = "spi::nullable")]
    owner: Option<u32>,
    #[serde(deserialize_with = "spi::nullable")]
    owner_is_superuser: Option<bool>,
    #[serde(deserialize_with = "spi::nullable")]
    symbol_collation: Option<u32>,
}

impl Target {
    /// Checks everything that must hold before the first request to S3. The answer of the catalogs is
    /// remembered until a catalog changes, in this session or in another.
    pub fn check(client: &mut SpiClient<'_>) -> Result<Target> {
        Self::check_session(client)?;
        Self::check_catalogs(client)
    }

    /// Checks what the catalogs say, without the checks of the session. For reads, also on a standby.
    pub fn check_catalogs(client: &mut SpiClient<'_>) -> Result<Target> {
        let version = ffi::catalog_version();
        if let Some((known, _)) = REMEMBERED.get().filter(|(_, read_from)| *read_from == version) {
            return Ok(known);
        }
        let target = Self::read(client)?;
        REMEMBERED.set(Some((target, version)));
        Ok(target)
    }

    /// Checks what can change while no catalog changes.
    fn check_session(client: &mut SpiClient<'_>) -> Result<()> {
        check_encoding()?;
        if ffi::in_recovery() || ffi::is_read_only() {
            return Err(Error::ReadOnly);
        }
        let restoring = || ffi::setting(c"timescaledb.restoring");
        let mut known = restoring();
        if known.is_none() {
            // TimescaleDB's own library is loaded by a session's first statement.
            spi::execute(client, "SELECT 1", &[])?;
            known = restoring();
        }
        match known.as_deref() {
            Some("on") => Err(Error::Restoring),
            Some(_) => Ok(()),
            None => Err(Error::TimescaleNotLoaded),
        }
    }

    fn read(client: &mut SpiClient<'_>) -> Result<Target> {
        let names: Vec<String> = WRITTEN.iter().map(ToString::to_string).collect();
        spi::fetch::<Found>(client, statement!("target"), &[names.into()])?.checked()
    }

    /// Makes everything that follows run as the tables' owner, until the returned value is dropped: a
    /// trigger or default of a table then has the privileges of that owner, never those of the extension's owner.
    pub fn become_owner(&self) -> Option<ffi::RunAs> {
        // On tables of a superuser only superusers' functions run (checked above), so no restriction is needed.
        (!self.owner_is_superuser).then(|| ffi::RunAs::restricted(self.owner))
    }

    /// Refuses tables of another schema version. Reads a table, so it must run as that table's owner. The
    /// answer is not remembered, because a migration may leave the catalogs as they are.
    pub fn check_version(client: &mut SpiClient<'_>) -> Result<()> {
        let sql = "SELECT coalesce(max(version), 0)::text FROM ingestion.schema_version";
        let tables: i32 = spi::fetch_kept(client, sql, &[])?;
        if tables == SCHEMA_VERSION {
            return Ok(());
        }
        Err(Error::SchemaVersion { tables, library: SCHEMA_VERSION })
    }
}

/// Refuses a database that does not store text as UTF-8. The text of a file would be stored as it is, and no client
/// would find it again.
pub fn check_encoding() -> Result<()> {
    match ffi::database_encoding() {
        "UTF8" => Ok(()),
        encoding => Err(Error::NotUtf8 { encoding: encoding.to_owned() }),
    }
}

impl Found {
    /// Returns the tables, or the first objection to them.
    fn checked(self) -> Result<Target> {
        if let Some(missing) = self.missing {
            return Err(Error::BadTarget { what: format!("missing: {missing}") });
        }
        if let Some(other) = self.not_tables {
            return Err(Error::BadTarget { what: format!("not a table: {other}") });
        }
        if !self.hypertable {
            return Err(Error::BadTarget { what: "market_data.btc_ticks is not a hypertable".into() });
        }
        if let Some(table) = self.row_security {
            return Err(Error::RowSecurity { table });
        }
        if let Some(owners) = self.owners {
            return Err(Error::UntrustedTarget { what: format!("the tables have different owners: {owners}") });
        }
        if let Some(schemas) = self.foreign_schemas {
            let what = format!("a role that owns a schema, but not the tables in it, could replace them: {schemas}");
            return Err(Error::UntrustedTarget { what });
        }
        if let Some(functions) = self.foreign_functions {
            let what = format!("a function of a role that does not own the tables would run: {functions}");
            return Err(Error::UntrustedTarget { what });
        }
        let oid = |oid: Option<u32>| oid.map(pg_sys::Oid::from);
        let target = || {
            Some(Target {
                owner: oid(self.owner)?,
                owner_is_superuser: self.owner_is_superuser?,
                root: oid(self.root)?,
                symbol_collation: oid(self.symbol_collation)?,
                has_chunk_constraint: self.chunk_constraint,
            })
        };
        target().ok_or_else(|| Error::BadTarget { what: "market_data.btc_ticks has no column symbol".into() })
    }
}
