//! A slice at the live edge: into an empty table, and into a chunk that holds nearly all of its week.

use btc_ingest_kit::ticks::{BUCKET_US, time_us};
use postgres::Client;

use crate::bench::Bench;
use crate::data::{FIRST_ID, START, SYMBOL, parquet, ticks_from};
use crate::results::Results;
use crate::rig::{Rig, timed};

/// The rows that need [`Full`].
pub const NEED_FULL: &[&str] = &["slice-empty", "slice-full"];
/// What a slice of real data was seen to hold, about.
pub const SLICE_TICKS: usize = 10_000;
const DATABASE: &str = "bench_full";
/// Buckets of a chunk of seven days.
const BUCKETS: u64 = 2016;

/// The chunk, and a slice for each round.
#[derive(Debug)]
pub struct Full {
    slices: Vec<String>,
}

impl Full {
    /// Fills a chunk with `count` ticks, evenly but for its last buckets, and stores the slices that belong into those.
    pub fn make(rig: &Rig, count: u64, rounds: usize) -> Self {
        let free = rounds as u64;
        let per_bucket = count.div_ceil(BUCKETS.saturating_sub(free).max(1));
        rig.create_database(DATABASE);
        let mut client = rig.cluster.client(DATABASE);
        // Prices and ids as long as real ones; ids and times grow together, as they do where trades are numbered.
        let fill = format!(
            "INSERT INTO market_data.btc_ticks ({columns})
             SELECT bucket, bucket + (n % {per_bucket}) * interval '300 seconds' / {per_bucket},
                    bucket + (n % {per_bucket}) * interval '300 seconds' / {per_bucket}, '{SYMBOL}', {FIRST_ID} + n,
                    60000 + (n % 100000) / 100.0, (1 + n % 1000) / 100000.0, (7 * ({FIRST_ID} + n))::text,
                    (7 * ({FIRST_ID} + n) - 1)::text, n % 2 = 0
               FROM generate_series(0, {count}::bigint - 1) n,
                    LATERAL (SELECT timestamptz '{START}' + n / {per_bucket} * interval '5 minutes' AS bucket) b",
            columns = crate::rig::COLUMNS,
        );
        client.batch_execute(&fill).expect("a full chunk");
        // As autovacuum would leave it.
        client.batch_execute("VACUUM (ANALYZE) market_data.btc_ticks").expect("a vacuum");

        let slices = (0..rounds).map(|round| {
            let bucket = time_us(START) + (BUCKETS - free) as i64 * BUCKET_US + round as i64 * BUCKET_US;
            let first_id = FIRST_ID + (count as usize + round * SLICE_TICKS) as i64;
            let ticks = ticks_from(bucket, first_id, SLICE_TICKS, 300);
            rig.put(&format!("edge/{round}.parquet"), parquet(&ticks))
        });
        Self { slices: slices.collect() }
    }
}

/// Loads the round's slice into the empty table, then into the full chunk.
pub fn slice(bench: &Bench, results: &mut Results) {
    let Some(full) = &bench.full else { return };
    let uri = &full.slices[results.seconds("slice-full").len()];
    for (key, database) in [("slice-empty", crate::rig::DATABASE), ("slice-full", DATABASE)] {
        if database == DATABASE {
            bench.rig.checkpoint();
        } else {
            bench.rig.reset();
        }
        results.add(key, load(&mut bench.rig.cluster.client(database), uri), SLICE_TICKS as u64);
    }
}

/// Seconds that the slice takes in a session that has used the library before, as a worker's has.
fn load(client: &mut Client, uri: &str) -> f64 {
    client.query_one("SELECT etag FROM btc_ingest.inspect_s3($1)", &[&uri]).expect("an object");
    let sql = "SELECT rows_inserted FROM btc_ingest.load_s3_slice($1)";
    let (row, seconds) = timed(|| client.query_one(sql, &[&uri]));
    assert_eq!(row.get::<_, i64>(0), SLICE_TICKS as i64);
    seconds
}
