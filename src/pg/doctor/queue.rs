//! The queue: whether it is paused, and whether waiting objects are being loaded.

use std::time::Duration;

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint};
use super::workers::AUTOMATIC_LOADING;
use crate::error::Result;
use crate::pg::session::target::as_reading_owner;
use crate::pg::session::{guc, locks, spi};

/// Waiting objects of each kind that are looked at.
const LOOK_AT: i64 = 1_000;
/// Polls without any attempt after which the queue stands still.
const POLLS: u32 = 10;
/// Scheduled runs of a job without any attempt after which the queue stands still.
const RUNS: u32 = 3;
/// The shortest time after which the queue stands still. A loader may be waiting for S3.
const PATIENCE: Duration = Duration::from_secs(30);
/// An attempt within this time shows that something outside of the database, for example cron, calls
/// `sweep()`.
const VISIT: Duration = Duration::from_secs(3600);

/// What loads waiting objects by itself (`doctor_hands.sql`).
#[derive(Deserialize)]
struct Loaders {
    /// Workers of this database.
    loaders: i64,
    /// Jobs that call `run_sweep`.
    jobs: i64,
    /// The longest interval of these jobs in seconds. `None` if there is no job.
    #[serde(deserialize_with = "spi::nullable")]
    pause_s: Option<f64>,
}

/// What waits (`doctor_queue.sql`).
#[derive(Deserialize)]
struct Queue {
    #[serde(deserialize_with = "spi::nullable")]
    paused: Option<bool>,
    #[serde(deserialize_with = "spi::nullable")]
    paused_by: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    paused_at: Option<String>,
    /// How many objects wait, at most [`LOOK_AT`] of each kind.
    waiting: i64,
    /// How long the first of them has been waiting, in seconds. `None` if none waits.
    #[serde(deserialize_with = "spi::nullable")]
    oldest_s: Option<f64>,
    /// The objects that wait.
    uris: Vec<String>,
    /// How long ago the last attempt at any object ended, in seconds. `None` if there was none.
    #[serde(deserialize_with = "spi::nullable")]
    tried_s: Option<f64>,
}

/// Checks the pause and the queue.
pub fn checks() -> Result<Vec<Check>> {
    // The extension's owner sees all processes; only the owner of the tables reads them.
    let loaders: Loaders = Spi::connect_mut(|client| spi::fetch_kept(client, statement!("doctor_hands"), &[]))?;
    let queue: Queue = as_reading_owner(|client| spi::fetch(client, statement!("doctor_queue"), &[LOOK_AT.into()]))?;
    Ok(vec![waiting(&queue, &loaders)])
}

fn waiting(queue: &Queue, loaders: &Loaders) -> Check {
    const NAME: &str = "queue";
    let oldest = queue.oldest_s.map(seconds).unwrap_or_default();
    let detail = match queue.waiting {
        0 => "nothing waits".to_owned(),
        LOOK_AT.. => format!("{LOOK_AT} objects or more wait, for {} s", oldest.as_secs()),
        waiting => format!("{waiting} objects wait, for {} s at most", oldest.as_secs()),
    };
    if queue.paused == Some(true) {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        let detail = format!("paused by {} since {}; {detail}", text(&queue.paused_by), text(&queue.paused_at));
        return Check::bad(NAME, detail, Hint::run("SELECT btc_ingest.resume_ingest();"));
    }
    if queue.waiting == 0 {
        return Check::good(NAME, detail);
    }
    if locks::any_is_loading(&queue.uris) {
        return Check::good(NAME, format!("{detail}; being loaded"));
    }
    let patience = loaders.patience();
    let tried = queue.tried_s.map(seconds);
    let visited = tried.is_some_and(|tried| tried < patience);
    if loaders.are_missing() && !visited {
        let hint = Hint::run("SELECT * FROM btc_ingest.sweep();").then(AUTOMATIC_LOADING);
        return Check::bad(NAME, format!("{detail}, and no worker or job is there to load them"), hint);
    }
    if oldest < patience || visited {
        return Check::good(NAME, detail);
    }
    let tried = tried.map_or("nothing was ever tried".to_owned(), |tried| {
        format!("the last attempt ended {} s ago", tried.as_secs())
    });
    let fix = "SELECT w.*, pg_terminate_backend(w.pid) FROM btc_ingest.workers() w WHERE w.role LIKE 'loader%';";
    let remark = "This ends loaders that hang; others take their place. The server's log may say why they hang.";
    Check::bad(NAME, format!("{detail}; {tried}"), Hint::run(fix).then(remark))
}

impl Loaders {
    /// Returns whether neither a worker nor a job loads what waits.
    fn are_missing(&self) -> bool {
        self.loaders == 0 && self.jobs == 0
    }

    /// Returns how long objects may wait without any attempt before the queue stands still.
    fn patience(&self) -> Duration {
        if self.are_missing() {
            return VISIT;
        }
        let job = self.pause_s.filter(|_| self.loaders == 0).map(seconds).unwrap_or_default();
        (guc::poll_interval() * POLLS).max(job * RUNS).max(PATIENCE)
    }
}

/// Converts seconds. A time that lies ahead because a clock was set back counts as now.
fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.max(0.0))
}
