//! Whether what waits is being loaded, and what has failed.

use std::time::Duration;

use pgrx::prelude::*;
use serde_json::Value;

use super::Check;
use super::workers::HANDS;
use crate::error::Result;
use crate::pg::session::target::as_owner;
use crate::pg::session::{guc, locks, spi};

/// Of each kind of what waits, as many are looked at.
const LOOK_AT: i64 = 1_000;
/// So many polls without any attempt are no pause but a standstill.
const POLLS: u32 = 10;
/// And so long at least: a loader may be waiting for S3 to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Whoever came by in this time may come again, unknown as he is: cron, for example.
const VISIT: Duration = Duration::from_secs(3600);

/// Pause, queue and failures.
pub fn checks() -> Result<Vec<Check>> {
    // Who is at work is the extension's owner's to see, the tables are their own owner's.
    let hands = Spi::connect_mut(|client| spi::json(client, statement!("doctor_hands"), &[]))?;
    let queue = as_owner(|client, _| spi::json(client, statement!("doctor_queue"), &[LOOK_AT.into()]))?;
    Ok(vec![waiting(&queue, &hands), failures(&queue)])
}

fn waiting(queue: &Value, hands: &Value) -> Check {
    const NAME: &str = "queue";
    let waiting = queue["waiting"].as_i64().unwrap_or(0);
    let seconds = |of: &Value, key: &str| of[key].as_f64().map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
    let oldest = seconds(queue, "oldest_s").unwrap_or_default();
    let detail = match waiting {
        0 => "nothing waits".to_owned(),
        _ if waiting >= LOOK_AT => format!("{LOOK_AT} objects or more wait, for {} s", oldest.as_secs()),
        _ => format!("{waiting} objects wait, for {} s at most", oldest.as_secs()),
    };
    if queue["paused"] == true {
        let text = |key: &str| queue[key].as_str().unwrap_or("unknown").to_owned();
        let detail = format!("paused by {} since {}; {detail}", text("paused_by"), text("paused_at"));
        return Check::bad(NAME, detail, "SELECT btc_ingest.resume_ingest();");
    }
    if waiting == 0 {
        return Check::good(NAME, detail);
    }
    let uris: Vec<String> = serde_json::from_value(queue["uris"].clone()).unwrap_or_default();
    if locks::any_is_loading(&uris) {
        return Check::good(NAME, format!("{detail}; being loaded"));
    }
    let tried = seconds(queue, "tried_s");
    let nobody = hands["loaders"] == 0 && hands["jobs"] == 0;
    let patience = if nobody {
        VISIT
    } else {
        let job = seconds(hands, "pause_s").filter(|_| hands["loaders"] == 0).unwrap_or_default();
        (guc::poll_interval() * POLLS).max(job * 3).max(PATIENCE)
    };
    let visited = tried.is_some_and(|tried| tried < patience);
    if nobody && !visited {
        let hint = format!("SELECT * FROM btc_ingest.sweep(); loads them now. {HANDS}");
        return Check::bad(NAME, format!("{detail}, and nobody is there to load them"), hint);
    }
    if oldest < patience || visited {
        return Check::good(NAME, detail);
    }
    let tried = tried.map_or("nothing was ever tried".to_owned(), |tried| {
        format!("the last attempt ended {} s ago", tried.as_secs())
    });
    Check::bad(
        NAME,
        format!("{detail}; {tried}"),
        "SELECT * FROM btc_ingest.queue ORDER BY registered_at; SELECT * FROM btc_ingest.workers(); and the server's log: a worker that hangs is ended by SELECT pg_terminate_backend(pid); and started again.",
    )
}

fn failures(queue: &Value) -> Check {
    const NAME: &str = "failures";
    let count = |key: &str| queue[key].as_i64().unwrap_or(0);
    let (failed, quarantined) = (count("failed"), count("quarantined"));
    if failed + quarantined == 0 {
        return Check::good(NAME, "none");
    }
    let errors = queue["errors"].as_str().unwrap_or_default();
    let detail = format!("{quarantined} objects are quarantined, {failed} will be tried again ({errors})");
    let hint = "SELECT * FROM btc_ingest.failures; and, when the cause is mended: SELECT * FROM btc_ingest.retry(uri); or SELECT * FROM btc_ingest.requeue_failed();";
    if quarantined == 0 { Check::known(NAME, detail, hint) } else { Check::bad(NAME, detail, hint) }
}
