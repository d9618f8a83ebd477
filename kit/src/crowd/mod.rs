//! The crowd: producers, calls by hand, sweeps, a backfill and commands meet the workers at a few objects, all at
//! random moments, round after round. Transactions stay open for a while, statements are cancelled, and S3 pauses or
//! fails. The workers poll once an hour: an object that no process looks at again is still there when the round is
//! judged.
//!
//! In reading order: [`Options`] says for how long; `round` is what lies in S3 and what must be true of it in the
//! end; `acts` are the actors and what each does.

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
use crate::soak::soak_fixture::SoakFixture;

/// So many that chance quarantines nothing.
const ATTEMPTS: u64 = 100;
/// Workers find work only when they are woken.
const SETTINGS: [(&str, &str); 1] = [("btc_ingest.poll_interval", "1h")];

/// Runs to the end, or to the first round that ends wrong. Returns what is printed, or what is wrong.
pub fn run(options: &Options) -> Result<String, String> {
    let fixture = SoakFixture::start(ATTEMPTS, &SETTINGS);
    let tally = Tally::default();
    let (began, mut longest, mut rounds) = (Instant::now(), Duration::ZERO, 0);
    while began.elapsed() < options.time {
        let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(rounds);
        fixture.proxy.at_random(Some(weather(seed)));
        let round = Round::make(&fixture, rounds, seed);
        acts::meet(&fixture, &round, seed, &tally);
        let settled = round.settle(&fixture).and_then(|took| round.judge(&fixture).map(|()| took));
        rounds += 1;
        match settled {
            Ok(took) => longest = longest.max(took),
            Err(wrong) => {
                let seen = summary(&fixture, &tally, rounds, longest);
                return Err(format!("{seen}\nNOT as it should be, in round {rounds}:\n{wrong}"));
            }
        }
        let errors = tally.errors();
        if !errors.is_empty() {
            return Err(format!("NOT as it should be, in round {rounds}:\n- {}", errors.join("\n- ")));
        }
    }
    Ok(format!("{}\nEverything is as it should be.", summary(&fixture, &tally, rounds, longest)))
}

/// Returns the faults of a round: latency, and in every other round failures of S3.
fn weather(seed: u64) -> Chaos {
    let late = vec![("late", Fault::Latency(Duration::from_millis(15)))];
    if seed.is_multiple_of(2) { Chaos::new(seed, 0.3, late) } else { Chaos::usual(seed, 0.05) }
}

fn summary(fixture: &SoakFixture, tally: &Tally, rounds: u64, longest: Duration) -> String {
    let mut text = format!("rounds       {rounds}; the longest took {longest:.1?} to settle\n");
    let _ = writeln!(text, "acts         {}", list(&tally.acts()));
    let _ = writeln!(text, "refused      {}", list(&tally.refused()));
    let sql = "SELECT outcome || coalesce(' ' || sqlstate, ''), count(*) FROM ingestion.load_history GROUP BY 1";
    let rows = fixture.client().query(sql, &[]).expect("the history");
    let history: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let _ = write!(text, "history      {}", list(&history));
    text
}

fn list(of: &BTreeMap<String, i64>) -> String {
    of.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}
