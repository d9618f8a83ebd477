//! The settings. What reaches the network or decides how much memory a load takes is the superuser's.

use std::ffi::CString;
use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

use super::{ffi, report};
use crate::error::Result;
use crate::load::pipeline::Limits;
use crate::model::queue_order::QueueOrder;
use crate::model::uri::AllowedPrefixes;
use crate::s3::client::S3Settings;

type Text = GucSetting<Option<CString>>;

/// Empty, because a library that reads files for its callers must be told which ones first.
static ALLOWED_PREFIXES: Text = Text::new(None);
/// Empty means AWS's own endpoint of the region, which inside the VPC is the gateway endpoint.
static S3_ENDPOINT: Text = Text::new(None);
/// Empty means the default chain: environment, profile, instance metadata.
static S3_REGION: Text = Text::new(None);
/// Off, as AWS wants it; servers of one's own usually need it on.
static S3_FORCE_PATH_STYLE: GucSetting<bool> = GucSetting::<bool>::new(false);
/// Empty means the system's certificate authorities only.
static S3_CA_FILE: Text = Text::new(None);
/// Empty means the default profile.
static AWS_PROFILE: Text = Text::new(None);
/// A gateway endpoint answers in a millisecond; three seconds cover a lost SYN and its repetition.
static S3_CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(3_000);
/// S3's slowest first bytes are seconds; twenty seconds of silence are a broken connection.
static S3_READ_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(20_000);
/// One try and three repetitions, about two seconds of back-off together.
static S3_MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(4);
/// Kilobytes. Enough for pages of a megabyte in nine columns with read-ahead and three batches in flight.
static MEMORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(64 * 1024);
/// Kilobytes. Sixteen gigabytes: far above a day of any market, far below a mistake.
static MAX_OBJECT_SIZE: GucSetting<i32> = GucSetting::<i32>::new(16 * 1024 * 1024);
/// A thousand examples explain any defect; a million would fill the disk.
static MAX_KEPT_REJECTS: GucSetting<i32> = GucSetting::<i32>::new(1_000);
/// A tenth: a corrected file changes a few ticks, another market under the same symbol clashes nearly everywhere.
static MAX_CONFLICT_FRACTION: GucSetting<f64> = GucSetting::<f64>::new(0.1);
/// Read by migrate() when it creates the hypertable; afterwards it is TimescaleDB's set_chunk_time_interval.
static CHUNK_TIME_INTERVAL: Text = Text::new(Some(c"7 days"));

/// Nine tries with doubling pauses outlast a quarter of an hour of trouble.
static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(9);
/// Milliseconds; long enough that a hiccup has passed.
static RETRY_BACKOFF: GucSetting<i32> = GucSetting::<i32>::new(5_000);
/// Milliseconds; an hour after the trouble has ended is late enough.
static RETRY_BACKOFF_MAX: GucSetting<i32> = GucSetting::<i32>::new(3_600_000);
/// Empty means that nothing happens that nobody has called.
static DATABASE: Text = Text::new(None);
/// Two: while one waits for the disk, the other decodes.
static WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);
/// Milliseconds. Only a safety net: whoever registers an object wakes the workers.
static POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(10_000);
/// In the order of trading.
static QUEUE_ORDER: GucSetting<QueueOrderName> = GucSetting::<QueueOrderName>::new(QueueOrderName::Oldest);
/// Loads are rare next to statements, and the first thing that is looked for when something is missing.
static LOG_LOADS: GucSetting<LogLevel> = GucSetting::<LogLevel>::new(LogLevel::Log);
/// Minutes. A quarter of a year: last month's trouble can still be looked at.
static HISTORY_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(90 * 24 * 60);

/// The names of [`QueueOrder`] as a setting's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum QueueOrderName {
    #[name = c"oldest"]
    Oldest,
    #[name = c"newest"]
    Newest,
}

/// `btc_ingest.log_loads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum LogLevel {
    #[name = c"off"]
    Off,
    #[name = c"debug1"]
    Debug1,
    #[name = c"log"]
    Log,
}

