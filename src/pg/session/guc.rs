//! The values of the settings.

mod definitions;

use std::ffi::CString;
use std::time::Duration;

use pgrx::{GucSetting, PostgresGucEnum};

use super::{ffi, report};
use crate::error::{Error, Result};
use crate::load::pipeline::Limits;
use crate::model::bucket::POSTGRES_EPOCH_US;
use crate::model::queue_order::QueueOrder;
use crate::model::time_range::{TimeRange, parse_min_time};
use crate::model::uri::AllowedPrefixes;
use crate::s3::config::S3Settings;

pub use definitions::register;

type Text = GucSetting<Option<CString>>;

/// Empty: a library that reads files for its callers must be told first which files it may read.
static ALLOWED_PREFIXES: Text = Text::new(None);
/// Empty: AWS's own endpoint of the region, which inside a VPC is the gateway endpoint.
static S3_ENDPOINT: Text = Text::new(None);
/// Empty: the default chain of environment, profile and instance metadata.
static S3_REGION: Text = Text::new(None);
/// Off, as AWS wants it; other S3 servers usually need it on.
static S3_FORCE_PATH_STYLE: GucSetting<bool> = GucSetting::<bool>::new(false);
/// Empty: the system's certificate authorities only.
static S3_CA_FILE: Text = Text::new(None);
/// Empty: the default profile.
static AWS_PROFILE: Text = Text::new(None);
/// Milliseconds. A gateway endpoint answers within one; three seconds cover a lost SYN and its repetition.
static S3_CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(3_000);
/// Milliseconds. S3's slowest first bytes take seconds; twenty seconds of silence mean a broken connection.
static S3_READ_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(20_000);
/// Kilobytes a second. S3 gives one body thousands of times that, and a line of 2 Mbit/s still gives twice that to
/// each of sixteen bodies; what is slower holds up a loader for nothing.
static S3_MIN_SPEED: GucSetting<i32> = GucSetting::<i32>::new(8);
/// Seconds. A session that loads slice after slice never waits so long, and one that has loaded for once is soon
/// without threads and sockets again.
static S3_IDLE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(60);
/// One try and three repetitions, whose pauses add up to about two seconds.
static S3_MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(4);
/// Kilobytes. Enough for pages of a megabyte in nine columns with read-ahead and three batches in flight.
static MEMORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(64 * 1024);
/// Kilobytes. Sixteen gigabytes: a day of any market is far smaller, and a larger object is most likely a
/// mistake.
static MAX_OBJECT_SIZE: GucSetting<i32> = GucSetting::<i32>::new(16 * 1024 * 1024);
/// A thousand examples explain any defect; a million would fill the disk.
static MAX_KEPT_REJECTS: GucSetting<i32> = GucSetting::<i32>::new(1_000);
/// A tenth: a corrected file changes a few ticks, while another market under the same symbol conflicts nearly
/// everywhere.
static MAX_CONFLICT_FRACTION: GucSetting<f64> = GucSetting::<f64>::new(0.1);
/// Bitcoin's first block. A tick from before that is a time in a wrong unit.
static MIN_TIME: Text = Text::new(Some(c"2009-01-03"));
/// Minutes. A day covers clocks that are off, and times in a local time zone.
static MAX_TIME_AHEAD: GucSetting<i32> = GucSetting::<i32>::new(24 * 60);
/// `migrate()` reads it when it creates the hypertable. Later changes are made by TimescaleDB's
/// `set_chunk_time_interval`.
static CHUNK_TIME_INTERVAL: Text = Text::new(Some(c"7 days"));

