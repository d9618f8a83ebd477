//! Who holds for long what loads need: locks of the extension, and tables that are locked against writers. Workers are
//! left out: what is slow among them has a check of its own.

use std::collections::BTreeSet;

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint};
use super::slow;
use crate::error::Result;
use crate::pg::session::locks::{self, Held};
use crate::pg::session::target::as_reading_owner;
use crate::pg::session::{ffi, shared, spi};

const NAME: &str = "locks of other sessions";
/// Sessions that are named.
const NAMED: usize = 5;
/// Waiting objects among which that of a lock is looked for.
const LOOK_AT: i64 = 10_000;

/// A session that holds something for long (`doctor_holders.sql`).
#[derive(Deserialize)]
struct Session {
    pid: i32,
    #[serde(deserialize_with = "spi::nullable")]
    role: Option<String>,
    kind: String,
    /// Whether it does nothing in its open transaction.
    #[serde(deserialize_with = "spi::nullable")]
    idle: Option<bool>,
    /// How long the transaction has been open.
    seconds: i64,
    /// The first tables that it has locked against writers, and how many more these are.
    tables: Vec<String>,
    #[serde(deserialize_with = "spi::nullable")]
    more: Option<i64>,
}

/// Checks the sessions of this database. The tables are read only if they are `sound`.
pub fn checks(sound: bool) -> Result<Vec<Check>> {
    let held = locks::held();
    let pids: Vec<i32> = held.iter().map(|lock| lock.pid).collect::<BTreeSet<_>>().into_iter().collect();
    let patience = slow::patience() as f64 / 1e6;
    // The extension's owner sees all processes.
    let sessions: Vec<Session> =
        Spi::connect_mut(|client| spi::fetch(client, statement!("doctor_holders"), &[pids.into(), patience.into()]))?;
    let moving = moving();
    // A session that loads is at work, also if its load takes long.
    let sessions: Vec<Session> = sessions.into_iter().filter(|session| !moving.contains(&session.pid)).collect();
    if sessions.is_empty() {
        return Ok(vec![Check::good(NAME, "none holds for long what loads need")]);
    }
    let uris = if sound { waiting()? } else { Vec::new() };
    let mut texts: Vec<String> = sessions.iter().take(NAMED).map(|session| session.describe(&held, &uris)).collect();
    if sessions.len() > NAMED {
        texts.push(format!("and {} more", sessions.len() - NAMED));
    }
    let pids = sessions.iter().map(|session| session.pid.to_string()).collect::<Vec<_>>().join(", ");
    let hint = Hint::run(format!("SELECT pid, state, xact_start, query FROM pg_stat_activity WHERE pid IN ({pids});"))
        .then(
            "Loads wait or go past what they hold. COMMIT or ROLLBACK there, or pg_terminate_backend(pid), ends that.",
        );
    let detail = texts.join("; ");
    // A statement that runs is at work as well; a transaction in which nothing runs is forgotten.
    let is_forgotten = sessions.iter().any(|session| session.idle == Some(true));
    Ok(vec![if is_forgotten { Check::bad(NAME, detail, hint) } else { Check::known(NAME, detail, hint) }])
}

/// Returns the processes whose load or listing moves.
fn moving() -> BTreeSet<i32> {
    let now = ffi::now();
    shared::loads().iter().filter(|load| now - load.moved <= slow::patience()).map(|load| load.pid).collect()
}

/// Returns objects that wait for a load, and those that are being loaded.
fn waiting() -> Result<Vec<String>> {
    let sql = "SELECT coalesce(json_agg(w.s3_uri), '[]')::text
                 FROM (SELECT o.s3_uri FROM ingestion.objects o WHERE o.status IN ('pending', 'failed')
                        ORDER BY o.registered_at DESC LIMIT $1) AS w";
    let mut uris: Vec<String> = as_reading_owner(|client| spi::fetch(client, sql, &[LOOK_AT.into()]))?;
    uris.extend(shared::loads().iter().map(|load| load.uri.as_str().to_owned()));
    Ok(uris)
}

impl Session {
    fn describe(&self, held: &[Held], uris: &[String]) -> String {
        let mut what: Vec<String> = Vec::new();
        for lock in held.iter().filter(|lock| lock.pid == self.pid) {
            let uri = uris.iter().find(|uri| lock.is_of(uri));
            let text = uri.map_or_else(|| lock.what().to_owned(), |uri| format!("{}: {uri}", lock.what()));
            if !what.contains(&text) {
                what.push(text);
            }
        }
        let more = what.len().saturating_sub(NAMED);
        what.truncate(NAMED);
        if more > 0 {
            what.push(format!("{more} more locks"));
        }
        what.extend(self.tables.iter().map(|table| format!("{table} against writers")));
        if let Some(more) = self.more.filter(|more| *more > 0) {
            what.push(format!("{more} more tables"));
        }
        let (pid, kind, seconds) = (self.pid, &self.kind, self.seconds);
        let role = self.role.as_deref().unwrap_or("unknown");
        let idle = if self.idle == Some(true) { ", which does nothing in its transaction," } else { "" };
        format!("process {pid} ({kind} of {role}){idle} has held for {seconds} s: {}", what.join(", "))
    }
}
