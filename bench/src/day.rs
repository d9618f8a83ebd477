//! One day as one object, beside COPY and INSERT of the same ticks.

use postgres::Client;

use crate::bench::Bench;
use crate::results::{Breakdown, Results};
use crate::servers::{COLUMNS, copy_statement, transaction};
use crate::tuned::{wal_position, written_since};

/// The rows that read a heap table.
pub const NEED_HEAP: &[&str] = &["insert"];
const HEAP: &str = "public.heap_ticks";
/// What is said of the rows with a setting if the command line has none.
pub const NO_SETTING: &str = "skipped: --set names no setting";
/// What turns the ledger of a session off, in a library that was built with the feature `bench`.
pub const WITHOUT_LEDGER: &str = "SET bench.without_ledger = 'yes'";

/// Measures the baseline.
pub fn copy(bench: &Bench, results: &mut Results) {
    bench.servers.reset();
    let statement = copy_statement(&bench.day.whole.copy_file);
    let ((), seconds, _) = transaction(&mut bench.servers.session(), |client| client.batch_execute(&statement));
    bench.servers.check(&bench.day.sums, "copy");
    results.add("copy", seconds, bench.day.whole.ticks);
}

/// Makes the table that [`insert`] reads: rows in key order, vacuumed.
pub fn make_heap(bench: &Bench) {
    let mut client = bench.servers.session();
    let statement = copy_statement(&bench.day.whole.copy_file).replace("market_data.btc_ticks", HEAP);
    client
        .batch_execute(&format!(
            "CREATE TABLE {HEAP} AS SELECT {COLUMNS} FROM market_data.btc_ticks WITH NO DATA; {statement}"
        ))
        .expect("a heap table");
    // Reading it then writes no hint bits.
    client.batch_execute(&format!("VACUUM (FREEZE, ANALYZE) {HEAP}")).expect("a vacuum");
}

/// Measures what an ETL job does after it has staged its rows in the database.
pub fn insert(bench: &Bench, results: &mut Results) {
    bench.servers.reset();
    let statement =
        format!("INSERT INTO market_data.btc_ticks ({COLUMNS}) SELECT {COLUMNS} FROM {HEAP} ON CONFLICT DO NOTHING");
    let ((), seconds, _) = transaction(&mut bench.servers.session(), |client| client.batch_execute(&statement));
    bench.servers.check(&bench.day.sums, "insert");
    results.add("insert", seconds, bench.day.whole.ticks);
}

/// Measures a load of the day as one object.
pub fn load(bench: &Bench, results: &mut Results) {
    bench.servers.reset();
    let before = wal_position(&bench.servers);
    let (report, seconds, commit) = transaction(&mut bench.servers.session(), |client| {
        client.query_one(
            "SELECT fetch_ms, decode_ms, insert_ms, elapsed_ms FROM btc_ingest.load_s3_slice($1)",
            &[&bench.day.whole.uri],
        )
    });
    results.note("load", written_since(&bench.servers, before));
    bench.servers.check(&bench.day.sums, "load");
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

/// Measures the same load in a session without the ledger.
pub fn load_bare(bench: &Bench, results: &mut Results) {
    bench.servers.reset();
    let mut client = bench.servers.session();
    client.batch_execute(WITHOUT_LEDGER).expect("a setting");
    let sql = "SELECT outcome FROM btc_ingest.load_s3_slice($1)";
    let (_, seconds, _) = transaction(&mut client, |client| client.query_one(sql, &[&bench.day.whole.uri]));
    must_be_without_ledger(&mut client);
    bench.servers.check(&bench.day.sums, "load-bare");
    results.add("load-bare", seconds, bench.day.whole.ticks);
}

/// Measures the same load with the setting of the command line.
pub fn load_set(bench: &Bench, results: &mut Results) {
    let Some((name, value)) = &bench.options.set else {
        results.note("load-set", NO_SETTING);
        return;
    };
    bench.servers.reset();
    let mut client = bench.servers.session();
    let setting = format!("LOAD 'btc_ingest'; SET {name} = '{}'", value.replace('\'', "''"));
    client.batch_execute(&setting).expect("a setting");
    let sql = "SELECT outcome FROM btc_ingest.load_s3_slice($1)";
    let (_, seconds, _) = transaction(&mut client, |client| client.query_one(sql, &[&bench.day.whole.uri]));
    bench.servers.check(&bench.day.sums, "load-set");
    results.add("load-set", seconds, bench.day.whole.ticks);
    results.note("load-set", format!("{name} = {value}"));
}

/// Makes sure that the installed library knows the switch.
pub fn must_be_without_ledger(client: &mut Client) {
    let sql = "SELECT count(*) FROM ingestion.object_slices WHERE ids IS NOT NULL";
    let row = client.query_one(sql, &[]).expect("a count");
    assert_eq!(row.get::<_, i64>(0), 0, "the installed library has no switch for the ledger: build it by `make bench`");
}
