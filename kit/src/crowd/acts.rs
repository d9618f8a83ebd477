//! The actors and what each does, each in a session of its own.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postgres::{Client, Error};

use super::round::{Round, Slice, register};
use crate::soak::soak_fixture::SoakFixture;
use crate::ticks::Random;

/// How many acts each actor has in a round.
const ACTS: usize = 20;
/// How many backfills there are in a round: one takes as long as many other acts.
const BACKFILLS: usize = 2;
/// The longest pause within a transaction, and between two acts.
const PAUSE_MS: u64 = 25;
/// One of so many statements may take no longer than a moment; and the longest of these moments.
const HURRIED: u64 = 6;
const HURRY_MS: u64 = 40;
/// What may be refused, besides what S3 refuses for too long: a statement that ran out of time, or met another one's
/// locks in a circle, and a slice that is not registered yet.
const USUAL: [&str; 4] = ["57014", "40P01", "55P03", "TK002"];

/// What was done, and how it ended.
#[derive(Default)]
pub struct Tally {
    acts: Mutex<BTreeMap<String, i64>>,
    refused: Mutex<BTreeMap<String, i64>>,
    errors: Mutex<Vec<String>>,
}

impl Tally {
    /// Returns how often each act was begun.
    pub fn acts(&self) -> BTreeMap<String, i64> {
        self.acts.lock().unwrap().clone()
    }

    /// Returns how often each SQLSTATE refused an act.
    pub fn refused(&self) -> BTreeMap<String, i64> {
        self.refused.lock().unwrap().clone()
    }

    /// Returns the errors that are not expected.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }

    fn note(&self, act: Act, done: Result<(), Error>) {
        *self.acts.lock().unwrap().entry(format!("{act:?}")).or_default() += 1;
        let Err(error) = done else { return };
        let sqlstate = error.code().map_or("no answer", |code| code.code()).to_owned();
        if !USUAL.contains(&sqlstate.as_str()) && !sqlstate.starts_with("S3") {
            self.errors.lock().unwrap().push(format!("{act:?}: {error:?}"));
        }
        *self.refused.lock().unwrap().entry(sqlstate).or_default() += 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Produce,
    Grow,
    Load,
    LoadInOpenTransaction,
    Reload,
    Sweep,
    RunSweep,
    Skip,
    Retry,
    Requeue,
    Pause,
    Backfill,
}

/// The actors, and what each does.
const CAST: [&[Act]; 8] = [
    &[Act::Produce, Act::Produce, Act::Grow],
    &[Act::Produce, Act::Grow],
    &[Act::Load, Act::LoadInOpenTransaction],
    &[Act::Load, Act::LoadInOpenTransaction, Act::Reload],
    &[Act::Sweep, Act::RunSweep],
    &[Act::RunSweep],
    &[Act::Skip, Act::Retry, Act::Requeue, Act::Pause],
    &[Act::Backfill],
];

/// Lets all actors act, and returns when all have ended.
pub fn meet(fixture: &SoakFixture, round: &Round, seed: u64, tally: &Tally) {
    std::thread::scope(|scope| {
        for (place, acts) in (1..).zip(CAST) {
            scope.spawn(move || {
                let random = Random(seed.wrapping_mul(31).wrapping_add(place));
                let mut actor = Actor { fixture, round, client: fixture.client(), random };
                let times = if acts.contains(&Act::Backfill) { BACKFILLS } else { ACTS };
                for _ in 0..times {
                    actor.pause();
                    let act = acts[actor.random.below(acts.len() as u64) as usize];
                    tally.note(act, actor.hurried(act));
                }
            });
        }
    });
}

/// One actor.
struct Actor<'a> {
    fixture: &'a SoakFixture,
    round: &'a Round,
    client: Client,
    random: Random,
}

impl<'a> Actor<'a> {
    fn pause(&mut self) {
        std::thread::sleep(Duration::from_millis(self.random.below(PAUSE_MS)));
    }

