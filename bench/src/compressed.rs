//! Compression: a day that is loaded and compressed beside one that is copied and compressed, what a tick takes then,
//! and the same object once more into the compressed chunk.

use postgres::Client;

use crate::bench::Bench;
use crate::results::Results;
use crate::servers::{Servers, copy_statement, timed};

/// The rows, all measured with one database.
pub const KEYS: &[&str] = &["copy-compressed", "load-compressed", "compress", "compressed-again"];
/// What is said of rows that need the Community edition where it is not installed.
pub const APACHE: &str = "skipped: needs the Community edition";
/// The order of a new installation's policy.
pub const NEWEST_FIRST: &str = "event_time DESC, trade_id";
/// Undoes what [`prepared`] has set. The tables are emptied by rows that know no compression.
pub const NOT_COMPRESSED: &str = "ALTER TABLE market_data.btc_ticks SET (timescaledb.compress = false)";

/// Measures all rows.
pub fn measure(bench: &Bench, results: &mut Results) {
    if !is_community(&bench.servers) {
        KEYS.iter().for_each(|key| results.note(key, APACHE));
        return;
    }
    let ticks = bench.day.whole.ticks;
    let mut client = prepared(&bench.servers, NEWEST_FIRST);
    let copy = copy_statement(&bench.day.whole.copy_file);
    let ((), copied) = timed(|| client.batch_execute(&copy));
    let copied = copied + compress(&mut client);
    bench.servers.check(&bench.day.sums, "copy-compressed");
    results.add("copy-compressed", copied, ticks);

    let mut client = prepared(&bench.servers, NEWEST_FIRST);
    let uri = &bench.day.whole.uri;
    let load = "SELECT outcome FROM btc_ingest.load_s3_slice($1)";
    let (_, loaded) = timed(|| client.query_one(load, &[uri]));
    let raw = bytes(&mut client);
    let compressed = compress(&mut client);
    let small = bytes(&mut client);
    bench.servers.check(&bench.day.sums, "load-compressed");
    results.add("load-compressed", loaded + compressed, ticks);
    results.add("compress", compressed, ticks);
    let each = |bytes: i64| bytes as f64 / ticks.max(1) as f64;
    results.note("compress", format!("{:.0} bytes per tick before, {:.1} after", each(raw), each(small)));

    // Another object with the same ticks: each is compared with the compressed ones, and none is new.
    let again = bench.servers.put_in_memory("again/day.parquet", bench.day.object.clone());
    let (report, seconds) =
        timed(|| client.query_one("SELECT rows_duplicate FROM btc_ingest.load_s3_slice($1)", &[&again]));
    assert_eq!(report.get::<_, i64>(0) as u64, ticks, "duplicates");
    bench.servers.check(&bench.day.sums, "compressed-again");
    results.add("compressed-again", seconds, ticks);
    bench.servers.reset();
    client.batch_execute(NOT_COMPRESSED).expect("no compression");
}

/// Returns a session at the emptied hypertable, which can be compressed, in this order.
pub fn prepared(servers: &Servers, order: &str) -> Client {
    servers.reset();
    let mut client = servers.session();
    let settings = format!(
        "ALTER TABLE market_data.btc_ticks SET (timescaledb.compress,
             timescaledb.compress_segmentby = 'symbol', timescaledb.compress_orderby = '{order}')"
    );
    client.batch_execute(&settings).expect("compression");
    client
}

/// Compresses all chunks, and returns the seconds that it took.
pub fn compress(client: &mut Client) -> f64 {
    let sql = "SELECT count(compress_chunk(c)) FROM show_chunks('market_data.btc_ticks') c";
    let (row, seconds) = timed(|| client.query_one(sql, &[]));
    assert!(row.get::<_, i64>(0) > 0, "there is no chunk");
    seconds
}

/// Returns the size of all chunks with their indexes, compressed or not.
pub fn bytes(client: &mut Client) -> i64 {
    let sql = "SELECT hypertable_size('market_data.btc_ticks')";
    client.query_one(sql, &[]).expect("a size").get(0)
}

/// Returns whether the server has the Community edition: compression and continuous aggregates.
pub fn is_community(servers: &Servers) -> bool {
    let sql = "SELECT current_setting('timescaledb.license') = 'timescale'";
    servers.session().query_one(sql, &[]).expect("an answer").get(0)
}
