//! A loader: a worker that loads the live objects of the queue, one after another.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pgrx::spi::SpiClient;

use super::compatibility::{self, Compatibility};
use crate::error::Result;
use crate::model::report::LoadReport;
use crate::pg::load::known::Version;
use crate::pg::queue::claim::Claim;
use crate::pg::queue::enqueue::enqueue;
use crate::pg::queue::loading::{Loading, Source};
use crate::pg::queue::outage::{self, Probe};
use crate::pg::queue::{attempt, control, live};
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::locks::Lock;
use crate::pg::session::shared::{self, Presence, Role};
use crate::pg::session::tx::{tx, tx_as_superuser};
use crate::pg::session::{guc, lock_waits, report};

/// The time without work after which a loader ends, except the first one.
const IDLE: Duration = Duration::from_secs(60);

/// The result of a turn.
enum Turn {
    /// There was work.
    Moved,
    /// There was no work, so the loader may sleep that long.
    Idle(Duration),
    /// The process must end. The scheduler starts another one if it is needed.
    End,
}

/// Runs a loader until it must end.
pub fn run(slot: i32) {
    match ffi::survive(|| tx(|_| Ok(Lock::Loader(slot).try_for_session()))) {
        Ok(true) => {}
        Ok(false) => return,
        Err(failure) => return log(slot, &failure),
    }
    // A client that holds a lock for a long time must not keep the loader from other objects.
    lock_waits::limit_in_process();
    let _presence = Presence::enter(Role::Loader(slot));
    ffi::end_in_order();
    let mut loader = Loader { loading: Loading::of(Lock::Loader(slot)), versions: None };
    let mut worked = Instant::now();
    while !ffi::is_ending() {
        ffi::reload_settings();
        let wakes = shared::wakes();
        match ffi::survive(|| if slot < guc::workers() { loader.turn() } else { Ok(Turn::End) }) {
            Ok(Turn::Moved) => worked = Instant::now(),
            Ok(Turn::Idle(pause)) => {
                ffi::show_activity(None);
                if slot > 0 && worked.elapsed() > IDLE {
                    break;
                }
                if shared::wakes() == wakes {
                    ffi::idle(pause);
                }
            }
            Ok(Turn::End) => break,
            Err(_) if ffi::is_ending() => break,
            // A new process begins with a clean state. If loaders fail again and again, the scheduler pauses
            // before it starts the next one.
            Err(failure) => {
                log(slot, &failure);
                let _ = ffi::survive(|| loader.loading.fail_current(&failure));
                break;
            }
        }
    }
    loader.loading.end();
    ffi::show_activity(None);
}

/// Reports a failure that occurred outside of a load, or at the commit of one.
fn log(slot: i32, failure: &Failure) {
    let (sqlstate, message) = failure.sqlstate_and_message();
    report::log(&format!("btc_ingest loader {slot}: {message} ({sqlstate})"));
    shared::note_error(&sqlstate, &message);
}

struct Loader {
    loading: Loading,
    /// The versions of the extensions when the process began.
    versions: Option<String>,
}

impl Loader {
    fn turn(&mut self) -> Result<Turn> {
        let found = tx_as_superuser(|client| {
            let Compatibility::Ready { versions, target } = compatibility::check(client)? else { return Ok(None) };
            let _owner = target.become_owner();
            Ok(Some((versions, control::read(client)?)))
        })?;
        let Some((versions, control)) = found else { return Ok(Turn::End) };
        if self.versions.get_or_insert_with(|| versions.clone()) != &versions {
            return Ok(Turn::End);
        }
        if !self.loading.has_place()? {
            return Ok(Turn::End);
        }
        if control.paused {
            self.loading.release_all()?;
            return Ok(Turn::Idle(guc::poll_interval()));
        }
        let mut source = Live { out_of_resources: false, probe: outage::probe(control.probes)? };
        let moved = self.loading.work(&mut source)?;
        if source.out_of_resources {
            return Ok(Turn::Idle(Duration::from_millis(guc::retry().backoff_ms as u64)));
        }
        if moved {
            return Ok(Turn::Moved);
        }
        self.loading.write_offsets();
        Ok(Turn::Idle(tx(live::next_look)?.unwrap_or(Duration::MAX).min(guc::poll_interval())))
    }
}

/// The source of a loader: the live objects.
struct Live {
    out_of_resources: bool,
    /// The prefix of which one object is to be tried because it cannot be listed.
    probe: Option<Probe>,
}

impl Source for Live {
    fn refresh_queue(&mut self, client: &mut SpiClient<'_>) -> Result<()> {
        enqueue(client)?;
        live::retry_due(client, None).map(drop)
    }

    fn claim(&mut self, client: &mut SpiClient<'_>, own: &HashSet<String>, most: usize) -> Result<Vec<Claim>> {
        if let Some(probe) = self.probe.take()
            && let Some(claim) = live::claim_probe(client, &probe, None, own)?
        {
            return Ok(vec![claim]);
        }
        live::claim(client, guc::queue_order(), None, own, most)
    }

    fn count(&self, _: &mut SpiClient<'_>, _: &Claim, _: Option<(&LoadReport, Instant)>) -> Result<()> {
        Ok(())
    }

    fn out_of_resources(&mut self, uri: &str, version: &Version, failure: &Failure) -> Result<()> {
        self.out_of_resources = true;
        let (sqlstate, message) = failure.sqlstate_and_message();
        shared::note_error(&sqlstate, &message);
        tx(|client| attempt::fail(client, uri, failure, version))
    }
}
