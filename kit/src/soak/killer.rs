//! The killer: takes processes of the server away with SIGKILL, at random moments, when there is something to lose.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::actors::Stage;
use super::options::Options;
use super::session::Session;
use super::world::World;
use crate::command::run;
use crate::process::is_running;
use crate::ticks::Random;
use crate::wait::wait_until;

/// How long it waits for somebody to be at work before it strikes all the same.
const PATIENCE: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(3);
const SOON: Duration = Duration::from_secs(60);

/// Whom it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// A worker that loads what is registered.
    Loader,
    /// A worker of the backfill.
    Backfill,
    /// A client's backend, in which a sweep runs.
    Sweep,
    /// The postmaster, and with it everybody.
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

/// How often it struck whom.
pub type Kills = BTreeMap<Victim, usize>;

/// Strikes as often as the options say, over the time that there is.
pub fn kill_at_random(world: &World, stage: &Stage, options: &Options) -> Kills {
    let mut random = Random(options.seed ^ 0x6b69_6c6c);
    let mut session = world.session();
    let mut kills = Kills::new();
    for number in 0..options.kills {
        let part = (number as f64 + random.fraction()) / options.kills as f64;
        if !stage.wait_for_part(part) {
            break;
        }
        // Every fifth is a postmaster; the others are whoever is at work.
        let wanted = match number % 5 {
            4 => Victim::Postmaster,
            1 => Victim::Sweep,
            3 if random.below(2) == 0 => Victim::Backfill,
            _ => Victim::Loader,
        };
        match strike(world, &mut session, wanted) {
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
            Err(error) => stage.trouble(&format!("cannot kill: {error}")),
        }
    }
    kills
}

/// Kills one, and waits until the server is there again.
fn strike(world: &World, session: &mut Session, wanted: Victim) -> Result<Victim, String> {
    let victim = if wanted == Victim::Postmaster { Some((wanted, 0)) } else { find(session, wanted)? };
    let lost = session.lost;
    let victim = match victim {
        Some((Victim::Postmaster, _)) | None => {
            world.cluster.kill_postmaster();
            world.cluster.start();
            Victim::Postmaster
        }
        Some((victim, pid)) => {
            run(std::process::Command::new("kill").args(["-9", &pid.to_string()]))?;
            wait_until("the killed process", SOON, || !is_running(pid));
            victim
        }
    };
    // The postmaster ends all other sessions before it lets anybody in again.
    let deadline = Instant::now() + SOON;
    while session.lost == lost {
        session.number("SELECT 1::bigint")?;
        if Instant::now() > deadline {
            return Err(format!("the server has survived the kill -9 of a {victim}"));
        }
    }
    Ok(victim)
}

/// Somebody of that kind who loads something; if there is none, whoever does; if nobody does, somebody of that kind.
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
            let pid = session.number(anybody(wanted))?;
            let victim = if wanted == Victim::Sweep { wanted } else { Victim::Loader };
            return Ok((pid > 0).then_some((victim, pid as u32)));
        }
        std::thread::sleep(STEP);
    }
}

/// The process of somebody who has nothing to do, or 0.
fn anybody(wanted: Victim) -> &'static str {
    match wanted {
        Victim::Sweep => {
            "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity WHERE query LIKE 'CALL btc_ingest.run_sweep(%'"
        }
        _ => "SELECT coalesce(max(pid), 0)::bigint FROM btc_ingest.workers() WHERE role LIKE 'loader%'",
    }
}