/// Nine tries with doubling pauses outlast a fault of a quarter of an hour.
static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(9);
/// Milliseconds; a short fault has passed by then.
static RETRY_BACKOFF: GucSetting<i32> = GucSetting::<i32>::new(5_000);
/// Milliseconds; an object is tried again at most an hour after a long fault has ended.
static RETRY_BACKOFF_MAX: GucSetting<i32> = GucSetting::<i32>::new(3_600_000);
/// Empty: the extension does nothing until a session calls it.
static DATABASE: Text = Text::new(None);
/// Two: while one loader waits for the disk, the other decodes.
static WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);
/// Half of PostgreSQL's default max_worker_processes: the other half is left for loaders, TimescaleDB and parallel
/// queries.
static MAX_BACKFILL_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(4);
/// Milliseconds. Only a safety net: a session that registers an object wakes the workers.
static POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(10_000);
/// In the order in which the ticks were traded.
static QUEUE_ORDER: GucSetting<QueueOrderName> = GucSetting::<QueueOrderName>::new(QueueOrderName::Oldest);
/// In runs: loads spend most of their time on the indexes.
static INDEX_FILL: GucSetting<IndexFillName> = GucSetting::<IndexFillName>::new(IndexFillName::Runs);
/// On: a chunk is dropped for ever, and a request per object costs next to nothing.
static RETENTION_PROOF: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Loads are rare compared with statements, and an administrator who misses ticks looks for loads first.
static LOG_LOADS: GucSetting<LogLevel> = GucSetting::<LogLevel>::new(LogLevel::Log);
/// A hundred: an exchange has a few outages a year, while a feed that loses trades has thousands of gaps.
static MAX_OPEN_GAPS: GucSetting<i32> = GucSetting::<i32>::new(100);
/// Milliseconds. A feed sends an event within milliseconds of its trade; a second means that it was held up.
static TIME_SKEW_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(1_000);
/// Minutes. A quarter of a year: faults of the last month can still be examined.
static HISTORY_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(90 * 24 * 60);

/// Off: a load then takes a few percent longer.
static EMBED_ON_LOAD: GucSetting<bool> = GucSetting::<bool>::new(false);
/// Off: a build takes a processor and `maintenance_work_mem`, at a time that the administrator does not choose.
static EMBEDDING_INDEX_UPKEEP: GucSetting<bool> = GucSetting::<bool>::new(false);

/// The values of `btc_ingest.queue_order`. [`QueueOrder`] itself belongs to the core, which knows no pgrx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum QueueOrderName {
    #[name = c"oldest"]
    Oldest,
    #[name = c"newest"]
    Newest,
}

/// The values of `btc_ingest.index_fill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum IndexFillName {
    #[name = c"row"]
    Row,
    #[name = c"runs"]
    Runs,
}

/// The values of `btc_ingest.log_loads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum LogLevel {
    #[name = c"off"]
    Off,
    #[name = c"debug1"]
    Debug1,
    #[name = c"log"]
    Log,
}

/// When failed objects are tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries before an object is quarantined.
    pub max_attempts: i32,
    /// The first pause in milliseconds.
    pub backoff_ms: f64,
    /// The longest pause in milliseconds.
    pub backoff_max_ms: f64,
}

/// Returns `btc_ingest.max_attempts`, `retry_backoff` and `retry_backoff_max`.
pub fn retry() -> Retry {
    Retry {
        max_attempts: MAX_ATTEMPTS.get(),
        backoff_ms: f64::from(RETRY_BACKOFF.get()),
        backoff_max_ms: f64::from(RETRY_BACKOFF_MAX.get()),
    }
}

/// Returns `btc_ingest.database`, or `None` if it is empty.
pub fn database() -> Option<String> {
    Some(value(&DATABASE)).filter(|name| !name.is_empty())
}

/// Returns `btc_ingest.workers`.
pub fn workers() -> i32 {
    WORKERS.get()
}

/// Returns `btc_ingest.max_backfill_workers`.
pub fn max_backfill_workers() -> i32 {
    MAX_BACKFILL_WORKERS.get()
}

/// Returns `btc_ingest.poll_interval`.
pub fn poll_interval() -> Duration {
    Duration::from_millis(POLL_INTERVAL.get().max(1) as u64)
}

/// Returns `btc_ingest.queue_order`.
pub fn queue_order() -> QueueOrder {
    match QUEUE_ORDER.get() {
        QueueOrderName::Oldest => QueueOrder::Oldest,
        QueueOrderName::Newest => QueueOrder::Newest,
    }
}

/// Returns whether an append fills the leaves of an index in runs, by `btc_ingest.index_fill` and PostgreSQL's version.
pub fn fills_in_runs() -> bool {
    INDEX_FILL.get() == IndexFillName::Runs && ffi::KNOWS_NBTREE
}

/// Returns whether chunks are dropped only if all of their ticks are in objects that are still in S3.
pub fn retention_proof() -> bool {
    RETENTION_PROOF.get()
}

