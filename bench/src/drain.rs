//! Slices that are registered while nobody loads, and then loaded by one worker or by two.

use btc_ingest_tests::Sums;
use btc_ingest_tests::ticks::bucket_of;

use crate::bench::Bench;
use crate::data::{DAY, parquet, ticks};
use crate::results::Results;
use crate::rig::{Rig, timed};
use crate::workers::{Listener, Slice, set_workers};

/// The rows that need [`Pile`].
pub const NEED_PILE: &[&str] = &["drain-1", "drain-2"];
/// How many slices there are: nearly all of a week, which is a chunk.
const SLICES: u64 = 2000;
/// Seconds of a slice.
const SLICE: u64 = 300;

/// Slices that wait.
#[derive(Debug)]
pub struct Pile {
    /// One object per bucket.
    pub slices: Vec<Slice>,
    /// What must be stored in the end.
    pub sums: Sums,
}

impl Pile {
    /// Generates and stores them: about `count` ticks.
    pub fn make(rig: &Rig, count: usize) -> Self {
        let ticks = ticks(count, SLICES * SLICE);
        let slices = ticks.chunk_by(|a, b| a.bucket_us() == b.bucket_us()).map(|slice| Slice {
            uri: rig.put(&format!("pile/{}.parquet", slice[0].bucket_us()), parquet(slice)),
            bucket_us: bucket_of(slice[0].event_time_us),
            ticks: slice.len() as i64,
        });
        const { assert!(SLICES * SLICE < 7 * DAY, "a chunk") };
        Self { slices: slices.collect(), sums: Sums::of(&ticks) }
    }
}

/// Has so many workers load all of them.
pub fn drain(bench: &Bench, results: &mut Results, key: &'static str, workers: u32) {
    let Some((rig, pile)) = bench.workers.as_ref().zip(bench.pile.as_ref()) else { return };
    rig.reset();
    set_workers(rig, workers);
    let mut client = rig.session();
    client.batch_execute("SELECT btc_ingest.pause_ingest(); BEGIN").expect("a pause");
    pile.slices.iter().for_each(|slice| slice.register(&mut client));
    client.batch_execute("COMMIT; ANALYZE landing.raw_blobs_5m").expect("a commit");
    let mut listener = Listener::start(rig);
    let ((), seconds) = timed(|| {
        client.batch_execute("SELECT btc_ingest.resume_ingest()")?;
        pile.slices.iter().for_each(|_| drop(listener.next()));
        Ok(())
    });
    rig.check(&pile.sums, key);
    results.add(key, seconds, pile.sums.rows);
}
