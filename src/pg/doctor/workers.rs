//! Whether slices flow: the processes that load them, what they said last, and what waits for them.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::SpiClient;

use super::Check;
use crate::error::Result;
use crate::pg::shared::{self, Role};
use crate::pg::{ffi, guc, spi};

/// Trouble that is older has passed.
const RECENT_US: i64 = 3_600_000_000;

/// The processes of this database.
pub fn workers(client: &mut SpiClient<'_>, preloaded: bool) -> Result<Vec<Check>> {
    let here = spi::json(client, "SELECT to_json(current_database())::text", &[])?;
    let wanted = guc::database();
    if !preloaded || wanted.as_deref() != here.as_str() {
        let why = match (preloaded, wanted) {
            (false, _) => "none: btc_ingest is not preloaded".to_owned(),
            (_, None) => "none: btc_ingest.database is empty".to_owned(),
            (_, Some(other)) => format!("none here: btc_ingest.database is {other:?}"),
        };
        let hint = "For slices that load by themselves: btc_ingest in shared_preload_libraries and btc_ingest.database set, then restart; or SELECT add_job('btc_ingest.run_sweep', '5 minutes');";
        return Ok(vec![Check::new("workers", true, why, Some(hint))]);
    }
    let found = shared::workers(ffi::current_database());
    let scheduler = found.iter().any(|(role, _)| *role == Role::Scheduler);
    let loaders = found.iter().filter(|(role, _)| matches!(role, Role::Loader(_))).count();
    let none_wanted = guc::workers() == 0;
    let ok = scheduler && (loaders > 0 || none_wanted);
    let hint = (!ok).then_some(
        "Look into the server's log for btc_ingest; max_worker_processes must have room for a launcher, a scheduler and btc_ingest.workers loaders.",
    );
    let detail = format!(
        "{}, {loaders} of {} loaders",
        if scheduler { "scheduler running" } else { "no scheduler" },
        guc::workers()
    );
    let mut checks = vec![Check::new("workers", ok, detail, hint)];
    checks.push(match shared::trouble() {
        None => Check::new("last error of a worker", true, "none since the server was started", None),
        Some(trouble) => {
            let at = TimestampWithTimeZone::try_from(trouble.at).map(|at| at.to_string()).unwrap_or_default();
            let detail = format!("{at}: {} ({})", trouble.message.as_str(), trouble.sqlstate.as_str());
            let recent = ffi::now() - trouble.at < RECENT_US;
            Check::new(
                "last error of a worker",
                !recent,
                detail,
                recent.then_some("SELECT * FROM btc_ingest.failures; and the server's log say more."),
            )
        }
    });
    Ok(checks)
}
