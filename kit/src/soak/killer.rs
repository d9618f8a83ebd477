//! The killer: ends processes of the server with SIGKILL, at random moments while they load.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::actors::Stage;
use super::options::Options;
use super::session::Session;
use super::soak_fixture::SoakFixture;
use crate::process::{is_running, kill};
use crate::ticks::Random;
use crate::wait::wait_until;

/// How long it waits for a process that loads before it kills an idle one.
const PATIENCE: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(3);
const SOON: Duration = Duration::from_secs(60);

/// What it kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// A worker that loads what is registered.
    Loader,
    /// A worker of the backfill.
    Backfill,
    /// A client's backend, in which a sweep runs.
    Sweep,
    /// The postmaster, and with it all processes.
    Postmaster,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Victim::Loader => "loader",
            Victim::Backfill => "backfill worker",
            Victim::Sweep => "sweeping backend",
            Victim::Postmaster => "postmaster",
        })
    }
}

/// How often it killed a process of each kind.
pub type Kills = BTreeMap<Victim, usize>;

/// Kills as often as the options say, spread over the time of the soak.
pub fn kill_at_random(fixture: &SoakFixture, stage: &Stage, options: &Options) -> Kills {
    let mut random = Random(options.seed ^ 0x6b69_6c6c);
    let mut session = fixture.session();
    let mut kills = Kills::new();
    for number in 0..options.kills {
        let part = (number as f64 + random.fraction()) / options.kills as f64;
        if !stage.wait_for_part(part) {
            break;
        }
        // Every fifth is a postmaster; the others are processes that load.
        let wanted = match number % 5 {
            4 => Victim::Postmaster,
            1 => Victim::Sweep,
            3 if random.below(2) == 0 => Victim::Backfill,
            _ => Victim::Loader,
        };
        match strike(fixture, &mut session, wanted) {
            Ok(victim) => {
                *kills.entry(victim).or_default() += 1;
                let loaded = session.number("SELECT count(*) FROM ingestion.objects WHERE status = 'loaded'");
                stage.say(&format!(
                    "kill {} of {} ({victim}), {} objects loaded",
                    number + 1,
                    options.kills,
                    loaded.unwrap_or(0)
                ));
            }
            Err(error) => stage.report_error(&format!("cannot kill: {error}")),
        }
    }
    kills
}

/// Kills one process and waits until the server answers again.
fn strike(fixture: &SoakFixture, session: &mut Session, wanted: Victim) -> Result<Victim, String> {
    let victim = if wanted == Victim::Postmaster { Some((wanted, 0)) } else { find(session, wanted)? };
    let lost = session.lost;
    let victim = match victim {
        Some((Victim::Postmaster, _)) | None => {
            fixture.cluster.kill_postmaster();
            fixture.cluster.start();
            Victim::Postmaster
        }
        Some((victim, pid)) => {
            kill(pid);
            wait_until("the killed process", SOON, || !is_running(pid));
            victim
        }
    };
    // The postmaster ends all other sessions before it accepts new ones.
    let deadline = Instant::now() + SOON;
    while session.lost == lost {
        session.number("SELECT 1::bigint")?;
        if Instant::now() > deadline {
            return Err(format!("the server has survived the kill -9 of a {victim}"));
        }
    }
    Ok(victim)
}

/// Finds a process of that kind that loads. Without one, any process that loads; without that, an idle one of that
/// kind.
fn find(session: &mut Session, wanted: Victim) -> Result<Option<(Victim, u32)>, String> {
    let working = "SELECT a.pid, CASE WHEN a.backend_type = 'btc_ingest loader' THEN 'loader'
                                      WHEN a.backend_type = 'btc_ingest backfill' THEN 'backfill' ELSE 'sweep' END
                     FROM pg_stat_activity a JOIN btc_ingest.progress p ON p.pid = a.pid";
    let began = Instant::now();
    loop {
        let rows = session.run(|client| client.query(working, &[]))?;
        let found = rows.iter().map(|row| {
            let victim = match row.get(1) {
                "loader" => Victim::Loader,
                "backfill" => Victim::Backfill,
                _ => Victim::Sweep,
            };
            (victim, row.get::<_, i32>(0).unsigned_abs())
        });
        let late = began.elapsed() > PATIENCE;
        if let Some(found) = found.into_iter().find(|(victim, _)| late || *victim == wanted) {
            return Ok(Some(found));
        }
        if late {
            let pid = session.number(idle(wanted))?;
            let victim = if wanted == Victim::Sweep { wanted } else { Victim::Loader };
            return Ok((pid > 0).then_some((victim, pid as u32)));
        }
        std::thread::sleep(STEP);
    }
}

/// Returns the statement that finds an idle process of that kind, or 0.
fn idle(wanted: Victim) -> &'static str {
    match wanted {
        Victim::Sweep => {
            "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity WHERE query LIKE 'CALL btc_ingest.run_sweep(%'"
        }
        _ => "SELECT coalesce(max(pid), 0)::bigint FROM btc_ingest.workers() WHERE role LIKE 'loader%'",
    }
}
