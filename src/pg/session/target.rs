//! The guard before a load: its tables are there, are TimescaleDB's, and run nobody else's code.

use std::cell::Cell;

use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::Value;

use super::{ffi, spi};
use crate::error::{Error, Result};

/// The schema version that this library's SQL is written for; `migrate()` brings the tables to it.
pub const SCHEMA_VERSION: i32 = 4;

/// Every table that a load or a worker writes, and the one that it reads before.
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

/// Runs `work` behind the guard and with the rights of the tables' owner, on tables of the library's schema version.
pub fn as_owner<T>(work: impl FnOnce(&mut SpiClient<'_>, &Target) -> Result<T>) -> Result<T> {
    Spi::connect_mut(|client| {
        let target = Target::check(client)?;
        let _owner = target.become_owner();
        Target::check_version(client)?;
        work(client, &target)
    })
}

/// What the guard learnt.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Who owns the tables.
    owner: pg_sys::Oid,
    owner_is_superuser: bool,
    /// `market_data.btc_ticks`.
    pub root: pg_sys::Oid,
    /// Collation of `market_data.btc_ticks.symbol`.
    pub symbol_collation: pg_sys::Oid,
    /// Whether TimescaleDB's catalog still has the table chunk_constraint.
    pub has_chunk_constraint: bool,
}

thread_local! {
    /// With the version of the catalogs that it was read from.
    static REMEMBERED: Cell<Option<(Target, u64)>> = const { Cell::new(None) };
}

impl Target {
    /// Checks everything that must hold before the first request to S3. What the catalogs say is remembered until one of
    /// them changes, by whomever.
    pub fn check(client: &mut SpiClient<'_>) -> Result<Target> {
        Self::check_session(client)?;
        Self::check_catalogs(client)
    }

    /// The same for whoever only reads: on a standby, too.
    pub fn check_catalogs(client: &mut SpiClient<'_>) -> Result<Target> {
        let version = ffi::catalog_version();
        if let Some((known, _)) = REMEMBERED.get().filter(|(_, seen)| *seen == version) {
            return Ok(known);
        }
        let target = Self::read(client)?;
        REMEMBERED.set(Some((target, version)));
        Ok(target)
    }

    /// What can change without any catalog changing.
    fn check_session(client: &mut SpiClient<'_>) -> Result<()> {
        if ffi::in_recovery() || ffi::is_read_only() {
            return Err(Error::ReadOnly);
        }
        let restoring = || ffi::setting(c"timescaledb.restoring");
        let mut known = restoring();
        if known.is_none() {
            // TimescaleDB's own library comes with a session's first statement.
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
        let found = spi::json(client, statement!("target"), &[names.into()])?;
        let text = |key: &str| found.get(key).and_then(Value::as_str);
        if let Some(missing) = text("missing") {
            return Err(Error::BadTarget { what: format!("missing: {missing}") });
        }
        if let Some(other) = text("not_tables") {
            return Err(Error::BadTarget { what: format!("not a table: {other}") });
        }
        if found["hypertable"] != true {
            return Err(Error::BadTarget { what: "market_data.btc_ticks is not a hypertable".into() });
        }
        if let Some(table) = text("row_security") {
            return Err(Error::RowSecurity { table: table.into() });
        }
        if let Some(owners) = text("owners") {
            return Err(Error::UntrustedTarget { what: format!("the tables have different owners: {owners}") });
        }
        if let Some(schemas) = text("foreign_schemas") {
            return Err(Error::UntrustedTarget { what: format!("somebody else could replace the tables: {schemas}") });
        }
        if let Some(functions) = text("foreign_functions") {
            return Err(Error::UntrustedTarget { what: format!("somebody else's function would run: {functions}") });
        }
        let oid = |key: &str| pg_sys::Oid::from(found[key].as_u64().unwrap_or_default() as u32);
        Ok(Target {
            owner: oid("owner"),
            owner_is_superuser: found["owner_is_superuser"] == true,
            root: oid("root"),
            symbol_collation: oid("symbol_collation"),
            has_chunk_constraint: found["chunk_constraint"] == true,
        })
    }

    /// Makes everything that follows run as the tables' owner, until the returned value is dropped: a trigger or default
    /// on a table then has its owner's rights, never those of the extension's owner.
    pub fn become_owner(&self) -> Option<ffi::RunAs> {
        // A superuser's tables hold no foreign functions (checked above) and need no restriction.
        (!self.owner_is_superuser).then(|| ffi::RunAs::restricted(self.owner))
    }

    /// Refuses tables of another schema version. Reads a table, so it must run as its owner. Every time: a
    /// migration may leave the catalogs as they were.
    pub fn check_version(client: &mut SpiClient<'_>) -> Result<()> {
        let found =
            spi::json_kept(client, "SELECT coalesce(max(version), 0)::text FROM ingestion.schema_version", &[])?;
        let tables = found.as_i64().unwrap_or(0) as i32;
        if tables == SCHEMA_VERSION {
            return Ok(());
        }
        Err(Error::SchemaVersion { tables, library: SCHEMA_VERSION })
    }
}
