//! The time from a slice's registration until its ticks are visible: loaded by a waiting worker, alone and beside a
//! backfill.

use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::data::Day;
use crate::day::NO_SETTING;
use crate::fixtures::{LiveEdge, WARM};
use crate::format::duration;
use crate::results::{Results, median, percentile};
use crate::servers::{DATABASE, Servers};
use crate::workers::{Listener, reset, set};

/// The rows that need a [`LiveEdge`].
pub const NEED_LIVE_EDGE: &[&str] = &["arrive", "arrive-set", "arrive-busy"];
/// The pause between two slices. The worker waits again meanwhile, as it does when slices come every five minutes.
const PAUSE: Duration = Duration::from_millis(30);

/// Measures the arrivals while the worker has nothing else to do.
pub fn alone(bench: &Bench, results: &mut Results) {
    let Some((servers, edge)) = bench.workers.as_ref().zip(bench.live_edge.as_ref()) else { return };
    servers.reset();
    note(results, "arrive", &arrive(servers, edge, || true));
}

/// Measures the same with the setting of the command line.
pub fn with_setting(bench: &Bench, results: &mut Results) {
    let Some((servers, edge)) = bench.workers.as_ref().zip(bench.live_edge.as_ref()) else { return };
    let Some((name, value)) = &bench.options.set else {
        results.note("arrive-set", NO_SETTING);
        return;
    };
    servers.reset();
    set(servers, &format!("{name} = '{}'", value.replace('\'', "''")));
    note(results, "arrive-set", &arrive(servers, edge, || true));
    reset(servers, name);
}

/// Measures the arrivals while one worker of a backfill loads the day's slices.
pub fn busy(bench: &Bench, results: &mut Results) {
    let Some((servers, edge)) = bench.workers.as_ref().zip(bench.live_edge.as_ref()) else { return };
    servers.reset();
    let connection = servers.cluster.connection_string(DATABASE);
    let call = format!("CALL btc_ingest.backfill(ARRAY['{}'], parallel => 1)", Day::slices_prefix());
    let backfill = std::thread::spawn(move || {
        let mut client = postgres::Client::connect(&connection, postgres::NoTls).expect("a session");
        client.batch_execute(&call).expect("a backfill");
    });
    let times = arrive(servers, edge, || !backfill.is_finished());
    note(results, "arrive-busy", &times);
    backfill.join().expect("a backfill");
}

/// Registers one slice after another while `go_on` returns true. Returns the seconds until each was visible.
fn arrive(servers: &Servers, edge: &LiveEdge, go_on: impl Fn() -> bool) -> Vec<f64> {
    set(servers, "btc_ingest.workers = 2");
    let mut listener = Listener::start(servers);
    let mut producer = servers.session();
    let mut times = Vec::new();
    for slice in &edge.slices {
        let start = Instant::now();
        slice.register(&mut producer);
        listener.wait_for(slice);
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(listener.count(slice), slice.ticks, "{}", slice.uri);
        if !go_on() {
            break;
        }
        times.push(seconds);
        std::thread::sleep(PAUSE);
    }
    times.split_off(WARM.min(times.len()))
}

fn note(results: &mut Results, key: &'static str, times: &[f64]) {
    let Some(typical) = median(times) else {
        results.note(key, "the backfill ended before the first slice came; give it more --ticks");
        return;
    };
    results.add(key, typical, 0);
    let at = |part| duration(percentile(times, part).unwrap_or_default());
    results.note(
        key,
        format!("{} slices a round; the last one: 95 % within {}, all within {}", times.len(), at(0.95), at(1.0)),
    );
}