    fn slice(&mut self) -> &'a Slice {
        &self.round.slices[self.random.below(self.round.slices.len() as u64) as usize]
    }

    /// Performs an act that may be cancelled. It leaves no transaction open, even if it fails.
    fn hurried(&mut self, act: Act) -> Result<(), Error> {
        let limit = if self.random.below(HURRIED) == 0 { 1 + self.random.below(HURRY_MS) } else { 30_000 };
        self.surely(&format!("SET statement_timeout = {limit}"), "before an act");
        let done = self.act(act);
        if let Err(error) = &done {
            self.surely("ROLLBACK", &format!("after {act:?} and {error:?}"));
        }
        done
    }

    /// Repeats a statement until it succeeds, because the limit of the last act holds for it as well.
    fn surely(&mut self, sql: &str, when: &str) {
        while let Err(error) = self.client.batch_execute(sql) {
            assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{sql} {when}: {error:?}");
        }
    }

    fn act(&mut self, act: Act) -> Result<(), Error> {
        let load = "SELECT (btc_ingest.load_s3_slice($1)).outcome";
        let slice = self.slice();
        match act {
            Act::Produce => self.produce(),
            Act::Grow => {
                self.round.complete(self.fixture, slice);
                register(&mut self.client, slice)
            }
            Act::Load => self.query(load, &slice.uri),
            Act::LoadInOpenTransaction => self.open(|actor| actor.query(load, &slice.uri)).map(drop),
            Act::Reload => self.reload(slice),
            Act::Sweep => {
                let sweep = format!("SELECT count(*) FROM btc_ingest.sweep({})", 1 + self.random.below(4));
                self.open(|actor| actor.client.batch_execute(&sweep)).map(drop)
            }
            Act::RunSweep => self.run_sweep(),
            Act::Skip => self.open(|actor| actor.query("SELECT btc_ingest.skip($1)", &slice.uri)).map(drop),
            Act::Retry => self.query("SELECT btc_ingest.retry($1)", &slice.uri),
            Act::Requeue => {
                let requeue = "SELECT btc_ingest.requeue_failed()";
                self.open(|actor| actor.client.batch_execute(requeue)).map(drop)
            }
            Act::Pause => self.pause_ingest(),
            Act::Backfill => self.backfill(),
        }
    }

    /// Works in a transaction that stays open for a while. Returns whether it was committed.
    fn open(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<bool, Error> {
        self.client.batch_execute("BEGIN")?;
        work(self)?;
        self.pause();
        let commit = self.random.below(4) > 0;
        self.client.batch_execute(if commit { "COMMIT" } else { "ROLLBACK" })?;
        Ok(commit)
    }

    fn query(&mut self, sql: &str, uri: &str) -> Result<(), Error> {
        self.client.query(sql, &[&uri]).map(drop)
    }

    /// Registers a few slices, perhaps not for the first time; in key order, so that two producers do not deadlock.
    fn produce(&mut self) -> Result<(), Error> {
        let slices = &self.round.slices;
        let first = self.random.below(slices.len() as u64) as usize;
        let most = 1 + self.random.below(4) as usize;
        self.open(|actor| slices[first..].iter().take(most).try_for_each(|slice| register(&mut actor.client, slice)))
            .map(drop)
    }

    fn reload(&mut self, slice: &Slice) -> Result<(), Error> {
        let sql = "SELECT outcome FROM btc_ingest.reload_slice($1, $2::text::timestamptz)";
        if self.open(|actor| actor.client.query(sql, &[&slice.asset, &slice.bucket]).map(drop))? {
            slice.reloads.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn run_sweep(&mut self) -> Result<(), Error> {
        let order = ["oldest", "newest"][self.random.below(2) as usize];
        let config = format!(r#"{{"max_objects": {}, "order": "{order}"}}"#, 1 + self.random.below(8));
        self.client.batch_execute(&format!("CALL btc_ingest.run_sweep(NULL, '{config}')"))
    }

    fn pause_ingest(&mut self) -> Result<(), Error> {
        let paused = self.client.batch_execute("SELECT btc_ingest.pause_ingest()");
        self.pause();
        // Ingestion must not stay paused, even if the pause failed.
        self.surely("SET statement_timeout = 0", "in a pause");
        self.client.batch_execute("SELECT btc_ingest.resume_ingest()")?;
        paused
    }

    fn backfill(&mut self) -> Result<(), Error> {
        let pattern = format!("{}/{{*}}.parquet", self.round.prefix);
        let parallel = 1 + self.random.below(2);
        self.client.batch_execute(&format!("CALL btc_ingest.backfill(ARRAY['{pattern}'], parallel => {parallel})"))
    }
}
