//! The day as one object of small row groups, as writers of streams make them, from near and from far.

use std::time::Duration;

use btc_ingest_kit::{Fault, FaultProxy, ParquetFile, When};

use crate::bench::Bench;
use crate::data::{DAY, ticks};
use crate::results::Results;
use crate::servers::{Servers, transaction};

/// The rows that need the object.
pub const NEED_GROUPS: &[&str] = &["groups-near", "groups-far"];
/// Rows of a row group.
const GROUP: usize = 1_000;

/// Stores the object and returns its uri.
pub fn make(servers: &Servers, count: usize) -> String {
    let object = ParquetFile::new().row_group_rows(GROUP).bytes(&ticks(count, DAY));
    servers.put("groups.parquet", object)
}

/// Measures loads of it through a proxy, without and with latency: both include the proxy's own time.
pub fn load(bench: &Bench, results: &mut Results) {
    let Some(uri) = &bench.groups else { return };
    let proxy = FaultProxy::before(&bench.servers.s3);
    for (key, latency) in [("groups-near", None), ("groups-far", Some(bench.options.latency_ms))] {
        if let Some(ms) = latency {
            proxy.on(When::any(), Fault::Latency(Duration::from_millis(ms)));
        }
        proxy.forget();
        bench.servers.reset();
        let mut client = bench.servers.session();
        // The footer of so many row groups does not fit into the default's share.
        let settings = format!(
            "LOAD 'btc_ingest'; SET btc_ingest.memory_limit = '128MB'; SET btc_ingest.s3_endpoint = '{}'",
            proxy.endpoint()
        );
        client.batch_execute(&settings).expect("settings");
        let (_, seconds, _) = transaction(&mut client, |client| {
            client.query_one("SELECT outcome FROM btc_ingest.load_s3_slice($1)", &[uri])
        });
        bench.servers.check(&bench.day.sums, key);
        results.add(key, seconds, bench.day.whole.ticks);
        results.note(key, format!("{} requests", proxy.requests().len()));
    }
}