/// Defines every setting and reserves the prefix.
pub fn register() {
    let text = |name, short, setting: &'static Text| {
        GucRegistry::define_string_guc(name, short, c"", setting, GucContext::Suset, GucFlags::default());
    };
    let number = |name, short, setting: &'static GucSetting<i32>, min, max, context, flags| {
        GucRegistry::define_int_guc(name, short, c"", setting, min, max, context, flags);
    };
    text(
        c"btc_ingest.allowed_prefixes",
        c"Comma-separated s3://bucket/prefix that may be read; empty denies everything.",
        &ALLOWED_PREFIXES,
    );
    text(c"btc_ingest.s3_endpoint", c"URL of the S3 endpoint; empty for AWS.", &S3_ENDPOINT);
    text(c"btc_ingest.s3_region", c"Region to sign requests for; empty for the AWS default chain.", &S3_REGION);
    GucRegistry::define_bool_guc(
        c"btc_ingest.s3_force_path_style",
        c"Put the bucket into the path instead of the host name.",
        c"",
        &S3_FORCE_PATH_STYLE,
        GucContext::Suset,
        GucFlags::default(),
    );
    text(c"btc_ingest.s3_ca_file", c"PEM file of a certificate authority to trust as well.", &S3_CA_FILE);
    text(c"btc_ingest.aws_profile", c"Profile of the server's AWS configuration; empty for the default.", &AWS_PROFILE);
    let ms = GucFlags::UNIT_MS;
    let kb = GucFlags::UNIT_KB;
    number(
        c"btc_ingest.s3_connect_timeout",
        c"How long to wait for a connection to S3.",
        &S3_CONNECT_TIMEOUT,
        1,
        600_000,
        GucContext::Suset,
        ms,
    );
    number(
        c"btc_ingest.s3_read_timeout",
        c"How long S3 may be silent.",
        &S3_READ_TIMEOUT,
        1,
        600_000,
        GucContext::Suset,
        ms,
    );
    number(
        c"btc_ingest.s3_max_attempts",
        c"How often one request is tried.",
        &S3_MAX_ATTEMPTS,
        1,
        20,
        GucContext::Suset,
        GucFlags::default(),
    );
    number(
        c"btc_ingest.memory_limit",
        c"Memory that one load may take beside PostgreSQL's own.",
        &MEMORY_LIMIT,
        8 * 1024,
        i32::MAX,
        GucContext::Suset,
        kb,
    );
    number(
        c"btc_ingest.max_object_size",
        c"Larger objects are refused.",
        &MAX_OBJECT_SIZE,
        1,
        i32::MAX,
        GucContext::Suset,
        kb,
    );
    number(
        c"btc_ingest.max_kept_rejects",
        c"Rows that one load keeps in landing.rejected_ticks; the counts are exact all the same.",
        &MAX_KEPT_REJECTS,
        0,
        10_000,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_float_guc(
        c"btc_ingest.max_conflict_fraction",
        c"A load fails when more than this part of its rows conflicts with stored ticks.",
        c"",
        &MAX_CONFLICT_FRACTION,
        0.0,
        1.0,
        GucContext::Userset,
        GucFlags::default(),
    );
    text(
        c"btc_ingest.chunk_time_interval",
        c"Chunk interval with which migrate() creates market_data.btc_ticks.",
        &CHUNK_TIME_INTERVAL,
    );
    number(
        c"btc_ingest.max_attempts",
        c"How often an object is tried before it is quarantined.",
        &MAX_ATTEMPTS,
        1,
        1_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    number(
        c"btc_ingest.retry_backoff",
        c"Pause after an object's first failure; doubles with every further one.",
        &RETRY_BACKOFF,
        1,
        3_600_000,
        GucContext::Sighup,
        ms,
    );
    number(
        c"btc_ingest.retry_backoff_max",
        c"The longest pause between two tries of an object.",
        &RETRY_BACKOFF_MAX,
        1,
        86_400_000,
        GucContext::Sighup,
        ms,
    );
    GucRegistry::define_string_guc(
        c"btc_ingest.database",
        c"Database in which a preloaded btc_ingest loads whatever is registered; empty for none.",
        c"",
        &DATABASE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    number(
        c"btc_ingest.workers",
        c"Loaders that a preloaded btc_ingest starts at most; 0 for none.",
        &WORKERS,
        0,
        64,
        GucContext::Sighup,
        GucFlags::default(),
    );
    number(
        c"btc_ingest.poll_interval",
        c"How often workers look for work that nobody has woken them for.",
        &POLL_INTERVAL,
        100,
        3_600_000,
        GucContext::Sighup,
        ms,
    );
    GucRegistry::define_enum_guc(
        c"btc_ingest.queue_order",
        c"Which registered objects are loaded first: those with the oldest ticks or the newest.",
        c"",
        &QUEUE_ORDER,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"btc_ingest.log_loads",
        c"Level of the line that every load writes into the server's log.",
        c"",
        &LOG_LOADS,
        GucContext::Suset,
        GucFlags::default(),
    );
    number(
        c"btc_ingest.history_retention",
        c"How long workers keep rows of ingestion.load_history; 0 for ever.",
        &HISTORY_RETENTION,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
    ffi::reserve_prefix(c"btc_ingest");
}

/// How failed objects are tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries before an object is quarantined.
    pub max_attempts: i32,
    /// The first pause in milliseconds.
    pub backoff_ms: f64,
    /// The longest pause in milliseconds.
    pub backoff_max_ms: f64,
}

/// `btc_ingest.max_attempts`, `retry_backoff`, `retry_backoff_max`.
pub fn retry() -> Retry {
    Retry {
        max_attempts: MAX_ATTEMPTS.get(),
        backoff_ms: f64::from(RETRY_BACKOFF.get()),
        backoff_max_ms: f64::from(RETRY_BACKOFF_MAX.get()),
    }
}

/// `btc_ingest.database`, if it is set.
pub fn database() -> Option<String> {
    Some(value(&DATABASE)).filter(|name| !name.is_empty())
}

/// `btc_ingest.workers`.
pub fn workers() -> i32 {
    WORKERS.get()
}

/// `btc_ingest.poll_interval`.
pub fn poll_interval() -> Duration {
    Duration::from_millis(POLL_INTERVAL.get().max(1) as u64)
}

/// `btc_ingest.queue_order`.
pub fn queue_order() -> QueueOrder {
    match QUEUE_ORDER.get() {
        QueueOrderName::Oldest => QueueOrder::Oldest,
        QueueOrderName::Newest => QueueOrder::Newest,
    }
}

/// `btc_ingest.history_retention` in minutes, if rows are to go at all.
pub fn history_retention() -> Option<i32> {
    Some(HISTORY_RETENTION.get()).filter(|minutes| *minutes > 0)
}

/// Writes a line about a load, at the level of `btc_ingest.log_loads`.
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

/// `btc_ingest.allowed_prefixes` as it was written.
pub fn allowed_prefixes_text() -> String {
    value(&ALLOWED_PREFIXES)
}

/// `btc_ingest.allowed_prefixes`, parsed.
pub fn allowed_prefixes() -> Result<AllowedPrefixes> {
    allowed_prefixes_text().parse()
}

/// How to reach S3.
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
        max_attempts: S3_MAX_ATTEMPTS.get().max(1) as u32,
    }
}

/// What a load may take.
pub fn limits() -> Limits {
    let bytes = |setting: &GucSetting<i32>| setting.get().max(0) as u64 * 1024;
    Limits { memory: bytes(&MEMORY_LIMIT), object_size: bytes(&MAX_OBJECT_SIZE), kept_rejects: max_kept_rejects() }
}

/// `btc_ingest.max_kept_rejects`.
pub fn max_kept_rejects() -> usize {
    MAX_KEPT_REJECTS.get().max(0) as usize
}

/// `btc_ingest.max_conflict_fraction`.
pub fn max_conflict_fraction() -> f64 {
    MAX_CONFLICT_FRACTION.get()
}
