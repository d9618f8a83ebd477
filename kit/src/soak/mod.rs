//! The soak: slices of three assets flow in while workers, sweeps and a backfill load them, S3 fails at random, and
//! processes are killed. In the end every good slice is there exactly once, and everything that happened is accounted
//! for.
//!
//! In reading order: [`Options`] says how much; `world` is the cluster, `objects` what is to be loaded; `producer`,
//! `sweeper`, `backfiller` and `killer` are who acts; `judge` compares what is stored, `account` what has happened.

mod account;
mod actors;
mod judge;
mod killer;
pub(crate) mod objects;
mod options;
mod producer;
mod session;
pub(crate) mod world;

use std::time::Instant;

use actors::{Stage, backfiller, sweeper};
use killer::Kills;
pub use options::{Options, USAGE};
use world::World;

/// Runs to the end; what is printed, or what is not as it should be.
pub fn run(options: &Options) -> Result<String, String> {
    let began = Instant::now();
    // Enough attempts that chance quarantines nothing: an outage alone takes one every few seconds.
    let world = World::start(50 + options.outage.as_secs(), &[]);
    let objects = objects::make(&world, options);
    let stage = Stage::new(options);
    world.fail_at_random(options.seed);
    let kills = std::thread::scope(|scope| {
        let producer = scope.spawn(|| producer::produce(&world, &objects, &stage));
        let sweeper = scope.spawn(|| sweeper(&world, &stage));
        let backfiller = scope.spawn(|| backfiller(&world, &stage));
        let kills = killer::kill_at_random(&world, &stage, options);
        producer.join().unwrap_or_else(|_| stage.trouble("the producer has panicked"));
        stage.say(&format!("S3 is gone for {:?}", options.outage));
        world.outage(options.outage);
        stage.say("waiting until nothing is left to do");
        judge::wait_until_nothing_waits(&world, &stage);
        stage.end();
        sweeper.join().unwrap_or_else(|_| stage.trouble("the sweeper has panicked"));
        backfiller.join().unwrap_or_else(|_| stage.trouble("the backfiller has panicked"));
        kills
    });
    world.calm_down();
    summary(&world, &objects, &stage, &kills, began)
}

fn summary(
    world: &World,
    objects: &objects::Objects,
    stage: &Stage,
    kills: &Kills,
    began: Instant,
) -> Result<String, String> {
    let mut wrong = stage.troubles();
    wrong.extend(judge::judge(world, objects));
    let account = account::Account::take(world, objects, stage, kills);
    wrong.extend(account.contradictions());
    let text = format!("{account}\n{:.0} s in all", began.elapsed().as_secs_f64());
    match wrong.as_slice() {
        [] => Ok(format!("{text}\nEverything is as it should be.")),
        _ => Err(format!("{text}\nNOT as it should be:\n- {}", wrong.join("\n- "))),
    }
}
