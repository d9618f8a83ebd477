//! The guard before a load: the tables exist, they are TimescaleDB's, and no code of a role other than
//! their owner or a superuser runs on them. What it has read stays true while the transaction lasts: the tables
//! are locked against everything that could change it.

use std::cell::RefCell;

use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::{ffi, spi};
use crate::error::{Error, Result};

/// The schema version that this library's SQL is written for; `migrate()` brings the tables to it.
pub const SCHEMA_VERSION: i32 = 10;

/// How many tables the guard locks.
const LOCKED: usize = 27;

/// Every table that a load or a worker writes, and the schema version, which they read before. The order is that
/// of their locks. The last two are locked by loads when they write to them, and not by the guard: an index that is
/// being built on the vectors must not hold up loads that make none, and one on the hypertable no commands.
const WRITTEN: [&str; LOCKED + 2] = [
    "landing.raw_blobs_5m",
    "landing.rejected_ticks",
    "ingestion.stream_offsets",
    "ingestion.objects",
    "ingestion.object_slices",
    "ingestion.id_sets",
    "ingestion.gap_notes",
    "ingestion.assets",
    "ingestion.verifications",
    "ingestion.verification_findings",
    "ingestion.load_history",
    "ingestion.backfills",
    "ingestion.backfill_workers",
    "ingestion.backfill_chunks",
    "ingestion.control",
    "ingestion.outages",
    "ingestion.candles",
    "ingestion.work_units",
    "ingestion.staged_slices",
    "ingestion.staged_candles",
    "ingestion.schema_version",
    "ops.retention_jobs",
    "ops.dropped_ranges",
    "ops.retention_checks",
    "ops.chunk_drops",
    "ops.slice_digests",
    "ops.slice_candles",
    "signals.btc_embeddings",
    "market_data.btc_ticks",
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

/// Runs a `work` that only reads behind the guard and with the privileges of the tables' owner, also in a read-only
/// transaction and on a standby.
pub fn as_reading_owner<T>(work: impl FnOnce(&mut SpiClient<'_>) -> Result<T>) -> Result<T> {
    Spi::connect_mut(|client| {
        let target = Target::check_catalogs(client)?;
        let _owner = target.become_owner();
        work(client)
    })
}

/// What the guard has read of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The role that owns the tables.
    pub owner: pg_sys::Oid,
    owner_is_superuser: bool,
    /// The tables that the guard locks.
    locked: [pg_sys::Oid; LOCKED],
    /// `signals.btc_embeddings`.
    pub embeddings: pg_sys::Oid,
    /// `market_data.btc_ticks`.
    pub root: pg_sys::Oid,
    /// Collation of `market_data.btc_ticks.symbol`.
    pub symbol_collation: pg_sys::Oid,
    /// Whether an index of the hypertable decides what is a duplicate.
    has_key: bool,
    /// Whether TimescaleDB's catalog has the table chunk_constraint, which newer versions do without.
    pub has_chunk_constraint: bool,
}

/// An answer of the catalogs.
#[derive(Clone)]
struct Answer {
    target: Target,
    /// Functions that run on the tables and would find temporary tables and types of the session first.
    exposed: Option<String>,
    /// The version of the catalogs from which it was read.
    version: u64,
}

thread_local! {
    /// The last answer of the catalogs.
    static REMEMBERED: RefCell<Option<Answer>> = const { RefCell::new(None) };
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
    #[serde(deserialize_with = "spi::nullable")]
    exposed_functions: Option<String>,
    /// In the order in which they were named. Null for a table that is missing.
    tables: Vec<Option<u32>>,
    hypertable: bool,
    key: bool,
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
        let _path = ffi::RunAs::same_role();
        let mut locked = None;
        loop {
            let Answer { target, exposed, .. } = Self::known_or_read(client)?;
            // The answer was read, or found unchanged, while its own tables were locked.
            if locked == Some(target.locked) {
                return Self::check_temporary_objects(client, exposed).map(|()| target);
            }
            target.locked.into_iter().for_each(ffi::lock_for_writing);
            locked = Some(target.locked);
        }
    }

    /// Checks again what the catalogs say, after the caller has locked the hypertable or a chunk.
    pub fn must_still_hold(&self, client: &mut SpiClient<'_>) -> Result<()> {
        if Self::check_catalogs(client)? == *self {
            return Ok(());
        }
        Err(Error::TargetChanged)
    }

    fn known_or_read(client: &mut SpiClient<'_>) -> Result<Answer> {
        let version = ffi::catalog_version();
        let known = REMEMBERED.with_borrow(|known| known.clone().filter(|answer| answer.version == version));
        if let Some(answer) = known {
            return Ok(answer);
        }
        let names: Vec<String> = WRITTEN.iter().map(ToString::to_string).collect();
        let found: Found = spi::fetch(client, statement!("target"), &[names.into()])?;
        let exposed = found.exposed_functions.clone();
        let answer = Answer { target: found.checked()?, exposed, version };
        REMEMBERED.set(Some(answer.clone()));
        Ok(answer)
    }

    /// Refuses functions that would find the temporary tables and types of this session first, if it has any.
    fn check_temporary_objects(client: &mut SpiClient<'_>, exposed: Option<String>) -> Result<()> {
        let Some(functions) = exposed else { return Ok(()) };
        match spi::fetch_kept(client, statement!("has_temporary_objects"), &[])? {
            true => Err(Error::TemporaryObjects { functions }),
            false => Ok(()),
        }
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

    /// Makes everything that follows run as the tables' owner, until the returned value is dropped: a
    /// trigger or default of a table then has the privileges of that owner, never those of the extension's owner.
    pub fn become_owner(&self) -> ffi::RunAs {
        // On tables of a superuser only superusers' functions run (checked above), so no restriction is needed.
        if self.owner_is_superuser { ffi::RunAs::same_role() } else { ffi::RunAs::restricted(self.owner) }
    }

    /// Refuses a hypertable without the key that decides what is a duplicate. For everything that stores ticks.
    pub fn must_have_key(&self) -> Result<()> {
        if self.has_key { Ok(()) } else { Err(Error::NoKey { table: "market_data.btc_ticks".into() }) }
    }

    /// Returns whether the tables belong to a superuser.
    pub fn owner_is_superuser(&self) -> bool {
        self.owner_is_superuser
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
            let what = format!("a function, type or view of a role that does not own the tables is used: {functions}");
            return Err(Error::UntrustedTarget { what });
        }
        let oid = |oid: Option<u32>| oid.map(pg_sys::Oid::from);
        let tables: Vec<_> = self.tables.into_iter().filter_map(oid).collect();
        let target = || {
            Some(Target {
                owner: oid(self.owner)?,
                owner_is_superuser: self.owner_is_superuser?,
                locked: tables.get(..LOCKED)?.try_into().ok()?,
                embeddings: *tables.get(LOCKED)?,
                root: oid(self.root)?,
                symbol_collation: oid(self.symbol_collation)?,
                has_key: self.key,
                has_chunk_constraint: self.chunk_constraint,
            })
        };
        target().ok_or_else(|| Error::BadTarget { what: "market_data.btc_ticks has no column symbol".into() })
    }
}
