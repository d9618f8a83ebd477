//! The launcher: it keeps the scheduler of `btc_ingest.database` running. It is connected to no database, so
//! that it blocks no DROP DATABASE.

use pgrx::pg_sys;

use super::supervisor::Supervisor;
use crate::pg::session::shared::{self, Presence, Role};
use crate::pg::session::{ffi, guc, processes, report};

/// Runs the launcher until the server stops.
pub fn run() {
    let _presence = Presence::enter(Role::Launcher);
    let mut kept: Option<(pg_sys::Oid, Supervisor)> = None;
    let mut reported = String::new();
    loop {
        ffi::reload_settings();
        let name = guc::database();
        let find = || Ok(name.as_deref().and_then(ffi::settled_database));
        let wanted = ffi::survive(|| ffi::transaction(find)).unwrap_or_default();
        if let (Some(name), None) = (&name, wanted)
            && *name != reported
        {
            report::log(&format!("btc_ingest: there is no database {name:?} (btc_ingest.database); waiting for it"));
            reported = name.clone();
        }
        if kept.as_ref().map(|(database, _)| *database) != wanted {
            // The scheduler of the earlier database ends by itself.
            kept = wanted.map(|database| (database, Supervisor::default()));
            reported.clear();
        }
        let mut pause = guc::poll_interval();
        if let Some((database, supervisor)) = &mut kept
            // A scheduler that an earlier launcher has started still runs.
            && !shared::is_there(*database, Role::Scheduler)
            && let Some(wait) = supervisor.keep(|| processes::start_scheduler(*database))
        {
            pause = pause.min(wait);
        }
        ffi::idle(pause);
    }
}
