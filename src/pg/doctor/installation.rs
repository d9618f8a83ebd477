//! The server and what is installed: preloaded libraries, versions, editions, and whether the server takes
//! writes.

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::pg::session::{guc, spi, target};

/// The text for a version or edition that the server does not tell.
const UNKNOWN: &str = "unknown";

/// Facts about the server that need none of the extension's tables (`doctor.sql`).
#[derive(Deserialize)]
pub struct Server {
    /// `shared_preload_libraries` and `session_preload_libraries`, comma-separated.
    preload: String,
    session_preload: String,
    /// The name of the current database.
    pub database: String,
    /// Whether the database of `btc_ingest.database` exists.
    pub wanted_is_there: bool,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// Whether the transaction takes no writes, as on every standby.
    pub is_read_only: bool,
    server_version: String,
    server_version_num: i64,
    /// `max_worker_processes`.
    pub worker_processes: i64,
    /// Whether `max_logical_replication_workers` is greater than 0.
    pub logical_replication: bool,
    /// TimescaleDB's schedulers that are running.
    pub timescaledb_schedulers: i64,
    #[serde(deserialize_with = "spi::nullable")]
    license: Option<String>,
    restoring: bool,
    #[serde(deserialize_with = "spi::nullable")]
    btc_ingest_version: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    timescaledb_version: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    vector_version: Option<String>,
}

impl Server {
    /// Reads the facts.
    pub fn read() -> Result<Server> {
        Spi::connect_mut(|client| spi::fetch_kept(client, statement!("doctor"), &[]))
    }

    /// Returns whether TimescaleDB is the Community edition.
    pub fn is_community(&self) -> bool {
        self.license.as_deref() == Some("timescale")
    }

    /// Names PostgreSQL and TimescaleDB with their versions.
    pub fn versions(&self) -> String {
        let timescaledb = self.timescaledb_version.as_deref().unwrap_or(UNKNOWN);
        format!("PostgreSQL {} with TimescaleDB {timescaledb}", self.server_version)
    }

    /// Returns whether a library is loaded when the server starts or when a client connects.
    pub fn is_preloaded(&self, library: &str) -> bool {
        self.preload.split(',').any(|name| name.trim().trim_matches('"') == library)
    }
}

/// Checks the server and the installation.
pub fn checks(server: &Server) -> Vec<Check> {
    let version = |version: &Option<String>| version.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    vec![
        standby(server),
        encoding(),
        timescaledb_preloaded(server),
        if server.is_preloaded("btc_ingest") {
            Check::good("preload btc_ingest", "preloaded")
        } else {
            Check::known("preload btc_ingest", "not preloaded; loads work without it", preload(server))
        },
        server_version(server),
        own_version(&version(&server.btc_ingest_version)),
        Check::good("timescaledb version", version(&server.timescaledb_version)),
        edition(server),
        Check::good("index fill", if guc::fills_in_runs() { "in runs" } else { "row by row" }),
        Check::good("vector version", version(&server.vector_version)),
        if server.restoring {
            Check::bad("restore mode", "timescaledb.restoring = on", Hint::run("SELECT timescaledb_post_restore();"))
        } else {
            Check::good("restore mode", "timescaledb.restoring = off")
        },
    ]
}

/// Returns how to load the library at connect. PostgreSQL applies the options of a connection before it knows which
/// roles may change a setting of a library. When the library is loaded later, it drops a client's value, and the
/// administrator's value with it.
fn preload(server: &Server) -> Hint {
    let others = server.session_preload.split(',').map(str::trim).filter(|library| !library.is_empty());
    let libraries: Vec<_> = others.chain(["btc_ingest"]).map(|library| format!("'{library}'")).collect();
    let fix =
        format!("ALTER SYSTEM SET session_preload_libraries = {}; SELECT pg_reload_conf();", libraries.join(", "));
    Hint::run(fix).then("The connection options of a client then cannot replace the administrator's settings.")
}

fn standby(server: &Server) -> Check {
    if server.in_recovery {
        Check::known(
            "standby",
            "in recovery: nothing is loaded here",
            Hint::know(
                "Load on the primary. After a promotion of this server, the workers of a preloaded btc_ingest load \
                 the waiting objects here at once.",
            ),
        )
    } else {
        Check::good("standby", "no: this server takes writes")
    }
}

fn encoding() -> Check {
    match target::check_encoding() {
        Ok(()) => Check::good("encoding", "UTF8"),
        Err(error) => Check::error("encoding", error.to_string(), &error),
    }
}

fn timescaledb_preloaded(server: &Server) -> Check {
    let found = format!("shared_preload_libraries = '{}'", server.preload);
    if server.is_preloaded("timescaledb") {
        return Check::good("preload timescaledb", found);
    }
    let hint = "Put timescaledb into shared_preload_libraries in postgresql.conf and restart the server.";
    Check::bad("preload timescaledb", found, Hint::know(hint))
}

fn server_version(server: &Server) -> Check {
    let number = server.server_version_num;
    let found = format!("{} (server_version_num {number})", server.server_version);
    if number / 10_000 == 15 {
        Check::good("PostgreSQL version", found)
    } else {
        Check::bad("PostgreSQL version", found, Hint::know("This build is for PostgreSQL 15."))
    }
}

fn own_version(installed: &str) -> Check {
    let library = env!("CARGO_PKG_VERSION");
    let found = format!("SQL {installed}, library {library}");
    if installed == library {
        Check::good("btc_ingest version", found)
    } else {
        Check::bad("btc_ingest version", found, Hint::run("ALTER EXTENSION btc_ingest UPDATE;"))
    }
}

fn edition(server: &Server) -> Check {
    if server.is_community() {
        return Check::good("timescaledb edition", "Community (timescaledb.license = 'timescale')");
    }
    Check::known(
        "timescaledb edition",
        "Apache (timescaledb.license = 'apache')",
        Hint::know(
            "Loading needs nothing more. add_job, compression and continuous aggregates need the Community edition.",
        ),
    )
}
