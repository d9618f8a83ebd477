//! A slice at the live edge: into an empty table, and into a chunk that holds nearly all of its week.

use postgres::Client;

use crate::bench::Bench;
use crate::data::SLICE_TICKS;
use crate::fill;
use crate::fixtures::FULL_DATABASE;
use crate::results::Results;
use crate::servers::{DATABASE, timed};

/// The rows that need a [`FullChunk`](crate::fixtures::FullChunk).
pub const NEED_FULL_CHUNK: &[&str] = &["slice-empty", "slice-full", "edge", "edge-runs", "early", "early-runs", "hour"];

/// The rows that a round measures together.
pub const MEASURED: &[&str] = &["slice-empty", "slice-full", "edge", "edge-runs", "early", "early-runs"];

/// Loads the round's slice into the empty table, then into the full chunk, then further ones into that.
pub fn load_slice(bench: &Bench, results: &mut Results) {
    let Some(full_chunk) = &bench.full_chunk else { return };
    let round = results.seconds("slice-full").len();
    let uri = &full_chunk.slices[3 * round];
    for (key, database) in [("slice-empty", DATABASE), ("slice-full", FULL_DATABASE)] {
        if database == FULL_DATABASE {
            bench.servers.checkpoint();
        } else {
            bench.servers.reset();
        }
        results.add(key, load(&mut bench.servers.cluster.client(database), uri), SLICE_TICKS as u64);
    }
    // The next two slices, each with a way of filling indexes; then two that come before all that the chunk holds.
    let of_round = [
        ("edge", "row", &full_chunk.slices[3 * round + 1]),
        ("edge-runs", "runs", &full_chunk.slices[3 * round + 2]),
        ("early", "row", &full_chunk.early[2 * round]),
        ("early-runs", "runs", &full_chunk.early[2 * round + 1]),
    ];
    for (key, fill, uri) in of_round {
        bench.servers.checkpoint();
        results.add(key, load(&mut fill::session(bench, FULL_DATABASE, fill), uri), SLICE_TICKS as u64);
    }
}

/// Returns the seconds that the slice takes in a session that has used the library before, as a worker's session has.
fn load(client: &mut Client, uri: &str) -> f64 {
    client.query_one("SELECT etag FROM btc_ingest.inspect_s3($1)", &[&uri]).expect("an object");
    let sql = "SELECT rows_inserted FROM btc_ingest.load_s3_slice($1)";
    let (row, seconds) = timed(|| client.query_one(sql, &[&uri]));
    assert_eq!(row.get::<_, i64>(0), SLICE_TICKS as i64);
    seconds
}
