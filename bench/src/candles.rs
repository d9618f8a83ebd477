//! Candles: loads into a hypertable with two continuous aggregates beside COPY into the same, their refresh, and a
//! chart.

use postgres::Client;

use crate::bench::Bench;
use crate::compressed::{APACHE, is_community};
use crate::data::{START, SYMBOL, Spread};
use crate::results::Results;
use crate::servers::{Servers, copy_statement, timed, transaction};

/// The rows that need [`LOADED_DATABASE`].
pub const NEED_LOADED: &[&str] = &["copy-candles", "load-candles", "refresh"];
/// The rows that need [`MONTH_DATABASE`].
pub const NEED_MONTH: &[&str] = &["chart-candles", "chart-ticks"];
/// A hypertable with two aggregates.
const LOADED_DATABASE: &str = "bench_candles";
/// The ticks over many days with their candles of a minute, never emptied.
const MONTH_DATABASE: &str = "bench_month";
/// Empties the hypertable and what loads record, and keeps the candles.
const EMPTY: &str = "TRUNCATE market_data.btc_ticks, landing.raw_blobs_5m, landing.rejected_ticks, ingestion.objects,
                              ingestion.object_slices, ingestion.id_sets, ingestion.stream_offsets,
                              ingestion.load_history";

/// Makes a hypertable with candles of a second and of a minute. Both read the ticks.
pub fn make_loaded(servers: &Servers, copy_file: &std::path::Path) {
    if !is_community(servers) {
        return;
    }
    servers.create_database(LOADED_DATABASE);
    let mut client = servers.cluster.client(LOADED_DATABASE);
    for width in ["1 second", "1 minute"] {
        client.query_one("SELECT btc_ingest.create_candles($1::text::interval)", &[&width]).expect("candles");
    }
    let sql = "SELECT count(*) FROM _timescaledb_catalog.continuous_agg g
                 JOIN _timescaledb_catalog.hypertable h ON h.id = g.raw_hypertable_id
                WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks'";
    assert_eq!(client.query_one(sql, &[]).expect("a count").get::<_, i64>(0), 2, "aggregates over the ticks");
    // TimescaleDB notes changes only where the aggregates were refreshed before.
    client.batch_execute(&copy_statement(copy_file)).expect("the day");
    client.batch_execute("CALL btc_ingest.refresh_candles()").expect("a refresh");
}

/// Stores the ticks over many days and fills their candles of a minute.
pub fn make_month(servers: &Servers, spread: &Spread) {
    if !is_community(servers) {
        return;
    }
    servers.create_database(MONTH_DATABASE);
    let mut client = servers.cluster.client(MONTH_DATABASE);
    client.batch_execute(&copy_statement(&spread.copy_file)).expect("the ticks");
    client.query_one("SELECT btc_ingest.create_candles('1 minute')", &[]).expect("candles");
    client.batch_execute("CALL btc_ingest.refresh_candles()").expect("a refresh");
    client.batch_execute("VACUUM (ANALYZE)").expect("a vacuum");
}

/// Measures the baseline: the day by COPY into the hypertable with two aggregates.
pub fn copy(bench: &Bench, results: &mut Results) {
    let Some(mut client) = emptied(bench, results, "copy-candles") else { return };
    let statement = copy_statement(&bench.day.whole.copy_file);
    let ((), seconds, _) = transaction(&mut client, |client| client.batch_execute(&statement));
    check(bench, &mut client);
    results.add("copy-candles", seconds, bench.day.whole.ticks);
}

/// Measures the load of the day into the same, and then the refresh of the day.
pub fn load(bench: &Bench, results: &mut Results) {
    let Some(mut client) = emptied(bench, results, "load-candles") else {
        results.note("refresh", APACHE);
        return;
    };
    let sql = "SELECT outcome FROM btc_ingest.load_s3_slice($1)";
    let (_, seconds, _) = transaction(&mut client, |client| client.query_one(sql, &[&bench.day.whole.uri]));
    check(bench, &mut client);
    results.add("load-candles", seconds, bench.day.whole.ticks);
    let call = format!("CALL btc_ingest.refresh_candles('{START}', timestamptz '{START}' + interval '1 day')");
    let ((), seconds) = timed(|| client.batch_execute(&call));
    let sql = "SELECT sum(trades)::bigint FROM market_data.btc_ohlcv_1m";
    assert_eq!(client.query_one(sql, &[]).expect("candles").get::<_, i64>(0) as u64, bench.day.whole.ticks);
    results.add("refresh", seconds, bench.day.whole.ticks);
}

/// Measures the candles of a minute of a month, and the same computed from the ticks. Both must be equal.
pub fn chart(bench: &Bench, results: &mut Results) {
    if !is_community(&bench.servers) {
        NEED_MONTH.iter().for_each(|key| results.note(key, APACHE));
        return;
    }
    let mut client = bench.servers.cluster.client(MONTH_DATABASE);
    let candles = format!(
        "SELECT bucket, open, high, low, close, volume FROM market_data.btc_ohlcv_1m
          WHERE symbol = '{SYMBOL}'
            AND bucket_5m >= '{START}' AND bucket_5m < timestamptz '{START}' + interval '30 days'
          ORDER BY bucket"
    );
    let ticks = format!(
        "SELECT date_bin('1 minute', event_time, timestamptz 'epoch') AS minute,
                (array_agg(price ORDER BY event_time, trade_id))[1], max(price), min(price),
                (array_agg(price ORDER BY event_time DESC, trade_id DESC))[1], sum(quantity)
           FROM btc_ingest.ticks('{SYMBOL}', '{START}', timestamptz '{START}' + interval '30 days')
          GROUP BY minute ORDER BY minute"
    );
    for (key, sql) in [("chart-candles", &candles), ("chart-ticks", &ticks)] {
        // The server answers in full, and the client takes the rows; nothing is formatted as text.
        let (rows, seconds) = timed(|| client.query(sql.as_str(), &[]));
        results.add(key, seconds, bench.spread.as_ref().map_or(0, |spread| spread.sums.rows));
        results.note(key, format!("{} candles", rows.len()));
    }
    let differing = format!("SELECT count(*) FROM (({candles}) EXCEPT ({ticks})) AS d");
    assert_eq!(client.query_one(&differing, &[]).expect("a comparison").get::<_, i64>(0), 0, "candles differ");
}

/// Returns a session at the emptied hypertable. Notes why if there is none.
fn emptied(bench: &Bench, results: &mut Results, key: &'static str) -> Option<Client> {
    if !is_community(&bench.servers) {
        results.note(key, APACHE);
        return None;
    }
    let mut client = bench.servers.cluster.client(LOADED_DATABASE);
    client.batch_execute(EMPTY).expect("the extension's tables");
    bench.servers.checkpoint();
    Some(client)
}

fn check(bench: &Bench, client: &mut Client) {
    btc_ingest_kit::fixture::stored(client).must_be(&bench.day.sums, "candles");
}
