//! The sweeper and the backfiller, and what all actors share: the time, and what went wrong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::objects::PREFIX;
use super::options::Options;
use super::soak_fixture::{ASSETS, BUCKET, SoakFixture};

/// How soon an actor looks at the time again.
const STEP: Duration = Duration::from_millis(10);
/// The pause between two sweeps, and between two backfills.
const PAUSE: Duration = Duration::from_millis(500);

/// What all actors share.
pub struct Stage {
    began: Instant,
    time: Duration,
    seed: u64,
    ended: AtomicBool,
    errors: Mutex<Vec<String>>,
    /// Calls of `run_sweep` and of `backfill` that have ended.
    pub sweeps: AtomicUsize,
    pub backfills: AtomicUsize,
}

impl Stage {
    /// Starts the time.
    pub fn new(options: &Options) -> Self {
        Self {
            began: Instant::now(),
            time: options.time,
            seed: options.seed,
            ended: AtomicBool::new(false),
            errors: Mutex::default(),
            sweeps: AtomicUsize::new(0),
            backfills: AtomicUsize::new(0),
        }
    }

    /// Returns the seed of everything that is random.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Lets no actor begin anything more.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Waits until such a part of the time has passed. Returns false if the soak has ended.
    pub fn wait_for_part(&self, part: f64) -> bool {
        self.wait_until(self.began + self.time.mul_f64(part))
    }

    fn wait_until(&self, moment: Instant) -> bool {
        while Instant::now() < moment && !self.has_ended() {
            std::thread::sleep(STEP);
        }
        !self.has_ended()
    }

    /// Prints a line for the person who watches.
    pub fn say(&self, text: &str) {
        eprintln!("{:>6.1} s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// Records what should not have happened.
    pub fn report_error(&self, text: &str) {
        self.say(&format!("NOT as it should be: {text}"));
        self.errors.lock().unwrap().push(text.to_owned());
    }

    /// Returns everything that should not have happened.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }
}

/// Sweeps again and again in one session, as a job of TimescaleDB does.
pub fn sweeper(fixture: &SoakFixture, stage: &Stage) {
    let sweep = r#"CALL btc_ingest.run_sweep(NULL, '{"max_objects": 25, "max_runtime": "3 seconds"}')"#;
    again_and_again(fixture, stage, sweep, &stage.sweeps);
}

/// Backfills one asset again and again in one session: it lists objects that are registered and others that are not
/// yet.
pub fn backfiller(fixture: &SoakFixture, stage: &Stage) {
    let prefix =
        format!("s3://{BUCKET}/{PREFIX}/{}/{{yyyy}}/{{mm}}/{{dd}}/{{*}}_{{yyyy}}{{mm}}{{dd}}T{{hh}}{{mi}}Z", ASSETS[1]);
    let backfill = format!("CALL btc_ingest.backfill(ARRAY['{prefix}'], parallel => 1)");
    again_and_again(fixture, stage, &backfill, &stage.backfills);
}

fn again_and_again(fixture: &SoakFixture, stage: &Stage, sql: &str, ended: &AtomicUsize) {
    let mut session = fixture.session();
    while stage.wait_until(Instant::now() + PAUSE) {
        match session.run(|client| client.batch_execute(sql)) {
            Ok(()) => drop(ended.fetch_add(1, Ordering::SeqCst)),
            Err(error) => stage.report_error(&format!("{sql}: {error}")),
        }
    }
}
