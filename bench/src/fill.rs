//! The two ways of filling indexes, `btc_ingest.index_fill`, where runs are hard to come by: shuffled rows, rows in
//! reverse, dead twins of every key. And what the indexes measure against a fresh build.

use btc_ingest_kit::Sums;
use postgres::Client;

use crate::bench::Bench;
use crate::results::Results;
use crate::servers::{DATABASE, timed, transaction};

/// The rows that need the day in other orders.
pub const NEED_ORDERS: &[&str] = &["shuffled", "shuffled-runs", "reversed", "reversed-runs"];
const LOAD: &str = "SELECT outcome FROM btc_ingest.load_s3_slice($1)";

/// Opens a session that fills indexes in this way.
pub fn session(bench: &Bench, database: &str, fill: &str) -> Client {
    let mut client = bench.servers.cluster.client(database);
    client.batch_execute(&format!("LOAD 'btc_ingest'; SET btc_ingest.index_fill = '{fill}'")).expect("a setting");
    client
}

/// Measures a load into the empty table, after which it must hold `sums`.
fn load(bench: &Bench, results: &mut Results, (key, fill): (&'static str, &str), uri: &str, sums: &Sums) {
    let mut client = session(bench, DATABASE, fill);
    let (_, seconds, _) = transaction(&mut client, |client| client.query_one(LOAD, &[&uri]));
    bench.servers.check(sums, key);
    results.add(key, seconds, sums.rows);
}

/// Measures loads of rows in random order.
pub fn shuffled(bench: &Bench, results: &mut Results) {
    let Some(orders) = &bench.orders else { return };
    for way in [("shuffled", "row"), ("shuffled-runs", "runs")] {
        bench.servers.reset();
        load(bench, results, way, &orders.shuffled, &orders.shuffled_sums);
    }
}

/// Measures loads of the day with its rows from the last to the first.
pub fn reversed(bench: &Bench, results: &mut Results) {
    let Some(orders) = &bench.orders else { return };
    for way in [("reversed", "row"), ("reversed-runs", "runs")] {
        bench.servers.reset();
        load(bench, results, way, &orders.reversed, &bench.day.sums);
    }
}

/// Measures loads of the day after the same load was rolled back: every key has an entry whose row is dead.
pub fn twins(bench: &Bench, results: &mut Results) {
    for (key, fill) in [("twins", "row"), ("twins-runs", "runs")] {
        bench.servers.reset();
        // The chunk itself must stay.
        session(bench, DATABASE, fill).query_one(LOAD, &[&bench.day.slices[0].uri]).expect("a load");
        bench.servers.session().batch_execute("DELETE FROM market_data.btc_ticks").expect("ticks to delete");
        let mut client = session(bench, DATABASE, fill);
        client.batch_execute("BEGIN").expect("a transaction");
        client.query_one(LOAD, &[&bench.day.whole.uri]).expect("a load");
        client.batch_execute("ROLLBACK").expect("its end");
        drop(client);
        bench.servers.checkpoint();
        load(bench, results, (key, fill), &bench.day.whole.uri, &bench.day.sums);
    }
}

/// Loads the day in each way and builds its indexes anew, which is timed. The notes have the size of each index after
/// the load, as a multiple of its size after that.
pub fn sizes(bench: &Bench, results: &mut Results) {
    for (key, fill) in [("rebuild", "row"), ("rebuild-runs", "runs")] {
        bench.servers.reset();
        let mut client = session(bench, DATABASE, fill);
        client.query_one(LOAD, &[&bench.day.whole.uri]).expect("a load");
        bench.servers.check(&bench.day.sums, key);
        let filled = index_sizes(&mut client);
        let sql = "SELECT format('REINDEX TABLE %I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
                    WHERE hypertable_name = 'btc_ticks'";
        let statements: Vec<String> = client.query(sql, &[]).expect("chunks").iter().map(|row| row.get(0)).collect();
        let ((), seconds) = timed(|| statements.iter().try_for_each(|sql| client.batch_execute(sql)));
        let built = index_sizes(&mut client);
        let ratios = filled.iter().zip(&built).map(|((columns, size), (_, fresh))| {
            format!("{columns} {:.2} × of {} MB", *size as f64 / *fresh as f64, fresh / 1_000_000)
        });
        results.note(key, ratios.collect::<Vec<_>>().join("; "));
        results.add(key, seconds, bench.day.whole.ticks);
    }
}

/// Returns the columns of each index of the chunks and its bytes.
fn index_sizes(client: &mut Client) -> Vec<(String, i64)> {
    let sql = "SELECT substring(pg_get_indexdef(x.indexrelid) FROM '\\(.*\\)'),
                      sum(pg_relation_size(x.indexrelid))::bigint
                 FROM timescaledb_information.chunks c
                 JOIN pg_index x ON x.indrelid = format('%I.%I', c.chunk_schema, c.chunk_name)::regclass
                WHERE c.hypertable_name = 'btc_ticks' GROUP BY 1 ORDER BY 1";
    client.query(sql, &[]).expect("indexes").iter().map(|row| (row.get(0), row.get(1))).collect()
}
