//! The crowd: producers, calls by hand, sweeps, a backfill and verbs meet the workers at a few objects, all at random
//! moments, round after round. Transactions stay open for a while, statements are cancelled, and S3 pauses or fails.
//! The workers poll once an hour: whatever nobody looks at again is still there when the round is judged.
//!
//! In reading order: [`Options`] says for how long; `round` is what lies in S3 and what must be true of it in the
//! end; `acts` is who does what.

mod acts;
mod options;
mod round;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use acts::Tally;
pub use options::{Options, USAGE};
use round::Round;

use crate::chaos::Chaos;
use crate::proxy::Fault;
use crate::soak::world::World;

/// Enough that chance quarantines nothing.
const ATTEMPTS: u64 = 100;
/// Workers find work when they are woken, or never.
const SETTINGS: [(&str, &str); 1] = [("btc_ingest.poll_interval", "1h")];

/// Runs to the end, or to the first round that is not as it should be; what is printed, or what is wrong.
pub fn run(options: &Options) -> Result<String, String> {
    let world = World::start(ATTEMPTS, &SETTINGS);
    let tally = Tally::default();
    let (began, mut longest, mut rounds) = (Instant::now(), Duration::ZERO, 0);
    while began.elapsed() < options.time {
        let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(rounds);
        world.proxy.at_random(Some(weather(seed)));
        let round = Round::make(&world, rounds, seed);
        acts::meet(&world, &round, seed, &tally);
        let settled = round.settle(&world).and_then(|took| round.judge(&world).map(|()| took));
        rounds += 1;
        match settled {
            Ok(took) => longest = longest.max(took),
            Err(wrong) => {
                let seen = summary(&world, &tally, rounds, longest);
                return Err(format!("{seen}\nNOT as it should be, in round {rounds}:\n{wrong}"));
            }
        }
        let troubles = tally.troubles();
        if !troubles.is_empty() {
            return Err(format!("NOT as it should be, in round {rounds}:\n- {}", troubles.join("\n- ")));
        }
    }
    Ok(format!("{}\nEverything is as it should be.", summary(&world, &tally, rounds, longest)))
}

/// Every other round S3 fails, too.
fn weather(seed: u64) -> Chaos {
    let late = vec![("late", Fault::Latency(Duration::from_millis(15)))];
    if seed.is_multiple_of(2) { Chaos::new(seed, 0.3, late) } else { Chaos::usual(seed, 0.05) }
}

fn summary(world: &World, tally: &Tally, rounds: u64, longest: Duration) -> String {
    let mut text = format!("rounds       {rounds}; the longest took {longest:.1?} to settle\n");
    let _ = writeln!(text, "acts         {}", list(&tally.acts()));
    let _ = writeln!(text, "refused      {}", list(&tally.refused()));
    let sql = "SELECT outcome || coalesce(' ' || sqlstate, ''), count(*) FROM ingestion.load_history GROUP BY 1";
    let rows = world.client().query(sql, &[]).expect("the history");
    let history: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let _ = write!(text, "history      {}", list(&history));
    text
}

fn list(of: &BTreeMap<String, i64>) -> String {
    of.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}
