//! `watch` and `unwatch`.

use pgrx::JsonB;
use serde_json::Value;

use super::watch::Watch;
use crate::error::Result;
use crate::pg::session::shared::{self, Role, wake_at_commit};
use crate::pg::session::target::as_owner;
use crate::pg::session::{ffi, report, spi};

/// Watches a prefix, or changes how it is watched; what was done.
pub fn watch(prefix: &str, options: Value) -> Result<String> {
    let watch = Watch::new(prefix, options.clone());
    let parsed = watch.parsed()?;
    let sorts = watch.pattern()?.sorts_by_time();
    let before = as_owner(|client, _| {
        let args = [prefix.to_owned().into(), JsonB(options.clone()).into()];
        spi::json(client, statement!("discover_watch"), &args)
    })?;
    let done = match before {
        Value::Null => "watching",
        ref same if *same == options => "was watched so already:",
        _ => "changed:",
    };
    wake_at_commit();
    let said = |key: &str, default: &'static str| options[key].as_str().unwrap_or(default).to_owned();
    let (interval, full_interval) = (said("interval", "1 minute"), said("full_interval", "1 hour"));
    let how = match (parsed.enabled, sorts) {
        (false, _) => "not listed, as enabled is false".to_owned(),
        (true, true) => format!("listed every {interval}, from its beginning every {full_interval}"),
        (true, false) => format!("listed from its beginning every {interval}"),
    };
    let scheduled =
        shared::workers(ffi::current_database()).into_iter().any(|(role, _)| matches!(role, Role::Scheduler));
    if parsed.enabled && !scheduled {
        report::notice(
            "no worker of btc_ingest runs in this database that would list it; SELECT * FROM btc_ingest.discover() does it once, SELECT * FROM btc_ingest.doctor() says more",
        );
    }
    Ok(format!("{done} {prefix}, {how}"))
}

/// Watches a prefix no more; what was done.
pub fn unwatch(prefix: &str) -> Result<String> {
    let args = [prefix.to_owned().into()];
    let sql = statement!("discover_unwatch");
    let gone = as_owner(|client, _| spi::execute(client, sql, &args))?;
    wake_at_commit();
    Ok(match gone {
        0 => format!("{prefix} was not watched"),
        _ => format!("{prefix} is watched no more; what was found there stays registered"),
    })
}
