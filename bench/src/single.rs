//! Loads of objects that hold one tick: what a load costs beside its rows.

use btc_ingest_kit::ticks::{BUCKET_US, time_us};
use postgres::Client;

use crate::bench::Bench;
use crate::data::{FIRST_ID, START, parquet, ticks_from};
use crate::results::{Results, median};
use crate::servers::timed;

/// The rows.
pub const KEYS: &[&str] = &["single", "single-anew"];
/// Objects of a row.
const OBJECTS: u64 = 100;
/// Seconds of a slice.
const SLICE: u64 = 300;

/// Measures both rows, with connections that a session keeps and with new ones.
pub fn load(bench: &Bench, results: &mut Results) {
    for (key, idle_timeout) in [("single", "1min"), ("single-anew", "0")] {
        bench.servers.reset();
        let mut client = bench.servers.session();
        let setting = format!("LOAD 'btc_ingest'; SET btc_ingest.s3_idle_timeout = '{idle_timeout}'");
        client.batch_execute(&setting).expect("a setting");
        // The first one makes the chunk and fills the session's caches.
        let calls: Vec<f64> = (0..=OBJECTS).map(|number| load_one(bench, &mut client, number)).skip(1).collect();
        results.add(key, median(&calls).expect("calls"), 0);
    }
}

/// Loads the object of one bucket, and returns the seconds that it took.
fn load_one(bench: &Bench, client: &mut Client, number: u64) -> f64 {
    let first_id = FIRST_ID + number as i64;
    let tick = ticks_from(time_us(START) + number as i64 * BUCKET_US, first_id, 1, SLICE);
    let uri = bench.servers.put(&format!("single/{number}.parquet"), parquet(&tick));
    let sql = "SELECT rows_inserted FROM btc_ingest.load_s3_slice($1)";
    let (row, seconds) = timed(|| client.query_one(sql, &[&uri]));
    assert_eq!(row.get::<_, i64>(0), 1, "ticks");
    seconds
}
