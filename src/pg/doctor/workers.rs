//! The processes that load registered objects: whether they run, and whether the server has room for them.

use super::check::{Check, Hint, set};
use super::installation::Server;
use crate::pg::session::shared::{self, Role};
use crate::pg::session::{ffi, guc};

/// How to have registered objects loaded without a call.
pub const AUTOMATIC_LOADING: &str = "To load registered objects automatically, put btc_ingest into \
     shared_preload_libraries, set btc_ingest.database, and restart the server; or, on the Community edition, SELECT \
     add_job('btc_ingest.run_sweep', '5 minutes');";

/// Checks the processes of this database.
pub fn checks(server: &Server) -> Vec<Check> {
    let wanted = guc::database();
    let preloaded = server.is_preloaded("btc_ingest");
    if preloaded && wanted.as_ref() == Some(&server.database) {
        let running = if server.in_recovery {
            Check::good("workers", "none on a standby: they start when it is promoted")
        } else {
            running()
        };
        return vec![running, room(server)];
    }
    if let (true, Some(missing), false) = (preloaded, &wanted, server.wanted_is_there) {
        let detail = format!("none: btc_ingest.database is {missing:?}, and there is no such database");
        return vec![Check::bad("workers", detail, Hint::run(set("btc_ingest.database", &server.database)))];
    }
    let why = match (preloaded, wanted) {
        (false, _) => "none: btc_ingest is not preloaded".to_owned(),
        (_, None) => "none: btc_ingest.database is empty".to_owned(),
        (_, Some(other)) => format!("none here: btc_ingest.database is {other:?}"),
    };
    vec![Check::known("workers", why, Hint::know(AUTOMATIC_LOADING))]
}

/// Checks that the scheduler and at least one loader run. The other loaders run only while there is work for
/// them.
fn running() -> Check {
    let found = shared::workers(ffi::current_database());
    let scheduler = found.iter().any(|(role, _)| *role == Role::Scheduler);
    let loaders = found.iter().filter(|(role, _)| matches!(role, Role::Loader(_))).count();
    let most = guc::workers();
    let said = if scheduler { "scheduler running" } else { "no scheduler" };
    let detail = format!("{said}, {loaders} of {most} loaders");
    if most == 0 {
        let hint = Hint::run(set("btc_ingest.workers", "2"));
        return Check::known("workers", format!("{detail}: btc_ingest.workers is 0"), hint);
    }
    if scheduler && loaders > 0 {
        return Check::good("workers", detail);
    }
    let hint = "Workers start within seconds after the server. If they do not, the server's log says why: look for \
                btc_ingest, and for 'too many background workers'.";
    Check::bad("workers", detail, Hint::know(hint))
}

/// Checks that `max_worker_processes` has room for the extension's processes and for those of others that
/// always run.
fn room(server: &Server) -> Check {
    // A launcher, a scheduler, and the loaders.
    let ours = 2 + i64::from(guc::workers());
    // A launcher, and a scheduler per database.
    let timescaledb = 1 + server.timescaledb_schedulers.max(1);
    let replication = i64::from(server.logical_replication);
    let (needed, most) = (ours + timescaledb + replication, server.worker_processes);
    let detail = format!(
        "{needed} of max_worker_processes = {most} are always taken: {ours} by btc_ingest (launcher, scheduler, \
         loaders), {timescaledb} by TimescaleDB, {replication} by replication"
    );
    if needed <= most {
        return Check::good("worker processes", detail);
    }
    // Backfills, jobs and parallel queries need some as well.
    let fix = format!("ALTER SYSTEM SET max_worker_processes = {};", needed + 16);
    Check::bad("worker processes", detail, Hint::run(fix).then("Then restart the server."))
}
