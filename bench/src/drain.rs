//! Slices that are registered while nobody loads, and then loaded by one worker or by two; from near, and from far.

use std::time::Duration;

use btc_ingest_kit::ticks::bucket_of;
use btc_ingest_kit::{Fault, FaultProxy, Sums, When};

use crate::bench::Bench;
use crate::data::{DAY, parquet, ticks};
use crate::machine::Busy;
use crate::results::Results;
use crate::rig::{Rig, timed};
use crate::workers::{Endpoint, Listener, Slice, set};

/// The rows that need [`Pile`].
pub const NEED_PILE: &[&str] = &["drain-1", "drain-2", "drain-far-1", "drain-far-2"];
/// How many slices there are: nearly all of a week, which is a chunk.
const SLICES: u64 = 2000;
/// How many of them are loaded from far.
const FAR: usize = 500;
/// Seconds of a slice.
const SLICE: u64 = 300;

/// Slices that wait.
#[derive(Debug)]
pub struct Pile {
    /// One object per bucket.
    pub slices: Vec<Slice>,
    /// What must be stored in the end.
    pub sums: Sums,
    /// And what of those that are loaded from far.
    pub far: Sums,
}

impl Pile {
    /// Generates and stores them: as many ticks per slice as the slices of a day with `per_day` ticks have.
    pub fn make(rig: &Rig, per_day: usize) -> Self {
        let count = per_day as u64 * SLICES * SLICE / DAY;
        let ticks = ticks(count as usize, SLICES * SLICE);
        let buckets = || ticks.chunk_by(|a, b| a.bucket_us() == b.bucket_us());
        let slices = buckets().map(|slice| Slice {
            uri: rig.put_in_memory(&format!("pile/{}.parquet", slice[0].bucket_us()), parquet(slice)),
            bucket_us: bucket_of(slice[0].event_time_us),
            ticks: slice.len() as i64,
        });
        const { assert!(SLICES * SLICE < 7 * DAY, "a chunk") };
        let far = buckets().take(FAR).map(<[_]>::len).sum();
        Self { slices: slices.collect(), sums: Sums::of(&ticks), far: Sums::of(&ticks[..far]) }
    }
}

/// Has so many workers load all of them.
pub fn near(bench: &Bench, results: &mut Results, key: &'static str, workers: u32) {
    if let Some((rig, pile)) = bench.workers.as_ref().zip(bench.pile.as_ref()) {
        drain(rig, results, key, workers, &pile.slices, &pile.sums);
    }
}

/// Has so many workers load the first of them through a proxy that adds latency to every request.
pub fn far(bench: &Bench, results: &mut Results, key: &'static str, workers: u32) {
    let Some((rig, pile)) = bench.workers.as_ref().zip(bench.pile.as_ref()) else { return };
    let proxy = FaultProxy::before(&rig.s3);
    proxy.on(When::any(), Fault::Latency(Duration::from_millis(bench.options.latency_ms)));
    let _endpoint = Endpoint::set(rig, &proxy.endpoint());
    drain(rig, results, key, workers, &pile.slices[..FAR.min(pile.slices.len())], &pile.far);
}

fn drain(rig: &Rig, results: &mut Results, key: &'static str, workers: u32, slices: &[Slice], sums: &Sums) {
    rig.reset();
    set(rig, &format!("btc_ingest.workers = {workers}"));
    let mut client = rig.session();
    client.batch_execute("SELECT btc_ingest.pause_ingest(); BEGIN").expect("a pause");
    slices.iter().for_each(|slice| slice.register(&mut client));
    client.batch_execute("COMMIT; ANALYZE landing.raw_blobs_5m").expect("a commit");
    let mut listener = Listener::start(rig);
    let busy = Busy::now();
    let ((), seconds) = timed(|| {
        client.batch_execute("SELECT btc_ingest.resume_ingest()")?;
        slices.iter().for_each(|_| drop(listener.next()));
        Ok(())
    });
    results.note(key, format!("the last run: {:.2} cores busy", busy.cores_since()));
    rig.check(sums, key);
    results.add(key, seconds, sums.rows);
}
