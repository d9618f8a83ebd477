//! One day as one object, beside COPY and INSERT of the same ticks.

use crate::bench::Bench;
use crate::results::{Breakdown, Results};
use crate::rig::{COLUMNS, copy_statement, transaction};

/// The rows whose source is a heap table, which takes its time to make.
pub const NEED_HEAP: &[&str] = &["insert"];
const HEAP: &str = "public.heap_ticks";

/// The baseline.
pub fn copy(bench: &Bench, results: &mut Results) {
    bench.rig.reset();
    let statement = copy_statement(&bench.day.whole.copy_file);
    let ((), seconds, _) = transaction(&mut bench.rig.session(), |client| client.batch_execute(&statement));
    bench.rig.check(&bench.day.sums, "copy");
    results.add("copy", seconds, bench.day.whole.ticks);
}

/// Makes the table that [`insert`] reads, with its rows in key order, as after a vacuum.
pub fn make_heap(bench: &Bench) {
    let mut client = bench.rig.session();
    let statement = copy_statement(&bench.day.whole.copy_file).replace("market_data.btc_ticks", HEAP);
    client
        .batch_execute(&format!(
            "CREATE TABLE {HEAP} AS SELECT {COLUMNS} FROM market_data.btc_ticks WITH NO DATA; {statement}"
        ))
        .expect("a heap table");
    // So that reading it writes no hint bits.
    client.batch_execute(&format!("VACUUM (FREEZE, ANALYZE) {HEAP}")).expect("a vacuum");
}

/// What an ETL job does that stages its rows in the database first; staging them is not counted.
pub fn insert(bench: &Bench, results: &mut Results) {
    bench.rig.reset();
    let statement =
        format!("INSERT INTO market_data.btc_ticks ({COLUMNS}) SELECT {COLUMNS} FROM {HEAP} ON CONFLICT DO NOTHING");
    let ((), seconds, _) = transaction(&mut bench.rig.session(), |client| client.batch_execute(&statement));
    bench.rig.check(&bench.day.sums, "insert");
    results.add("insert", seconds, bench.day.whole.ticks);
}

/// The live path.
pub fn load(bench: &Bench, results: &mut Results) {
    bench.rig.reset();
    let (report, seconds, commit) = transaction(&mut bench.rig.session(), |client| {
        client.query_one(
            "SELECT fetch_ms, decode_ms, insert_ms, elapsed_ms FROM btc_ingest.load_s3_slice($1)",
            &[&bench.day.whole.uri],
        )
    });
    bench.rig.check(&bench.day.sums, "load");
    results.add("load", seconds, bench.day.whole.ticks);
    let ms = |column: &str| report.get(column);
    results.breakdown.push(Breakdown {
        fetch: ms("fetch_ms"),
        decode: ms("decode_ms"),
        insert: ms("insert_ms"),
        elapsed: ms("elapsed_ms"),
        commit: commit * 1000.0,
    });
}
