//! Questions about stored ticks: prices as of times beside LATERAL, a day's bars, an hour among a full chunk.

use postgres::Client;

use crate::bench::Bench;
use crate::data::{FIRST_ID, START, SYMBOL};
use crate::fixtures::FULL_DATABASE;
use crate::results::Results;
use crate::servers::{Servers, copy_statement, timed};

/// The rows that read [`DAY_DATABASE`].
pub const NEED_DAY: &[&str] = &["prices", "prices-lateral", "bars"];
/// The database that holds the day, and is never emptied.
const DAY_DATABASE: &str = "bench_day";
/// How many times are asked for, and about how many ticks lie among them.
const TIMES: usize = 1_000_000;

/// Stores the day and the times.
pub fn make(servers: &Servers, copy_file: &std::path::Path, count: usize) {
    servers.create_database(DAY_DATABASE);
    let mut client = servers.cluster.client(DAY_DATABASE);
    client.batch_execute(&copy_statement(copy_file)).expect("the day");
    let last = FIRST_ID + TIMES.min(count) as i64 - 1;
    let times = format!(
        "CREATE TABLE public.times AS
         SELECT array_agg(timestamptz '{START}' + n * (last.event_time - timestamptz '{START}') / {TIMES}) AS times
           FROM market_data.btc_ticks last, generate_series(1, {TIMES}) AS n
          WHERE last.trade_id = {last}"
    );
    client.batch_execute(&times).expect("the times");
    client.batch_execute("VACUUM (ANALYZE) market_data.btc_ticks").expect("a vacuum");
}

/// Measures prices as of the times, by the function and by a probe per time. Both must find the same prices.
pub fn prices(bench: &Bench, results: &mut Results) {
    let mut client = bench.servers.cluster.client(DAY_DATABASE);
    let function = format!(
        "SELECT count(p.price), sum(p.price)::text FROM public.times t, btc_ingest.prices_at('{SYMBOL}', t.times) p"
    );
    let lateral = format!(
        "SELECT count(p.price), sum(p.price)::text
           FROM public.times t CROSS JOIN unnest(t.times) AS u (at)
           LEFT JOIN LATERAL (SELECT k.price FROM market_data.btc_ticks k
                               WHERE k.symbol = '{SYMBOL}' AND k.event_time <= u.at
                               ORDER BY k.event_time DESC, k.trade_id DESC LIMIT 1) p ON true"
    );
    let found = [("prices", function), ("prices-lateral", lateral)].map(|(key, sql)| {
        let (row, seconds) = timed(|| client.query_one(&sql, &[]));
        results.add(key, seconds, TIMES as u64);
        (row.get::<_, i64>(0), row.get::<_, Option<String>>(1))
    });
    assert!(found[0] == found[1] && found[0].0 > 0, "{found:?}");
}

/// Measures bars of a fixed volume over the whole day.
pub fn bars(bench: &Bench, results: &mut Results) {
    let mut client = bench.servers.cluster.client(DAY_DATABASE);
    let sql = format!(
        "SELECT sum(b.trades)::bigint, count(*) FROM btc_ingest.bars('{SYMBOL}', '{START}',
                timestamptz '{START}' + interval '1 day', 'volume', 10) b"
    );
    let (row, seconds) = timed(|| client.query_one(&sql, &[]));
    assert_eq!(row.get::<_, i64>(0) as u64, bench.day.whole.ticks);
    results.add("bars", seconds, bench.day.whole.ticks);
    results.note("bars", format!("{} bars", row.get::<_, i64>(1)));
}

/// Measures an hour of ticks in the middle of the full chunk.
pub fn hour(bench: &Bench, results: &mut Results) {
    if bench.full_chunk.is_none() {
        return;
    }
    let mut client: Client = bench.servers.cluster.client(FULL_DATABASE);
    let sql = format!(
        "SELECT count(*), sum(t.quantity)::text
           FROM btc_ingest.ticks('{SYMBOL}', timestamptz '{START}' + interval '3 days',
                                 timestamptz '{START}' + interval '3 days 1 hour') t"
    );
    let (row, seconds) = timed(|| client.query_one(&sql, &[]));
    assert!(row.get::<_, i64>(0) > 0);
    results.add("hour", seconds, row.get::<_, i64>(0) as u64);
}
