//! The course of the measurement: what is prepared, and which steps a round has.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::bench::Bench;
use crate::data::{Day, Spread};
use crate::fixtures::{Backlog, FullChunk, LiveEdge, Orders};
use crate::options::Options;
use crate::results::Results;
use crate::servers::Servers;
use crate::{
    answers, arrive, backfill, candles, compressed, day, decode, drain, fill, full_chunk, groups, memory, python,
    quality, single, slices, tuned, windows,
};

/// A measurement that is done once per round, and the rows that it measures.
struct Step {
    rows: &'static [&'static str],
    run: fn(&Bench, &mut Results),
}

const STEPS: &[Step] = &[
    Step { rows: &["copy"], run: day::copy },
    Step { rows: &["insert"], run: day::insert },
    Step { rows: &["load"], run: day::load },
    Step { rows: &["load-bare"], run: day::load_bare },
    Step { rows: &["load-set"], run: day::load_set },
    Step { rows: tuned::KEYS, run: tuned::measure },
    Step { rows: &["groups-near", "groups-far"], run: groups::load },
    Step { rows: &["copy-slices"], run: |b, r| slices::copy(b, r, "copy-slices", 1) },
    Step { rows: &["copy-slices-2"], run: |b, r| slices::copy(b, r, "copy-slices-2", 2) },
    Step { rows: &["load-slices", "force", "replay"], run: slices::load },
    Step { rows: &["slices-bare"], run: slices::load_bare },
    Step { rows: &["slices-set"], run: slices::load_set },
    Step { rows: single::KEYS, run: single::load },
    Step { rows: &["copy-candles"], run: candles::copy },
    Step { rows: &["load-candles", "refresh"], run: candles::load },
    Step { rows: compressed::KEYS, run: compressed::measure },
    Step { rows: &["copy-spread"], run: backfill::copy },
    Step { rows: &["backfill-object-1"], run: |b, r| backfill::spread(b, r, "backfill-object-1", "object", 1) },
    Step { rows: &["backfill-object-2"], run: |b, r| backfill::spread(b, r, "backfill-object-2", "object", 2) },
    Step { rows: &["backfill-chunk-1"], run: |b, r| backfill::spread(b, r, "backfill-chunk-1", "chunk", 1) },
    Step { rows: &["backfill-chunk-2"], run: |b, r| backfill::spread(b, r, "backfill-chunk-2", "chunk", 2) },
    Step { rows: &["backfill-near", "backfill-far"], run: backfill::near_and_far },
    Step { rows: full_chunk::MEASURED, run: full_chunk::load_slice },
    Step { rows: &["shuffled", "shuffled-runs"], run: fill::shuffled },
    Step { rows: &["reversed", "reversed-runs"], run: fill::reversed },
    Step { rows: &["twins", "twins-runs"], run: fill::twins },
    Step { rows: &["rebuild", "rebuild-runs"], run: fill::sizes },
    Step { rows: &["arrive"], run: arrive::alone },
    Step { rows: &["arrive-set"], run: arrive::with_setting },
    Step { rows: &["arrive-busy"], run: arrive::busy },
    Step { rows: &["drain-1"], run: |b, r| drain::near(b, r, "drain-1", 1) },
    Step { rows: &["drain-2"], run: |b, r| drain::near(b, r, "drain-2", 2) },
    Step { rows: &["drain-far-1"], run: |b, r| drain::far(b, r, "drain-far-1", 1) },
    Step { rows: &["drain-far-2"], run: |b, r| drain::far(b, r, "drain-far-2", 2) },
    Step { rows: &["csv"], run: python::csv },
    Step { rows: &["adbc"], run: python::adbc },
    Step { rows: &["decode"], run: decode::decode },
    Step { rows: &["verify"], run: quality::verify },
    Step { rows: &["gaps", "conditions"], run: quality::year },
    Step { rows: &["prices", "prices-lateral"], run: answers::prices },
    Step { rows: &["bars"], run: answers::bars },
    Step { rows: &["hour"], run: answers::hour },
    Step { rows: &["chart-candles", "chart-ticks"], run: candles::chart },
    Step { rows: &["similar-exact", "similar-ivfflat", "similar-hnsw"], run: windows::search },
];