/// Returns `btc_ingest.history_retention` in minutes, or `None` if rows are kept for ever.
pub fn history_retention() -> Option<i32> {
    Some(HISTORY_RETENTION.get()).filter(|minutes| *minutes > 0)
}

/// Writes a line about a load into the server's log, at the level of `btc_ingest.log_loads`.
pub fn log_load(line: &str) {
    match LOG_LOADS.get() {
        LogLevel::Off => {}
        LogLevel::Debug1 => report::debug(line),
        LogLevel::Log => report::log(line),
    }
}

fn value(setting: &Text) -> String {
    setting.get().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns `btc_ingest.allowed_prefixes` as it is written.
pub fn allowed_prefixes_text() -> String {
    value(&ALLOWED_PREFIXES)
}

/// Parses `btc_ingest.allowed_prefixes`.
pub fn allowed_prefixes() -> Result<AllowedPrefixes> {
    allowed_prefixes_text().parse()
}

/// Returns the error for a key or prefix that `btc_ingest.allowed_prefixes` does not allow.
pub fn not_allowed(bucket: &str, key: &str) -> Error {
    Error::UriNotAllowed { allowed: allowed_prefixes_text(), wanted: AllowedPrefixes::wanted_for(bucket, key) }
}

/// Returns the settings by which S3 is reached.
pub fn s3() -> S3Settings {
    let ms = |setting: &GucSetting<i32>| Duration::from_millis(setting.get().max(1) as u64);
    S3Settings {
        endpoint: value(&S3_ENDPOINT),
        region: value(&S3_REGION),
        force_path_style: S3_FORCE_PATH_STYLE.get(),
        ca_file: value(&S3_CA_FILE),
        profile: value(&AWS_PROFILE),
        connect_timeout: ms(&S3_CONNECT_TIMEOUT),
        read_timeout: ms(&S3_READ_TIMEOUT),
        min_speed: S3_MIN_SPEED.get().max(0) as u64 * 1024,
        max_attempts: S3_MAX_ATTEMPTS.get().max(1) as u32,
    }
}

/// Returns `btc_ingest.s3_idle_timeout`.
pub fn s3_idle_timeout() -> Duration {
    Duration::from_secs(S3_IDLE_TIMEOUT.get().max(0) as u64)
}

/// Returns what a load may take.
pub fn limits() -> Limits {
    #[cfg(feature = "bench")]
    crate::model::ledger_switch::turn(ffi::setting(c"bench.without_ledger").is_none());
    let bytes = |setting: &GucSetting<i32>| setting.get().max(0) as u64 * 1024;
    Limits {
        memory: bytes(&MEMORY_LIMIT),
        object_size: bytes(&MAX_OBJECT_SIZE),
        kept_rejects: max_kept_rejects(),
        times: times(),
        time_skew: i64::from(TIME_SKEW_LIMIT.get()) * 1_000,
    }
}

/// Returns the times that are plausible now, by `btc_ingest.min_time` and `btc_ingest.max_time_ahead`.
pub fn times() -> TimeRange {
    let ahead = i64::from(MAX_TIME_AHEAD.get()) * 60_000_000;
    // A value that is no time cannot be set.
    let first = parse_min_time(&value(&MIN_TIME)).unwrap_or(TimeRange::default().first);
    TimeRange::new(first, ffi::now() + POSTGRES_EPOCH_US, ahead)
}

/// Returns `btc_ingest.max_open_gaps`.
pub fn max_open_gaps() -> i64 {
    MAX_OPEN_GAPS.get().into()
}

/// Returns `btc_ingest.max_kept_rejects`.
pub fn max_kept_rejects() -> usize {
    MAX_KEPT_REJECTS.get().max(0) as usize
}

/// Returns `btc_ingest.max_conflict_fraction`.
pub fn max_conflict_fraction() -> f64 {
    MAX_CONFLICT_FRACTION.get()
}

/// Returns `btc_ingest.embed_on_load`.
pub fn embed_on_load() -> bool {
    EMBED_ON_LOAD.get()
}

/// Returns `btc_ingest.embedding_index_upkeep`.
pub fn embedding_index_upkeep() -> bool {
    EMBEDDING_INDEX_UPKEEP.get()
}
