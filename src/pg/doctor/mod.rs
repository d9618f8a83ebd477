//! `doctor()`: everything an installation can get wrong, each with the line that mends it.

mod workers;

use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::Value;

use super::target::Target;
use super::{ffi, guc, spi};
use crate::error::Result;
use crate::load::probe::{self, Probe};
use crate::model::uri::AllowedPrefixes;

/// PostgreSQL takes a connection's options before it knows the setting's rights: the value is dropped when the library is
/// loaded, and the administrator's with it.
const PRELOAD: &str = "Loaded at connect, a client's connection options cannot displace its settings: ALTER SYSTEM SET session_preload_libraries = 'btc_ingest'; SELECT pg_reload_conf();";

/// One line of the report.
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// The line that mends it, where something is to be mended or to be known.
    pub hint: Option<String>,
}

impl Check {
    fn new(name: &'static str, ok: bool, detail: impl Into<String>, hint: Option<&str>) -> Self {
        Check { name, ok, detail: detail.into(), hint: hint.map(str::to_owned) }
    }
}

/// All checks, the local ones first.
pub fn checks() -> Result<Vec<Check>> {
    let mut checks = Spi::connect_mut(|client| -> Result<Vec<Check>> {
        let facts = spi::json(client, include_str!("../../../sql/queries/doctor.sql"), &[])?;
        let mut checks = installation(&facts);
        checks.push(tables(client)?);
        checks.extend(workers::workers(client, is_preloaded(&facts, "btc_ingest"))?);
        Ok(checks)
    })?;
    let allowed = guc::allowed_prefixes();
    checks.push(allow_list(&allowed));
    checks.extend(s3(&allowed.unwrap_or_default())?);
    Ok(checks)
}

fn installation(facts: &Value) -> Vec<Check> {
    let text = |key: &str| facts[key].as_str().unwrap_or("unknown").to_owned();
    let preloaded = |library: &str| is_preloaded(facts, library);
    let server = facts["server_version_num"].as_i64().unwrap_or(0);
    let apache = text("license") != "timescale";
    let installed = text("btc_ingest_version");
    let library = env!("CARGO_PKG_VERSION");
    vec![
        Check::new(
            "preload timescaledb",
            preloaded("timescaledb"),
            format!("shared_preload_libraries = '{}'", text("preload")),
            (!preloaded("timescaledb"))
                .then_some("Put timescaledb into shared_preload_libraries in postgresql.conf and restart the server."),
        ),
        Check::new(
            "preload btc_ingest",
            true,
            if preloaded("btc_ingest") { "preloaded" } else { "not preloaded; loads work without it" },
            (!preloaded("btc_ingest")).then_some(PRELOAD),
        ),
        Check::new(
            "PostgreSQL version",
            server / 10_000 == 15,
            format!("{} (server_version_num {server})", text("server_version")),
            (server / 10_000 != 15).then_some("This build is for PostgreSQL 15."),
        ),
        Check::new(
            "btc_ingest version",
            installed == library,
            format!("SQL {installed}, library {library}"),
            (installed != library).then_some("ALTER EXTENSION btc_ingest UPDATE;"),
        ),
        Check::new("timescaledb version", true, text("timescaledb_version"), None),
        Check::new(
            "timescaledb edition",
            true,
            if apache { "Apache (timescaledb.license = 'apache')" } else { "Community (timescaledb.license = 'timescale')" },
            apache.then_some(
                "Loading needs nothing more. add_job, compression and continuous aggregates need the Community edition.",
            ),
        ),
        Check::new("vector version", true, text("vector_version"), None),
        Check::new(
            "restore mode",
            facts["restoring"] != true,
            format!("timescaledb.restoring = {}", if facts["restoring"] == true { "on" } else { "off" }),
            (facts["restoring"] == true).then_some("SELECT timescaledb_post_restore();"),
        ),
        Check::new(
            "retention",
            true,
            "ticks are kept for ever: this version applies no policy of ops.retention_jobs",
            None,
        ),
    ]
}

fn is_preloaded(facts: &Value, library: &str) -> bool {
    facts["preload"].as_str().unwrap_or_default().split(',').any(|name| name.trim().trim_matches('"') == library)
}

fn tables(client: &mut SpiClient<'_>) -> Result<Check> {
    let result = Target::check(client).and_then(|target| {
        let _owner = target.become_owner();
        Target::check_version(client)
    });
    Ok(match result {
        Ok(()) => Check::new("tables", true, format!("schema version {}", super::SCHEMA_VERSION), None),
        Err(error) => Check::new("tables", false, error.to_string(), error.hint()),
    })
}

fn allow_list(allowed: &Result<AllowedPrefixes>) -> Check {
    const MEND: &str = "ALTER SYSTEM SET btc_ingest.allowed_prefixes = 's3://bucket/prefix'; SELECT pg_reload_conf();";
    match allowed {
        Err(error) => Check::new("allowed_prefixes", false, error.to_string(), Some(MEND)),
        Ok(list) if list.is_empty() => {
            Check::new("allowed_prefixes", false, "empty, which denies every uri", Some(MEND))
        }
        Ok(_) => Check::new("allowed_prefixes", true, guc::allowed_prefixes_text(), None),
    }
}

fn s3(allowed: &AllowedPrefixes) -> Result<Vec<Check>> {
    let settings = guc::s3();
    let endpoint = if settings.endpoint.is_empty() { "AWS".to_owned() } else { settings.endpoint.clone() };
    let prefixes: Vec<(String, String)> =
        allowed.iter().map(|(bucket, prefix)| (bucket.to_owned(), prefix.to_owned())).collect();
    let mut thread = ffi::Thread::start(1, move |reads, events| probe::run(&settings, &prefixes, reads, events))?;
    let probe = thread.next()?.unwrap_or_default();
    Ok(probe_checks(probe, &endpoint))
}

fn probe_checks(probe: Probe, endpoint: &str) -> Vec<Check> {
    let mut checks = Vec::new();
    match probe.credentials {
        Some(Ok(source)) => checks.push(Check::new("AWS credentials", true, format!("from {source}"), None)),
        Some(Err(error)) => {
            let detail = error.detail().map_or_else(|| error.to_string(), |detail| format!("{error}: {detail}"));
            checks.push(Check::new("AWS credentials", false, detail, error.hint()));
        }
        None => {}
    }
    if let Some(region) = probe.region {
        checks.push(Check::new("S3 region", true, region, None));
    }
    for (uri, answer) in probe.prefixes {
        checks.push(match answer {
            Ok(()) => Check::new("S3 reachable", true, format!("{uri} at {endpoint}"), None),
            Err(error) => Check::new("S3 reachable", false, format!("{uri} at {endpoint}: {error}"), error.hint()),
        });
    }
    checks
}