/// Steps that take too long for every round; they run once, after the last one.
const ONCE: &[Step] = &[
    Step { rows: &[memory::KEY], run: memory::load },
    Step { rows: &["helps"], run: windows::helps },
    Step { rows: &[windows::MILLION], run: windows::million },
];

/// Starts the servers and generates the data that the wanted rows need.
pub fn prepare(options: Options) -> Bench {
    let servers = Servers::start();
    eprintln!("generating {} ticks", options.ticks);
    let day = Day::make(&servers, options.ticks);
    let wants = |rows| options.wants_any(rows);
    let spread = wants(backfill::NEED_SPREAD).then(|| Spread::make(&servers, options.ticks, options.days));
    if wants(answers::NEED_DAY) {
        answers::make(&servers, &day.whole.copy_file, options.ticks);
    }
    if wants(candles::NEED_LOADED) {
        candles::make_loaded(&servers, &day.whole.copy_file);
    }
    if let Some(spread) = spread.as_ref().filter(|_| wants(candles::NEED_MONTH)) {
        candles::make_month(&servers, spread);
    }
    if wants(windows::NEED_WINDOWS) {
        eprintln!("making windows");
        windows::make(&servers);
    }
    let groups = wants(groups::NEED_GROUPS).then(|| groups::make(&servers, options.ticks));
    let orders = wants(fill::NEED_ORDERS).then(|| Orders::make(&servers, options.ticks));
    let full_chunk = wants(full_chunk::NEED_FULL_CHUNK).then(|| {
        eprintln!("filling a chunk with {} ticks", options.full);
        FullChunk::make(&servers, options.full, options.runs)
    });
    let live_edge = wants(arrive::NEED_LIVE_EDGE).then(|| LiveEdge::make(&servers));
    let backlog = wants(drain::NEED_BACKLOG).then(|| Backlog::make(&servers, options.ticks));
    let workers = (live_edge.is_some() || backlog.is_some()).then(|| servers.with_workers());
    let tuned = wants(tuned::KEYS).then(|| servers.with_settings(tuned::SETTINGS));
    let bench = Bench { options, servers, day, spread, groups, orders, full_chunk, live_edge, backlog, workers, tuned };
    if bench.options.wants_any(day::NEED_HEAP) {
        day::make_heap(&bench);
    }
    if bench.options.wants_any(python::NEED_FILE) {
        std::fs::write(python::file(&bench), &bench.day.object).expect("a file");
    }
    bench
}

/// Runs all rounds. A round measures every row once, so that what changes with time affects all rows alike. Each round
/// begins with another row than the one before, so that no row always follows the same other row.
pub fn run(bench: &Bench) -> Results {
    let mut results = Results::default();
    let wanted = |steps: &'static [Step]| steps.iter().filter(|step| bench.options.wants_any(step.rows));
    let mut steps: Vec<&Step> = wanted(STEPS).collect();
    // New segments of the write-ahead log and new buffers cost more than used ones. These runs make them; their times
    // are dropped.
    day::copy(bench, &mut Results::default());
    drain::near(bench, &mut Results::default(), "drain-2", 2);
    tuned::warm(bench);
    for round in 0..bench.options.runs {
        eprintln!("round {} of {}", round + 1, bench.options.runs);
        let first = round % steps.len().max(1);
        steps.rotate_left(first);
        steps.retain(|step| succeeds(step, bench, &mut results));
        let first = first.min(steps.len());
        steps.rotate_right(first);
    }
    for step in wanted(ONCE) {
        succeeds(step, bench, &mut results);
    }
    results
}

/// Runs a step and returns whether it succeeded. The rows of a step that panics are noted as failed; the other steps
/// go on.
fn succeeds(step: &Step, bench: &Bench, results: &mut Results) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| (step.run)(bench, results)));
    if outcome.is_err() {
        step.rows.iter().for_each(|row| results.fail(row));
    }
    outcome.is_ok()
}
