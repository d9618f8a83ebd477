//! Backfills: as many ticks as the day has, over many days and chunks, by one or two workers; and the slices of the day
//! from an S3 server that is far away.

use std::time::Duration;

use btc_ingest_kit::{Fault, FaultProxy, Sums, When};

use crate::bench::Bench;
use crate::data::{Day, Spread};
use crate::results::Results;
use crate::servers::{DATABASE, Servers, copy_statement, timed, transaction};

/// The rows that need [`Spread`].
pub const NEED_SPREAD: &[&str] = &[
    "copy-spread",
    "backfill-object-1",
    "backfill-object-2",
    "backfill-chunk-1",
    "backfill-chunk-2",
    "chart-candles",
    "chart-ticks",
];
/// Workers of the backfills from near and far.
const WORKERS: u32 = 2;

/// Measures the baseline: one connection, one transaction, key order.
pub fn copy(bench: &Bench, results: &mut Results) {
    let Some(spread) = &bench.spread else { return };
    bench.servers.reset();
    let statement = copy_statement(&spread.copy_file);
    let ((), seconds, _) = transaction(&mut bench.servers.session(), |client| client.batch_execute(&statement));
    bench.servers.check(&spread.sums, "copy-spread");
    results.add("copy-spread", seconds, spread.sums.rows);
}

/// Measures a backfill of [`Spread`] in one mode with `workers` workers.
pub fn spread(bench: &Bench, results: &mut Results, key: &'static str, mode: &str, workers: u32) {
    let Some(spread) = &bench.spread else { return };
    if let Some(seconds) = backfill(&bench.servers, results, key, &Spread::prefix(), mode, workers, &spread.sums) {
        results.add(key, seconds, spread.sums.rows);
    }
}

/// Measures the day's slices through a proxy, without and with latency: both include the proxy's own time.
pub fn near_and_far(bench: &Bench, results: &mut Results) {
    let proxy = FaultProxy::before(&bench.servers.s3);
    let _endpoint = Endpoint::set(&bench.servers, &proxy.endpoint());
    for (key, latency) in [("backfill-near", None), ("backfill-far", Some(bench.options.latency_ms))] {
        if let Some(ms) = latency {
            proxy.on(When::any(), Fault::Latency(Duration::from_millis(ms)));
        }
        proxy.forget();
        let prefix = Day::slices_prefix();
        if let Some(seconds) = backfill(&bench.servers, results, key, &prefix, "object", WORKERS, &bench.day.sums) {
            results.add(key, seconds, bench.day.sums.rows);
            results.note(key, format!("{} requests", proxy.requests().len()));
        }
    }
}

/// Returns the seconds that a backfill into empty tables takes. If it cannot be measured, notes why and returns `None`.
fn backfill(
    servers: &Servers,
    results: &mut Results,
    key: &'static str,
    prefix: &str,
    mode: &str,
    workers: u32,
    sums: &Sums,
) -> Option<f64> {
    if let Some(why) = missing(servers, mode) {
        results.note(key, why);
        return None;
    }
    servers.reset();
    let mut client = servers.session();
    // Outside a transaction block, because the procedure commits.
    let call = format!("CALL btc_ingest.backfill(ARRAY['{prefix}'], parallel => {workers}, mode => '{mode}')");
    let ((), seconds) = timed(|| client.batch_execute(&call));
    servers.check(sums, key);
    Some(seconds)
}

/// Returns why this server cannot do the backfill, if it cannot.
fn missing(servers: &Servers, mode: &str) -> Option<&'static str> {
    let row = servers.session().query_one("SELECT current_setting('timescaledb.license')", &[]).expect("an answer");
    (mode == "chunk" && row.get::<_, String>(0) != "timescale").then_some("skipped: needs the Community edition")
}

/// Sets another S3 endpoint for every new session of the database, those of background workers included, until it is
/// dropped.
struct Endpoint<'a>(&'a Servers);

impl<'a> Endpoint<'a> {
    fn set(servers: &'a Servers, endpoint: &str) -> Self {
        let sql = format!("ALTER DATABASE {DATABASE} SET btc_ingest.s3_endpoint = '{endpoint}'");
        servers.session().batch_execute(&sql).expect("a setting");
        Self(servers)
    }
}

impl Drop for Endpoint<'_> {
    fn drop(&mut self) {
        let sql = format!("ALTER DATABASE {DATABASE} RESET btc_ingest.s3_endpoint");
        // An error means that the server has stopped, and the setting with it.
        let _ = self.0.session().batch_execute(&sql);
    }
}
