//! A backlog of registered slices: loaded by one worker or by two, from near and from far.

use std::time::Duration;

use btc_ingest_kit::{Fault, FaultProxy, Sums, When};

use crate::bench::Bench;
use crate::fixtures::FAR;
use crate::machine::Busy;
use crate::results::Results;
use crate::servers::{Servers, timed};
use crate::workers::{Endpoint, Listener, Slice, set};

/// The rows that need a [`Backlog`](crate::fixtures::Backlog).
pub const NEED_BACKLOG: &[&str] = &["drain-1", "drain-2", "drain-far-1", "drain-far-2"];

/// Measures how long `workers` workers take for all slices.
pub fn near(bench: &Bench, results: &mut Results, key: &'static str, workers: u32) {
    if let Some((servers, backlog)) = bench.workers.as_ref().zip(bench.backlog.as_ref()) {
        drain(servers, results, key, workers, &backlog.slices, &backlog.sums);
    }
}

/// Measures the first slices of the backlog through a proxy that adds latency to every request.
pub fn far(bench: &Bench, results: &mut Results, key: &'static str, workers: u32) {
    let Some((servers, backlog)) = bench.workers.as_ref().zip(bench.backlog.as_ref()) else { return };
    let proxy = FaultProxy::before(&servers.s3);
    proxy.on(When::any(), Fault::Latency(Duration::from_millis(bench.options.latency_ms)));
    let _endpoint = Endpoint::set(servers, &proxy.endpoint());
    let slices = &backlog.slices[..FAR.min(backlog.slices.len())];
    drain(servers, results, key, workers, slices, &backlog.far);
}

fn drain(servers: &Servers, results: &mut Results, key: &'static str, workers: u32, slices: &[Slice], sums: &Sums) {
    servers.reset();
    set(servers, &format!("btc_ingest.workers = {workers}"));
    let mut client = servers.session();
    client.batch_execute("SELECT btc_ingest.pause_ingest(); BEGIN").expect("a pause");
    slices.iter().for_each(|slice| slice.register(&mut client));
    client.batch_execute("COMMIT; ANALYZE landing.raw_blobs_5m").expect("a commit");
    let mut listener = Listener::start(servers);
    let busy = Busy::now();
    let ((), seconds) = timed(|| {
        client.batch_execute("SELECT btc_ingest.resume_ingest()")?;
        slices.iter().for_each(|_| drop(listener.next()));
        Ok(())
    });
    results.note(key, format!("the last run: {:.2} cores busy", busy.cores_since()));
    servers.check(sums, key);
    results.add(key, seconds, sums.rows);
}
