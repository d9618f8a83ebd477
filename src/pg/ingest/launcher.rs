//! The launcher: sees no database, so that it keeps nobody from dropping one, and keeps the scheduler of the one that is named.

use super::keeper::Keeper;
use crate::pg::shared::{self, Presence, Role};
use crate::pg::{ffi, guc, report, worker};

/// The launcher's life.
pub fn launch() {
    let _presence = Presence::enter(Role::Launcher);
    let mut kept: Option<(pgrx::pg_sys::Oid, Keeper)> = None;
    let mut said = String::new();
    loop {
        ffi::reload_settings();
        let name = guc::database();
        let found = ffi::survive(|| ffi::transaction(|| name.as_deref().and_then(ffi::settled_database)));
        let wanted = found.unwrap_or_default();
        if let (Some(name), None) = (&name, wanted)
            && *name != said
        {
            report::log(&format!("btc_ingest: there is no database {name:?} (btc_ingest.database); waiting for it"));
            said = name.clone();
        }
        if kept.as_ref().map(|(database, _)| *database) != wanted {
            // The scheduler of the former one ends by itself.
            kept = wanted.map(|database| (database, Keeper::default()));
            said.clear();
        }
        let mut pause = guc::poll_interval();
        if let Some((database, keeper)) = &mut kept
            // One that a former launcher has started goes on.
            && !shared::is_there(*database, Role::Scheduler)
            && let Some(wait) = keeper.keep(|| worker::start_scheduler(*database))
        {
            pause = pause.min(wait);
        }
        ffi::idle(pause);
    }
}
