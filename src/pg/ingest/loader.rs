//! A loader: whatever is pending and no backfill's, one object after another.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pgrx::spi::SpiClient;

use super::fit::{self, Fit};
use crate::error::Result;
use crate::model::report::LoadReport;
use crate::pg::ffi::Failure;
use crate::pg::queue::claim::Claim;
use crate::pg::queue::feed::feed;
use crate::pg::queue::loading::{Loading, Source};
use crate::pg::queue::{attempt, control, live};
use crate::pg::registry::Seen;
use crate::pg::shared::{self, Presence, Role};
use crate::pg::worker::{tx, tx_with_all_rights};
use crate::pg::{ffi, guc, report, spi};

/// A loader beyond the first ends when it had nothing to do for so long.
const IDLE: Duration = Duration::from_secs(60);

/// What came of a turn.
enum Turn {
    /// There was something to do.
    Moved,
    /// Nothing, for so long.
    Idle(Duration),
    /// The process is to end; the scheduler starts another one if there is to be one.
    End,
}

/// The life of one loader.
pub fn load(slot: i32) {
    if !tx(|client| take_slot(client, slot)) {
        return;
    }
    // Whatever it does: nobody's lock may keep it from everything else.
    ffi::set_for_session(c"lock_timeout", c"1s");
    let _presence = Presence::enter(Role::Loader(slot));
    ffi::end_in_order();
    let mut loader = Loader { loading: Loading::default(), versions: None };
    let mut worked = Instant::now();
    while !ffi::is_ending() {
        ffi::reload_settings();
        let wakes = shared::wakes();
        match ffi::survive(|| if slot < guc::workers() { loader.turn() } else { Ok(Turn::End) }) {
            Ok(Ok(Turn::Moved)) => worked = Instant::now(),
            Ok(Ok(Turn::Idle(pause))) => {
                ffi::show_activity(None);
                if slot > 0 && worked.elapsed() > IDLE {
                    break;
                }
                if shared::wakes() == wakes {
                    ffi::idle(pause);
                }
            }
            Ok(Ok(Turn::End)) => break,
            Ok(Err(error)) => {
                loader.trouble(slot, &Failure::Ours(error));
                break;
            }
            Err(_) if ffi::is_ending() => break,
            // Whatever it was, a fresh process is the best answer; the scheduler takes its time if that happens again.
            Err(failure) => {
                loader.trouble(slot, &failure);
                break;
            }
        }
    }
    loader.loading.end();
    ffi::show_activity(None);
}

/// One process per number.
fn take_slot(client: &mut SpiClient<'_>, slot: i32) -> Result<bool> {
    let lock = "SELECT pg_try_advisory_lock(hashtextextended(format('btc_ingest.loader:%s', $1::int), 0))::text";
    Ok(spi::json_kept(client, lock, &[slot.into()])? == true)
}

struct Loader {
    loading: Loading,
    /// What the process has begun with.
    versions: Option<String>,
}

impl Loader {
    fn turn(&mut self) -> Result<Turn> {
        let (fit, paused) = tx_with_all_rights(|client| {
            let fit = fit::look(client)?;
            let paused = matches!(fit, Fit::Ready(_)) && control::is_paused(client)?;
            Ok((fit, paused))
        });
        let Fit::Ready(versions) = fit else { return Ok(Turn::End) };
        if self.versions.get_or_insert_with(|| versions.clone()) != &versions {
            return Ok(Turn::End);
        }
        if paused {
            self.loading.give_back();
            return Ok(Turn::Idle(guc::poll_interval()));
        }
        let mut source = Live { out_of_resources: false };
        let moved = self.loading.work(&mut source)?;
        if source.out_of_resources {
            return Ok(Turn::Idle(Duration::from_millis(guc::retry().backoff_ms as u64)));
        }
        if moved {
            return Ok(Turn::Moved);
        }
        self.loading.write_offsets();
        Ok(Turn::Idle(tx(live::next_look).unwrap_or(Duration::MAX).min(guc::poll_interval())))
    }

    /// Books what went wrong outside of any object's load, or with the commit of one.
    fn trouble(&mut self, slot: i32, failure: &Failure) {
        let (sqlstate, message) = failure.words();
        report::log(&format!("btc_ingest loader {slot}: {message} ({sqlstate})"));
        shared::note_trouble(&sqlstate, &message);
        let _ = ffi::survive(|| self.loading.fail_in_work(failure));
    }
}

/// Objects that no backfill owns, as a loader's source.
struct Live {
    out_of_resources: bool,
}

impl Source for Live {
    fn look_around(&mut self, client: &mut SpiClient<'_>) -> Result<()> {
        feed(client)?;
        live::retry_due(client, None).map(drop)
    }

    fn claim(&mut self, client: &mut SpiClient<'_>, own: &HashSet<String>, most: usize) -> Result<Vec<Claim>> {
        live::claim(client, guc::queue_order(), None, own, most)
    }

    fn count(&self, _: &mut SpiClient<'_>, _: &Claim, _: Option<(&LoadReport, Instant)>) -> Result<()> {
        Ok(())
    }

    fn out_of_resources(&mut self, uri: &str, seen: &Seen, failure: &Failure) {
        self.out_of_resources = true;
        let (sqlstate, message) = failure.words();
        shared::note_trouble(&sqlstate, &message);
        tx(|client| attempt::fail(client, uri, failure, seen));
    }
}
