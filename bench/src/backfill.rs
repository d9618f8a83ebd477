//! Backfills: as many ticks as the day has, over many days and chunks, by several workers at once; and the slices of the
//! day from an S3 server that is far away.

use std::time::Duration;

use btc_ingest_kit::{Fault, FaultProxy, Sums, When};

use crate::bench::Bench;
use crate::data::{Day, Spread};
use crate::results::Results;
use crate::rig::{DATABASE, Rig, copy_statement, timed, transaction};

/// The rows that need [`Spread`].
pub const NEED_SPREAD: &[&str] =
    &["copy-spread", "backfill-slice-1", "backfill-slice-2", "backfill-chunk-1", "backfill-chunk-2"];
/// Workers that read from far and near.
const WORKERS: u32 = 2;
/// By its name alone: called otherwise than it wants to be, it should fail and not pass as missing.
const PROCEDURE: &str = "btc_ingest.backfill";

/// The baseline: one connection, one transaction, key order.
pub fn copy(bench: &Bench, results: &mut Results) {
    let Some(spread) = &bench.spread else { return };
    bench.rig.reset();
    let statement = copy_statement(&spread.copy_file);
    let ((), seconds, _) = transaction(&mut bench.rig.session(), |client| client.batch_execute(&statement));
    bench.rig.check(&spread.sums, "copy-spread");
    results.add("copy-spread", seconds, spread.sums.rows);
}

/// A backfill of [`Spread`] in one mode and with so many workers.
pub fn spread(bench: &Bench, results: &mut Results, key: &'static str, mode: &str, workers: u32) {
    let Some(spread) = &bench.spread else { return };
    if let Some(seconds) = backfill(&bench.rig, results, key, &Spread::prefix(), mode, workers, &spread.sums) {
        results.add(key, seconds, spread.sums.rows);
    }
}

/// The day's slices through a proxy, without and with latency: the proxy's own time is in both.
pub fn near_and_far(bench: &Bench, results: &mut Results) {
    let proxy = FaultProxy::before(&bench.rig.s3);
    let _endpoint = Endpoint::set(&bench.rig, &proxy.endpoint());
    for (key, latency) in [("backfill-near", None), ("backfill-far", Some(bench.options.latency_ms))] {
        if let Some(ms) = latency {
            proxy.on(When::any(), Fault::Latency(Duration::from_millis(ms)));
        }
        proxy.forget();
        let prefix = Day::slices_prefix();
        if let Some(seconds) = backfill(&bench.rig, results, key, &prefix, "slice", WORKERS, &bench.day.sums) {
            results.add(key, seconds, bench.day.sums.rows);
            results.note(key, format!("{} requests", proxy.requests().len()));
        }
    }
}

/// Seconds that a backfill into empty tables takes, or a note on why there is none.
fn backfill(
    rig: &Rig,
    results: &mut Results,
    key: &'static str,
    prefix: &str,
    mode: &str,
    workers: u32,
    sums: &Sums,
) -> Option<f64> {
    if let Some(why) = missing(rig, mode) {
        results.note(key, why);
        return None;
    }
    rig.reset();
    let mut client = rig.session();
    // Outside a transaction block, because the procedure commits.
    let call = format!("CALL btc_ingest.backfill(ARRAY['{prefix}'], parallel => {workers}, mode => '{mode}')");
    let ((), seconds) = timed(|| client.batch_execute(&call));
    rig.check(sums, key);
    Some(seconds)
}

fn missing(rig: &Rig, mode: &str) -> Option<&'static str> {
    let mut client = rig.session();
    let sql = format!("SELECT to_regproc('{PROCEDURE}') IS NOT NULL, current_setting('timescaledb.license')");
    let row = client.query_one(&sql, &[]).expect("an answer");
    if !row.get::<_, bool>(0) {
        return Some("not there yet");
    }
    let apache = row.get::<_, String>(1) != "timescale";
    (mode == "chunk" && apache).then_some("skipped: needs the Community edition")
}

/// Another endpoint for every new session of the database, background workers' among them, as long as this lives.
struct Endpoint<'a>(&'a Rig);

impl<'a> Endpoint<'a> {
    fn set(rig: &'a Rig, endpoint: &str) -> Self {
        let sql = format!("ALTER DATABASE {DATABASE} SET btc_ingest.s3_endpoint = '{endpoint}'");
        rig.session().batch_execute(&sql).expect("a setting");
        Self(rig)
    }
}

impl Drop for Endpoint<'_> {
    fn drop(&mut self) {
        let sql = format!("ALTER DATABASE {DATABASE} RESET btc_ingest.s3_endpoint");
        // If the server is gone, so is the setting.
        let _ = self.0.session().batch_execute(&sql);
    }
}
