//! What single rows need besides the day: a full chunk, slices at the live edge, and a backlog of registered slices.

use btc_ingest_kit::Sums;
use btc_ingest_kit::ticks::{BUCKET_US, Random, bucket_of, time_us};

use crate::data::{DAY, FIRST_ID, SLICE_TICKS, START, SYMBOL, parquet, ticks, ticks_from};
use crate::servers::{COLUMNS, Servers};
use crate::workers::Slice;

/// The database that holds the full chunk.
pub const FULL_DATABASE: &str = "bench_full";
/// Slices of the live edge whose arrival is measured in one round.
pub const ARRIVALS: usize = 100;
/// Slices of the live edge before those: they fill the worker's caches and open its connections.
pub const WARM: usize = 3;
/// How many slices of the backlog are also loaded from far.
pub const FAR: usize = 500;
/// Ticks in random order. Each of them costs PostgreSQL several pages, so a whole day would take minutes.
const SHUFFLED: usize = 500_000;

/// Buckets of a chunk of seven days.
const BUCKETS: u64 = 2016;
/// Days between the bench's day, which a backfill loads meanwhile, and the live edge. Both are in the same chunk.
const DAYS_AHEAD: u64 = 2;
/// How many slices the backlog has: nearly a week, which is a chunk.
const BACKLOG: u64 = 2000;
/// Seconds of a slice.
const SLICE: u64 = 300;

/// A chunk that is nearly full, and slices for each round that belong into it.
#[derive(Debug)]
pub struct FullChunk {
    /// The uris of slices behind all others, three for each round.
    pub slices: Vec<String>,
    /// The uris of slices before all others, two for each round.
    pub early: Vec<String>,
}

impl FullChunk {
    /// Fills all buckets of a chunk but the first and the last ones with `count` ticks, evenly, and stores slices for
    /// the rest.
    pub fn make(servers: &Servers, count: u64, rounds: usize) -> Self {
        let (early, free) = (2 * rounds as u64, 3 * rounds as u64);
        let per_bucket = count.div_ceil(BUCKETS.saturating_sub(early + free).max(1));
        servers.create_database(FULL_DATABASE);
        let mut client = servers.cluster.client(FULL_DATABASE);
        // Prices and ids are as long as real ones; ids and times grow together, as they do where trades are numbered.
        let fill = format!(
            "INSERT INTO market_data.btc_ticks ({COLUMNS})
             SELECT bucket, bucket + (n % {per_bucket}) * interval '300 seconds' / {per_bucket},
                    bucket + (n % {per_bucket}) * interval '300 seconds' / {per_bucket}, '{SYMBOL}', {FIRST_ID} + n,
                    60000 + (n % 100000) / 100.0, (1 + n % 1000) / 100000.0, (7 * ({FIRST_ID} + n))::text,
                    (7 * ({FIRST_ID} + n) - 1)::text, n % 2 = 0
               FROM generate_series(0, {count}::bigint - 1) n,
                    LATERAL (
                        SELECT timestamptz '{START}'
                               + ({early} + n / {per_bucket}) * interval '5 minutes' AS bucket) b",
        );
        client.batch_execute(&fill).expect("a full chunk");
        // Autovacuum is off; on a real server it would have done this.
        client.batch_execute("VACUUM (ANALYZE) market_data.btc_ticks").expect("a vacuum");

        let slice = |name: &str, bucket: u64, first_id: i64| {
            let ticks = ticks_from(time_us(START) + bucket as i64 * BUCKET_US, first_id, SLICE_TICKS, SLICE);
            servers.put(&format!("{name}/{bucket}.parquet"), parquet(&ticks))
        };
        let id = |number: u64| (number * SLICE_TICKS as u64) as i64;
        let slices = (0..free).map(|at| slice("edge", BUCKETS - free + at, FIRST_ID + count as i64 + id(at)));
        let early = (0..early).map(|at| slice("early", at, FIRST_ID / 2 + id(at)));
        Self { slices: slices.collect(), early: early.collect() }
    }
}

/// The uris of days as objects whose rows are in another order.
#[derive(Debug)]
pub struct Orders {
    /// In random order: [`SHUFFLED`] ticks at most.
    pub shuffled: String,
    /// What must be stored of them.
    pub shuffled_sums: Sums,
    /// The day from the last to the first.
    pub reversed: String,
}

impl Orders {
    /// Generates and stores both objects.
    pub fn make(servers: &Servers, count: usize) -> Self {
        let mut ticks = ticks(count, DAY);
        ticks.reverse();
        let reversed = servers.put("day-reversed.parquet", parquet(&ticks));
        let mut ticks = crate::data::ticks(count.min(SHUFFLED), DAY);
        let mut random = Random(1);
        for at in (1..ticks.len()).rev() {
            ticks.swap(at, random.below(at as u64 + 1) as usize);
        }
        let shuffled = servers.put("day-shuffled.parquet", parquet(&ticks));
        Self { shuffled, shuffled_sums: Sums::of(&ticks), reversed }
    }
}

/// Slices that are registered one after another.
#[derive(Debug)]
pub struct LiveEdge {
    /// [`WARM`] and then [`ARRIVALS`] of them.
    pub slices: Vec<Slice>,
}

impl LiveEdge {
    /// Generates and stores them.
    pub fn make(servers: &Servers) -> Self {
        let start = time_us(START) + (DAYS_AHEAD * DAY) as i64 * 1_000_000;
        let slice = |number: usize| {
            let bucket_us = start + number as i64 * BUCKET_US;
            // Far from the ids of the day.
            let first_id = 2 * FIRST_ID + (number * SLICE_TICKS) as i64;
            let ticks = ticks_from(bucket_us, first_id, SLICE_TICKS, SLICE);
            let uri = servers.put(&format!("arrive/{number}.parquet"), parquet(&ticks));
            Slice { uri, bucket_us, ticks: SLICE_TICKS as i64 }
        };
        Self { slices: (0..WARM + ARRIVALS).map(slice).collect() }
    }
}

/// Slices that are registered all at once.
#[derive(Debug)]
pub struct Backlog {
    /// One object per bucket.
    pub slices: Vec<Slice>,
    /// What must be stored when all of them are loaded.
    pub sums: Sums,
    /// What must be stored when the first [`FAR`] of them are loaded.
    pub far: Sums,
}

impl Backlog {
    /// Generates and stores them: as many ticks per slice as the slices of a day with `per_day` ticks have.
    pub fn make(servers: &Servers, per_day: usize) -> Self {
        let count = per_day as u64 * BACKLOG * SLICE / DAY;
        let ticks = ticks(count as usize, BACKLOG * SLICE);
        let buckets = || ticks.chunk_by(|a, b| a.bucket_us() == b.bucket_us());
        let slices = buckets().map(|slice| Slice {
            uri: servers.put_in_memory(&format!("pile/{}.parquet", slice[0].bucket_us()), parquet(slice)),
            bucket_us: bucket_of(slice[0].event_time_us),
            ticks: slice.len() as i64,
        });
        const { assert!(BACKLOG * SLICE < 7 * DAY, "a chunk") };
        let far = buckets().take(FAR).map(<[_]>::len).sum();
        Self { slices: slices.collect(), sums: Sums::of(&ticks), far: Sums::of(&ticks[..far]) }
    }
}
