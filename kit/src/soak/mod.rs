//! The soak: slices of three assets flow in while workers, sweeps and a backfill load them, S3 fails at random, and
//! processes are killed. In the end every good slice is there exactly once, and everything that happened is accounted
//! for.
//!
//! In reading order: [`Options`] says how much; `soak_fixture` is the cluster, `objects` what is to be loaded;
//! `producer`, `sweeper`, `backfiller` and `killer` act; `judge` compares what is stored, `account` what has
//! happened.

mod account;
mod actors;
mod judge;
mod killer;
pub(crate) mod objects;
mod options;
mod producer;
mod session;
pub(crate) mod soak_fixture;

use std::time::Instant;

use actors::{Stage, backfiller, sweeper};
use killer::Kills;
pub use options::{Options, USAGE};
use soak_fixture::SoakFixture;

/// Runs to the end. Returns what is printed, or what is wrong.
pub fn run(options: &Options) -> Result<String, String> {
    let began = Instant::now();
    // Enough attempts that chance quarantines nothing: an outage alone takes one every few seconds.
    let fixture = SoakFixture::start(50 + options.outage.as_secs(), &[]);
    let objects = objects::make(&fixture, options);
    let stage = Stage::new(options);
    fixture.fail_at_random(options.seed);
    let kills = std::thread::scope(|scope| {
        let producer = scope.spawn(|| producer::produce(&fixture, &objects, &stage));
        let sweeper = scope.spawn(|| sweeper(&fixture, &stage));
        let backfiller = scope.spawn(|| backfiller(&fixture, &stage));
        let kills = killer::kill_at_random(&fixture, &stage, options);
        producer.join().unwrap_or_else(|_| stage.report_error("the producer has panicked"));
        stage.say(&format!("S3 is gone for {:?}", options.outage));
        fixture.outage(options.outage);
        stage.say("waiting until nothing is left to do");
        judge::wait_until_nothing_waits(&fixture, &stage);
        stage.end();
        sweeper.join().unwrap_or_else(|_| stage.report_error("the sweeper has panicked"));
        backfiller.join().unwrap_or_else(|_| stage.report_error("the backfiller has panicked"));
        kills
    });
    fixture.calm_down();
    summary(&fixture, &objects, &stage, &kills, began)
}

fn summary(
    fixture: &SoakFixture,
    objects: &objects::Objects,
    stage: &Stage,
    kills: &Kills,
    began: Instant,
) -> Result<String, String> {
    let mut wrong = stage.errors();
    wrong.extend(judge::judge(fixture, objects));
    let account = account::Account::take(fixture, objects, stage, kills);
    wrong.extend(account.contradictions());
    let text = format!("{account}\n{:.0} s in all", began.elapsed().as_secs_f64());
    match wrong.as_slice() {
        [] => Ok(format!("{text}\nEverything is as it should be.")),
        _ => Err(format!("{text}\nNOT as it should be:\n- {}", wrong.join("\n- "))),
    }
}
