//! The server and what is installed: preloaded libraries, versions, editions, and whether it takes writes at all.

use pgrx::prelude::*;
use serde_json::Value;

use super::Check;
use crate::error::Result;
use crate::pg::session::spi;

/// PostgreSQL takes a connection's options before it knows the setting's rights: the value is dropped when the library is
/// loaded, and the administrator's with it.
const PRELOAD: &str = "Loaded at connect, a client's connection options cannot displace its settings: ALTER SYSTEM SET session_preload_libraries = 'btc_ingest'; SELECT pg_reload_conf();";

/// What is known of the server without any table of ours.
pub struct Server(Value);

impl Server {
    /// Asks.
    pub fn look() -> Result<Server> {
        let sql = statement!("doctor");
        Spi::connect_mut(|client| spi::json(client, sql, &[])).map(Server)
    }

    /// A standby.
    pub fn in_recovery(&self) -> bool {
        self.0["in_recovery"] == true
    }

    /// Whether a library is loaded at start or at connect.
    pub fn is_preloaded(&self, library: &str) -> bool {
        self.text("preload").split(',').any(|name| name.trim().trim_matches('"') == library)
    }

    /// One of the facts; `unknown` where there is none.
    pub fn text(&self, key: &str) -> String {
        self.0[key].as_str().unwrap_or("unknown").to_owned()
    }

    /// The same of a number; 0.
    pub fn number(&self, key: &str) -> i64 {
        self.0[key].as_i64().unwrap_or(0)
    }

    /// The same of a flag; off.
    pub fn flag(&self, key: &str) -> bool {
        self.0[key] == true
    }
}

/// All of it.
pub fn checks(server: &Server) -> Vec<Check> {
    vec![
        standby(server),
        timescaledb_preloaded(server),
        if server.is_preloaded("btc_ingest") {
            Check::good("preload btc_ingest", "preloaded")
        } else {
            Check::known("preload btc_ingest", "not preloaded; loads work without it", PRELOAD)
        },
        server_version(server),
        own_version(server),
        Check::good("timescaledb version", server.text("timescaledb_version")),
        edition(server),
        Check::good("vector version", server.text("vector_version")),
        if server.flag("restoring") {
            Check::bad("restore mode", "timescaledb.restoring = on", "SELECT timescaledb_post_restore();")
        } else {
            Check::good("restore mode", "timescaledb.restoring = off")
        },
    ]
}

fn standby(server: &Server) -> Check {
    if server.in_recovery() {
        Check::known(
            "standby",
            "in recovery: nothing is loaded here",
            "Load on the primary. When this server is promoted, what waits is loaded here: by the workers of a preloaded btc_ingest at once.",
        )
    } else {
        Check::good("standby", "no: this server takes writes")
    }
}

fn timescaledb_preloaded(server: &Server) -> Check {
    let found = format!("shared_preload_libraries = '{}'", server.text("preload"));
    if server.is_preloaded("timescaledb") {
        return Check::good("preload timescaledb", found);
    }
    let hint = "Put timescaledb into shared_preload_libraries in postgresql.conf and restart the server.";
    Check::bad("preload timescaledb", found, hint)
}

fn server_version(server: &Server) -> Check {
    let number = server.number("server_version_num");
    let found = format!("{} (server_version_num {number})", server.text("server_version"));
    if number / 10_000 == 15 {
        Check::good("PostgreSQL version", found)
    } else {
        Check::bad("PostgreSQL version", found, "This build is for PostgreSQL 15.")
    }
}

fn own_version(server: &Server) -> Check {
    let (installed, library) = (server.text("btc_ingest_version"), env!("CARGO_PKG_VERSION"));
    let found = format!("SQL {installed}, library {library}");
    if installed == library {
        Check::good("btc_ingest version", found)
    } else {
        Check::bad("btc_ingest version", found, "ALTER EXTENSION btc_ingest UPDATE;")
    }
}

fn edition(server: &Server) -> Check {
    if server.text("license") == "timescale" {
        return Check::good("timescaledb edition", "Community (timescaledb.license = 'timescale')");
    }
    Check::known(
        "timescaledb edition",
        "Apache (timescaledb.license = 'apache')",
        "Loading needs nothing more. add_job, compression and continuous aggregates need the Community edition.",
    )
}
