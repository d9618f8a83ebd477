//! A slice that is registered, until its ticks are there: by a worker that waits for it, alone and beside a backfill.

use std::time::{Duration, Instant};

use btc_ingest_kit::ticks::{BUCKET_US, time_us};

use crate::bench::Bench;
use crate::data::{DAY, Day, FIRST_ID, START, parquet, ticks_from};
use crate::full::SLICE_TICKS;
use crate::report::duration;
use crate::results::{Results, median, percentile};
use crate::rig::{DATABASE, Rig};
use crate::workers::{Listener, Slice, set};

/// The rows that need [`Edge`].
pub const NEED_EDGE: &[&str] = &["arrive", "arrive-busy"];
/// Slices that are waited for in one round.
const SLICES: usize = 100;
/// Slices before them, so that the worker has used what it needs.
const WARM: usize = 3;
/// Between two slices, so that the worker waits again, as it does when they come every five minutes.
const PAUSE: Duration = Duration::from_millis(30);
/// Days between the day of the bench, which a backfill loads, and the live edge, in the same chunk.
const AHEAD: u64 = 2;

/// The slices of the live edge.
#[derive(Debug)]
pub struct Edge(Vec<Slice>);

impl Edge {
    /// Generates and stores them.
    pub fn make(rig: &Rig) -> Self {
        let start = time_us(START) + (AHEAD * DAY) as i64 * 1_000_000;
        let slice = |number: usize| {
            let bucket_us = start + number as i64 * BUCKET_US;
            // Far from those of the day.
            let first_id = 2 * FIRST_ID + (number * SLICE_TICKS) as i64;
            let ticks = ticks_from(bucket_us, first_id, SLICE_TICKS, 300);
            let uri = rig.put(&format!("arrive/{number}.parquet"), parquet(&ticks));
            Slice { uri, bucket_us, ticks: SLICE_TICKS as i64 }
        };
        Self((0..WARM + SLICES).map(slice).collect())
    }
}

/// With nothing else to do.
pub fn alone(bench: &Bench, results: &mut Results) {
    let Some((rig, edge)) = bench.workers.as_ref().zip(bench.edge.as_ref()) else { return };
    rig.reset();
    note(results, "arrive", &arrive(rig, edge, || true));
}

/// While one worker of a backfill loads the day's slices.
pub fn busy(bench: &Bench, results: &mut Results) {
    let Some((rig, edge)) = bench.workers.as_ref().zip(bench.edge.as_ref()) else { return };
    rig.reset();
    let connection = rig.cluster.connection_string(DATABASE);
    let call = format!("CALL btc_ingest.backfill(ARRAY['{}'], parallel => 1)", Day::slices_prefix());
    let backfill = std::thread::spawn(move || {
        let mut client = postgres::Client::connect(&connection, postgres::NoTls).expect("a session");
        client.batch_execute(&call).expect("a backfill");
    });
    let times = arrive(rig, edge, || !backfill.is_finished());
    note(results, "arrive-busy", &times);
    backfill.join().expect("a backfill");
}

/// Registers one slice after another as long as `go_on` says so; the seconds until each was there.
fn arrive(rig: &Rig, edge: &Edge, go_on: impl Fn() -> bool) -> Vec<f64> {
    set(rig, "btc_ingest.workers = 2");
    let mut listener = Listener::start(rig);
    let mut producer = rig.session();
    let mut times = Vec::new();
    for slice in &edge.0 {
        let start = Instant::now();
        slice.register(&mut producer);
        listener.wait_for(slice);
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(listener.count(slice), slice.ticks, "{}", slice.uri);
        if !go_on() {
            break;
        }
        times.push(seconds);
        std::thread::sleep(PAUSE);
    }
    times.split_off(WARM.min(times.len()))
}

fn note(results: &mut Results, key: &'static str, times: &[f64]) {
    let Some(typical) = median(times) else {
        results.note(key, "the backfill ended before the first slice came; give it more --ticks");
        return;
    };
    results.add(key, typical, 0);
    let at = |part| duration(percentile(times, part).unwrap_or_default());
    results.note(
        key,
        format!("{} slices a round; the last one: 95 % within {}, all within {}", times.len(), at(0.95), at(1.0)),
    );
}
