//! The processes that load what is registered: whether they are there, and whether there is room for them.

use super::Check;
use super::installation::Server;
use crate::pg::session::shared::{self, Role};
use crate::pg::session::{ffi, guc};

/// The processes of this database.
pub fn checks(server: &Server) -> Vec<Check> {
    let wanted = guc::database();
    let preloaded = server.is_preloaded("btc_ingest");
    if preloaded && wanted == Some(server.text("database")) {
        let running = if server.in_recovery() {
            Check::good("workers", "none on a standby: they start when it is promoted")
        } else {
            running()
        };
        return vec![running, room(server)];
    }
    let why = match (preloaded, wanted) {
        (false, _) => "none: btc_ingest is not preloaded".to_owned(),
        (_, None) => "none: btc_ingest.database is empty".to_owned(),
        (_, Some(other)) => format!("none here: btc_ingest.database is {other:?}"),
    };
    vec![Check::known("workers", why, HANDS)]
}

/// How slices load by themselves.
pub const HANDS: &str = "For slices that load by themselves: btc_ingest in shared_preload_libraries and btc_ingest.database set, then restart; or, on the Community edition: SELECT add_job('btc_ingest.run_sweep', '5 minutes');";

fn running() -> Check {
    let found = shared::workers(ffi::current_database());
    let scheduler = found.iter().any(|(role, _)| *role == Role::Scheduler);
    let loaders = found.iter().filter(|(role, _)| matches!(role, Role::Loader(_))).count();
    let most = guc::workers();
    let said = if scheduler { "scheduler running" } else { "no scheduler" };
    let detail = format!("{said}, {loaders} of {most} loaders");
    if most == 0 {
        let hint = "ALTER SYSTEM SET btc_ingest.workers = 2; SELECT pg_reload_conf();";
        return Check::known("workers", format!("{detail}: btc_ingest.workers is 0"), hint);
    }
    // Those beyond the first come with the work.
    if scheduler && loaders > 0 {
        return Check::good("workers", detail);
    }
    Check::bad(
        "workers",
        detail,
        "They are started within seconds of a server's start. Otherwise the server's log says what keeps them: look for btc_ingest, and for 'too many background workers'.",
    )
}

/// Whether `max_worker_processes` has room for them and for those that are always there beside them.
fn room(server: &Server) -> Check {
    let ours = i64::from(guc::workers()) + 2;
    // A launcher, and a scheduler per database.
    let timescaledb = 1 + server.number("timescaledb_schedulers").max(1);
    let replication = i64::from(server.flag("logical_replication"));
    let (needed, most) = (ours + timescaledb + replication, server.number("worker_processes"));
    let detail = format!(
        "{needed} of max_worker_processes = {most} are always taken: {ours} by btc_ingest (launcher, scheduler, loaders), {timescaledb} by TimescaleDB, {replication} by replication"
    );
    if needed <= most {
        return Check::good("worker processes", detail);
    }
    // Backfills, jobs and parallel queries want some, too.
    let hint = format!("ALTER SYSTEM SET max_worker_processes = {}; then restart the server.", needed + 16);
    Check::bad("worker processes", detail, hint)
}
