//! The whole measurement: what is prepared, and which steps a round has.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::arrive::Edge;
use crate::data::{Day, Spread};
use crate::drain::Pile;
use crate::full::Full;
use crate::options::Options;
use crate::report::{grouped, megabytes};
use crate::results::Results;
use crate::rig::Rig;
use crate::{arrive, backfill, day, decode, drain, full, memory, python, slices};

/// Everything that is prepared before the first round.
#[derive(Debug)]
pub struct Bench {
    /// The command line.
    pub options: Options,
    /// Cluster and server.
    pub rig: Rig,
    /// The day.
    pub day: Day,
    /// The ticks of a backfill, if one is to be measured.
    pub spread: Option<Spread>,
    /// The full chunk, if one is to be loaded into.
    pub full: Option<Full>,
    /// Slices that come one after another, if they are to be waited for.
    pub edge: Option<Edge>,
    /// Slices that wait all at once, if they are to be loaded.
    pub pile: Option<Pile>,
    /// The cluster with workers, for those two.
    pub workers: Option<Rig>,
}

/// Something that is done once per round, and the rows that it measures.
struct Step {
    rows: &'static [&'static str],
    run: fn(&Bench, &mut Results),
}

const STEPS: &[Step] = &[
    Step { rows: &["copy"], run: day::copy },
    Step { rows: &["insert"], run: day::insert },
    Step { rows: &["load"], run: day::load },
    Step { rows: &["copy-slices"], run: |b, r| slices::copy(b, r, "copy-slices", 1) },
    Step { rows: &["copy-slices-2"], run: |b, r| slices::copy(b, r, "copy-slices-2", 2) },
    Step { rows: &["load-slices", "force", "replay"], run: slices::load },
    Step { rows: &["copy-spread"], run: backfill::copy },
    Step { rows: &["backfill-slice-1"], run: |b, r| backfill::spread(b, r, "backfill-slice-1", "slice", 1) },
    Step { rows: &["backfill-slice-2"], run: |b, r| backfill::spread(b, r, "backfill-slice-2", "slice", 2) },
    Step { rows: &["backfill-chunk-1"], run: |b, r| backfill::spread(b, r, "backfill-chunk-1", "chunk", 1) },
    Step { rows: &["backfill-chunk-2"], run: |b, r| backfill::spread(b, r, "backfill-chunk-2", "chunk", 2) },
    Step { rows: &["backfill-near", "backfill-far"], run: backfill::near_and_far },
    Step { rows: &["slice-empty", "slice-full"], run: full::slice },
    Step { rows: &["arrive"], run: arrive::alone },
    Step { rows: &["arrive-busy"], run: arrive::busy },
    Step { rows: &["drain-1"], run: |b, r| drain::near(b, r, "drain-1", 1) },
    Step { rows: &["drain-2"], run: |b, r| drain::near(b, r, "drain-2", 2) },
    Step { rows: &["drain-far-1"], run: |b, r| drain::far(b, r, "drain-far-1", 1) },
    Step { rows: &["drain-far-2"], run: |b, r| drain::far(b, r, "drain-far-2", 2) },
    Step { rows: &["csv"], run: python::csv },
    Step { rows: &["adbc"], run: python::adbc },
    Step { rows: &["decode"], run: decode::decode },
];

/// Too large for every round.
const ONCE: &[Step] = &[Step { rows: &[memory::KEY], run: memory::load }];

impl Bench {
    /// Starts the servers and generates the data.
    pub fn prepare(options: Options) -> Self {
        let rig = Rig::start();
        eprintln!("generating {} ticks", options.ticks);
        let day = Day::make(&rig, options.ticks);
        let wants = |rows| options.wants_any(rows);
        let spread = wants(backfill::NEED_SPREAD).then(|| Spread::make(&rig, options.ticks, options.days));
        let full = wants(full::NEED_FULL).then(|| {
            eprintln!("filling a chunk with {} ticks", options.full);
            Full::make(&rig, options.full, options.runs)
        });
        let edge = wants(arrive::NEED_EDGE).then(|| Edge::make(&rig));
        let pile = wants(drain::NEED_PILE).then(|| Pile::make(&rig, options.ticks));
        let workers = (edge.is_some() || pile.is_some()).then(|| rig.with_workers());
        let bench = Self { options, rig, day, spread, full, edge, pile, workers };
        if bench.options.wants_any(day::NEED_HEAP) {
            day::make_heap(&bench);
        }
        if bench.options.wants_any(python::NEED_FILE) {
            std::fs::write(python::file(&bench), &bench.day.object).expect("a file");
        }
        bench
    }

    /// Runs all rounds. A round measures every row once, so that what changes with time strikes all of them alike; each
    /// begins with another row than the one before, so that no row always follows the same one's mess.
    pub fn run(&self) -> Results {
        let mut results = Results::default();
        let wanted = |steps: &'static [Step]| steps.iter().filter(|step| self.options.wants_any(step.rows));
        let mut steps: Vec<&Step> = wanted(STEPS).collect();
        // Files of the log and buffers are slower to make than to use again: runs that do not count make them.
        day::copy(self, &mut Results::default());
        drain::near(self, &mut Results::default(), "drain-2", 2);
        for round in 0..self.options.runs {
            eprintln!("round {} of {}", round + 1, self.options.runs);
            let first = round % steps.len().max(1);
            steps.rotate_left(first);
            steps.retain(|step| self.succeeds(step, &mut results));
            let first = first.min(steps.len());
            steps.rotate_right(first);
        }
        for step in wanted(ONCE) {
            self.succeeds(step, &mut results);
        }
        results
    }

    /// Whether a step went well; one that did not is noted, and costs the others nothing.
    fn succeeds(&self, step: &Step, results: &mut Results) -> bool {
        let outcome = catch_unwind(AssertUnwindSafe(|| (step.run)(self, results)));
        if outcome.is_err() {
            step.rows.iter().for_each(|row| results.fail(row));
        }
        outcome.is_ok()
    }

    /// What the data are, a line each.
    pub fn data_lines(&self) -> Vec<String> {
        let Day { whole, object, slices, slices_bytes, .. } = &self.day;
        let mut lines = vec![format!(
            "Rounds: {}. Day: {} ticks of one UTC day, as one object of {} MB and as {} slices of {} MB together",
            self.options.runs,
            grouped(whole.ticks),
            megabytes(object.len() as u64),
            slices.len(),
            megabytes(*slices_bytes),
        )];
        if let Some(Spread { objects, bytes, sums, .. }) = &self.spread {
            lines.push(format!(
                "Many days: {} ticks over {} days, as {objects} hourly objects of {} MB together",
                grouped(sums.rows),
                self.options.days,
                megabytes(*bytes),
            ));
        }
        if self.full.is_some() {
            lines.push(format!(
                "Full chunk: {} ticks before the first slice of {}",
                grouped(self.options.full),
                grouped(full::SLICE_TICKS as u64),
            ));
        }
        if let Some(pile) = &self.pile {
            lines.push(format!(
                "Registered slices: {} ticks in {} objects",
                grouped(pile.sums.rows),
                grouped(pile.slices.len() as u64),
            ));
        }
        if self.options.wants("backfill-far") {
            lines.push(format!("Latency: {} ms more per request", self.options.latency_ms));
        }
        lines
    }
}
