//! The day with the settings that the host's setup makes for loads, beside the same without them.

use crate::bench::Bench;
use crate::compressed::{APACHE, NEWEST_FIRST, NOT_COMPRESSED, bytes, compress, is_community, prepared};
use crate::format::{grouped, megabytes};
use crate::results::Results;
use crate::servers::{Servers, copy_statement, timed, transaction};

/// The rows, which have a cluster of their own.
pub const KEYS: &[&str] = &[
    "copy-tuned",
    "load-tuned",
    "copy-tuned-compressed",
    "load-tuned-compressed",
    "copy-tuned-ordered",
    "load-tuned-ordered",
];
/// The rows of compression, with the order of each two.
const COMPRESSED: [(&str, &str, &str); 2] = [
    ("copy-tuned-compressed", "load-tuned-compressed", NEWEST_FIRST),
    ("copy-tuned-ordered", "load-tuned-ordered", "event_time, trade_id"),
];
/// The settings of `infra/database/scripts/lib/tuning.sh` that concern loads and compression, as that script makes them
/// on a host of 24 GB.
pub const SETTINGS: &[(&str, &str)] = &[
    ("huge_pages", "try"),
    ("wal_buffers", "128MB"),
    ("wal_compression", "lz4"),
    ("default_toast_compression", "lz4"),
    ("maintenance_work_mem", "1536MB"),
];

/// Copies the day once, which is not measured.
pub fn warm(bench: &Bench) {
    if let Some(servers) = &bench.tuned {
        let copy = copy_statement(&bench.day.whole.copy_file);
        servers.session().batch_execute(&copy).expect("the day");
    }
}

/// Measures all rows.
pub fn measure(bench: &Bench, results: &mut Results) {
    let Some(servers) = &bench.tuned else { return };
    let ticks = bench.day.whole.ticks;
    let copy = copy_statement(&bench.day.whole.copy_file);
    let load = "SELECT outcome FROM btc_ingest.load_s3_slice($1)";

    servers.reset();
    let ((), seconds, _) = transaction(&mut servers.session(), |client| client.batch_execute(&copy));
    servers.check(&bench.day.sums, "copy-tuned");
    results.add("copy-tuned", seconds, ticks);
    results.note("copy-tuned", huge_pages());

    servers.reset();
    let mut client = servers.session();
    let before = wal_position(servers);
    let (_, seconds, _) = transaction(&mut client, |client| client.query_one(load, &[&bench.day.whole.uri]));
    results.note("load-tuned", written_since(servers, before));
    servers.check(&bench.day.sums, "load-tuned");
    results.add("load-tuned", seconds, ticks);

    for (copied, loaded, order) in COMPRESSED {
        if !is_community(servers) {
            [copied, loaded].iter().for_each(|key| results.note(key, APACHE));
            continue;
        }
        let mut client = prepared(servers, order);
        let ((), seconds) = timed(|| client.batch_execute(&copy));
        let compressing = compress(&mut client);
        servers.check(&bench.day.sums, copied);
        results.add(copied, seconds + compressing, ticks);

        let mut client = prepared(servers, order);
        let (_, seconds) = timed(|| client.query_one(load, &[&bench.day.whole.uri]));
        let compressing = compress(&mut client);
        let size = bytes(&mut client);
        servers.check(&bench.day.sums, loaded);
        results.add(loaded, seconds + compressing, ticks);
        results.note(loaded, format!("{compressing:.2} s of it compressing, to {} MB", megabytes(size.max(0) as u64)));
        servers.reset();
        client.batch_execute(NOT_COMPRESSED).expect("no compression");
    }
}

/// Returns the position at which the write-ahead log ends, in bytes.
pub fn wal_position(servers: &Servers) -> i64 {
    let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
    servers.session().query_one(sql, &[]).expect("a position").get(0)
}

/// Says how much of the write-ahead log was written since that position.
pub fn written_since(servers: &Servers, before: i64) -> String {
    format!("{} MB of write-ahead log", megabytes((wal_position(servers) - before).max(0) as u64))
}

/// Says whether the kernel had huge pages for the cluster.
fn huge_pages() -> String {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let pages = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim_start_matches(':').trim().parse::<u64>().ok()).unwrap_or(0)
    };
    match pages("HugePages_Total") - pages("HugePages_Free") {
        0 => "without huge pages: none were reserved that suffice (vm.nr_hugepages)".into(),
        used => format!("{} huge pages in use", grouped(used)),
    }
}
