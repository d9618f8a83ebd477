//! The administrator's commands on watches: `watch` and `unwatch`.

use pgrx::JsonB;
use serde_json::Value;

use super::watch::Watch;
use crate::error::Result;
use crate::model::watch::merge;
use crate::pg::session::shared::{self, Role, wake_at_commit};
use crate::pg::session::target::as_owner;
use crate::pg::session::{ffi, report, spi};

/// Watches a prefix, or changes the options of its watch: null removes one, and those that are not given stay. Returns
/// a sentence that says what was done.
pub fn watch(prefix: &str, options: Value) -> Result<String> {
    // A prefix that cannot be watched is refused before the tables are read.
    let sorts_by_time = Watch::new(prefix, Value::Null).pattern()?.sorts_by_time();
    let (before, watch, enabled) = as_owner(|client, _| {
        let name = || prefix.to_owned().into();
        let before: Option<Value> = spi::fetch(client, statement!("discover_options"), &[name()])?;
        let watch = Watch::new(prefix, merge(before.as_ref().unwrap_or(&Value::Null), &options)?);
        let enabled = watch.parsed()?.enabled;
        let args = [name(), JsonB(watch.options.clone()).into()];
        spi::execute(client, statement!("discover_watch"), &args)?;
        Ok((before, watch, enabled))
    })?;
    wake_at_commit();
    if enabled && !is_scheduler_running() {
        report::notice(
            "no worker of btc_ingest runs in this database that would list it; SELECT * FROM btc_ingest.discover() \
             does it once, SELECT * FROM btc_ingest.doctor() says more",
        );
    }
    let done = match before {
        None => "watching",
        Some(before) if before == watch.options => "was watched so already:",
        Some(_) => "changed:",
    };
    Ok(format!("{done} {prefix}, {}", frequency(&watch.options, enabled, sorts_by_time)))
}

/// Says how often the prefix is listed, with the intervals as the administrator wrote them.
fn frequency(options: &Value, enabled: bool, sorts_by_time: bool) -> String {
    let given = |key: &str| options.get(key).and_then(Value::as_str);
    let interval = given("interval").unwrap_or("1 minute");
    let full_interval = given("full_interval").unwrap_or("1 hour");
    match (enabled, sorts_by_time) {
        (false, _) => "not listed, as enabled is false".to_owned(),
        (true, true) => format!("listed every {interval}, from its beginning every {full_interval}"),
        (true, false) => format!("listed from its beginning every {interval}"),
    }
}

fn is_scheduler_running() -> bool {
    shared::is_there(ffi::current_database(), Role::Scheduler)
}

/// Ends the watch of a prefix. Returns a sentence that says what was done.
pub fn unwatch(prefix: &str) -> Result<String> {
    let args = [prefix.to_owned().into()];
    let ended = as_owner(|client, _| spi::execute(client, statement!("discover_unwatch"), &args))?;
    wake_at_commit();
    Ok(match ended {
        0 => format!("{prefix} was not watched"),
        _ => format!("{prefix} is watched no more; what was found there stays registered"),
    })
}
