//! The settings as PostgreSQL knows them. Only a superuser changes those that reach the network or decide how much
//! memory a load takes.

use std::ffi::CStr;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use super::{
    ALLOWED_PREFIXES, AWS_PROFILE, CHUNK_TIME_INTERVAL, DATABASE, EMBED_ON_LOAD, EMBEDDING_INDEX_UPKEEP,
    HISTORY_RETENTION, INDEX_FILL, IndexFillName, LOG_LOADS, LogLevel, MAX_ATTEMPTS, MAX_BACKFILL_WORKERS,
    MAX_CONFLICT_FRACTION, MAX_KEPT_REJECTS, MAX_OBJECT_SIZE, MAX_OPEN_GAPS, MAX_TIME_AHEAD, MEMORY_LIMIT, MIN_TIME,
    POLL_INTERVAL, QUEUE_ORDER, QueueOrderName, RETENTION_PROOF, RETRY_BACKOFF, RETRY_BACKOFF_MAX, S3_CA_FILE,
    S3_CONNECT_TIMEOUT, S3_ENDPOINT, S3_FORCE_PATH_STYLE, S3_IDLE_TIMEOUT, S3_MAX_ATTEMPTS, S3_MIN_SPEED,
    S3_READ_TIMEOUT, S3_REGION, TIME_SKEW_LIMIT, Text, WORKERS,
};
use crate::pg::session::ffi;

/// Which roles may change a setting, and when.
#[derive(Clone, Copy)]
enum ChangedBy {
    /// Any role, at any time.
    AnyRole,
    /// Superusers, at any time.
    Superuser,
    /// The configuration file, for the whole server.
    ConfigurationFile,
}

/// Type, place and bounds of a setting's value.
enum Value {
    Text(&'static Text),
    /// A date or time, which is checked when it is set.
    Time(&'static Text),
    Bool(&'static GucSetting<bool>),
    Integer {
        setting: &'static GucSetting<i32>,
        min: i32,
        max: i32,
        unit: GucFlags,
    },
    Fraction(&'static GucSetting<f64>),
    Order(&'static GucSetting<QueueOrderName>),
    Level(&'static GucSetting<LogLevel>),
    Fill(&'static GucSetting<IndexFillName>),
}

/// A setting as PostgreSQL knows it.
struct Definition {
    name: &'static CStr,
    description: &'static CStr,
    changed_by: ChangedBy,
    value: Value,
}

const fn integer(setting: &'static GucSetting<i32>, min: i32, max: i32, unit: GucFlags) -> Value {
    Value::Integer { setting, min, max, unit }
}

const NO_UNIT: GucFlags = GucFlags::empty();

/// Every setting.
static DEFINITIONS: [Definition; 34] = [
    Definition {
        name: c"btc_ingest.allowed_prefixes",
        description: c"Comma-separated s3://bucket/prefix that may be read; empty denies everything.",
        changed_by: ChangedBy::Superuser,
        value: Value::Text(&ALLOWED_PREFIXES),
    },
    Definition {
        name: c"btc_ingest.s3_endpoint",
        description: c"URL of the S3 endpoint; empty for AWS.",
        changed_by: ChangedBy::Superuser,
        value: Value::Text(&S3_ENDPOINT),
    },
    Definition {
        name: c"btc_ingest.s3_region",
        description: c"Region to sign requests for; empty for the AWS default chain.",
        changed_by: ChangedBy::Superuser,
        value: Value::Text(&S3_REGION),
    },
    Definition {
        name: c"btc_ingest.s3_force_path_style",
        description: c"Put the bucket into the path instead of the host name.",
        changed_by: ChangedBy::Superuser,
        value: Value::Bool(&S3_FORCE_PATH_STYLE),
    },
    Definition {
        name: c"btc_ingest.s3_ca_file",
        description: c"PEM file of a certificate authority to trust as well.",
        changed_by: ChangedBy::Superuser,
        value: Value::Text(&S3_CA_FILE),
    },
    Definition {
        name: c"btc_ingest.aws_profile",
        description: c"Profile of the server's AWS configuration; empty for the default.",
        changed_by: ChangedBy::Superuser,
        value: Value::Text(&AWS_PROFILE),
    },
    Definition {
        name: c"btc_ingest.s3_connect_timeout",
        description: c"How long to wait for a connection to S3.",
        changed_by: ChangedBy::Superuser,
        value: integer(&S3_CONNECT_TIMEOUT, 1, 600_000, GucFlags::UNIT_MS),
    },
    Definition {
        name: c"btc_ingest.s3_read_timeout",
        description: c"How long S3 may be silent.",
        changed_by: ChangedBy::Superuser,
        value: integer(&S3_READ_TIMEOUT, 1, 600_000, GucFlags::UNIT_MS),
    },
    Definition {
        name: c"btc_ingest.s3_idle_timeout",
        description:
            c"How long a session keeps its thread and its connections to S3 for the next load; 0 for not at all.",
        changed_by: ChangedBy::Superuser,
        value: integer(&S3_IDLE_TIMEOUT, 0, 3_600, GucFlags::UNIT_S),
    },
    Definition {
        name: c"btc_ingest.s3_min_speed",
        description: c"Bytes per second that an object's body must have over s3_read_timeout; 0 for no limit.",
        changed_by: ChangedBy::Superuser,
        value: integer(&S3_MIN_SPEED, 0, 1 << 20, GucFlags::UNIT_KB),
    },
    Definition {
        name: c"btc_ingest.s3_max_attempts",
        description: c"How often one request is tried.",
        changed_by: ChangedBy::Superuser,
        value: integer(&S3_MAX_ATTEMPTS, 1, 20, NO_UNIT),
    },
    Definition {
        name: c"btc_ingest.memory_limit",
        description: c"Memory that one load may take beside PostgreSQL's own.",
        changed_by: ChangedBy::Superuser,
        value: integer(&MEMORY_LIMIT, 8 * 1024, i32::MAX, GucFlags::UNIT_KB),
    },
    Definition {
        name: c"btc_ingest.max_object_size",
        description: c"Larger objects are refused.",
        changed_by: ChangedBy::Superuser,
        value: integer(&MAX_OBJECT_SIZE, 1, i32::MAX, GucFlags::UNIT_KB),
    },
    Definition {
        name: c"btc_ingest.max_kept_rejects",
        description: c"Rows that one load keeps in landing.rejected_ticks; the counts are exact all the same.",
        changed_by: ChangedBy::AnyRole,
        value: integer(&MAX_KEPT_REJECTS, 0, 10_000, NO_UNIT),
    },
    Definition {
        name: c"btc_ingest.max_conflict_fraction",
        description: c"A load fails when more than this part of its rows conflicts with stored ticks.",
        changed_by: ChangedBy::AnyRole,
        value: Value::Fraction(&MAX_CONFLICT_FRACTION),
    },
    Definition {
        name: c"btc_ingest.min_time",
        description: c"A row with an earlier time is a bad row; empty for PostgreSQL's first time.",
        changed_by: ChangedBy::AnyRole,
        value: Value::Time(&MIN_TIME),
    },
    Definition {
        name: c"btc_ingest.max_time_ahead",
        description: c"A row with a time further ahead of the clock is a bad row.",
        changed_by: ChangedBy::AnyRole,
        value: integer(&MAX_TIME_AHEAD, 0, i32::MAX, GucFlags::UNIT_MIN),
    },
    Definition {
        name: c"btc_ingest.chunk_time_interval",
        description: c"Chunk interval with which migrate() creates market_data.btc_ticks.",
        changed_by: ChangedBy::Superuser,
        value: Value::Text(&CHUNK_TIME_INTERVAL),
    },
    Definition {
        name: c"btc_ingest.max_attempts",
        description: c"How often an object is tried before it is quarantined.",
        changed_by: ChangedBy::ConfigurationFile,
        value: integer(&MAX_ATTEMPTS, 1, 1_000, NO_UNIT),
    },
    Definition {
        name: c"btc_ingest.retry_backoff",
        description: c"Pause after an object's first failure; doubles with every further one.",
        changed_by: ChangedBy::ConfigurationFile,
        value: integer(&RETRY_BACKOFF, 1, 3_600_000, GucFlags::UNIT_MS),
    },
    Definition {
        name: c"btc_ingest.retry_backoff_max",
        description: c"The longest pause between two tries of an object.",
        changed_by: ChangedBy::ConfigurationFile,
        value: integer(&RETRY_BACKOFF_MAX, 1, 86_400_000, GucFlags::UNIT_MS),
    },
    Definition {
        name: c"btc_ingest.database",
        description: c"Database in which a preloaded btc_ingest loads the registered objects; empty for none.",
        changed_by: ChangedBy::ConfigurationFile,
        value: Value::Text(&DATABASE),
    },
    Definition {
        name: c"btc_ingest.workers",
        description: c"Loaders that a preloaded btc_ingest starts at most; 0 for none.",
        changed_by: ChangedBy::ConfigurationFile,
        value: integer(&WORKERS, 0, 64, NO_UNIT),
    },
    Definition {
        name: c"btc_ingest.max_backfill_workers",
        description: c"Workers that all backfills of a database have at most.",
        changed_by: ChangedBy::ConfigurationFile,
        value: integer(&MAX_BACKFILL_WORKERS, 1, 64, NO_UNIT),
    },
    Definition {
        name: c"btc_ingest.poll_interval",
        description: c"How often workers look for work although no session has woken them.",
        changed_by: ChangedBy::ConfigurationFile,
        value: integer(&POLL_INTERVAL, 100, 3_600_000, GucFlags::UNIT_MS),
    },
    Definition {
        name: c"btc_ingest.queue_order",
        description: c"Which registered objects are loaded first: those with the oldest ticks or the newest.",
        changed_by: ChangedBy::ConfigurationFile,
        value: Value::Order(&QUEUE_ORDER),
    },
    Definition {
        name: c"btc_ingest.log_loads",
        description: c"Level of the line that every load writes into the server's log.",
        changed_by: ChangedBy::Superuser,
        value: Value::Level(&LOG_LOADS),
    },
    Definition {
        name: c"btc_ingest.index_fill",
        description: c"How an append fills B-trees: many rows of a leaf at once, or row by row as PostgreSQL does.",
        changed_by: ChangedBy::AnyRole,
        value: Value::Fill(&INDEX_FILL),
    },
    Definition {
        name: c"btc_ingest.history_retention",
        description: c"How long workers keep rows of ingestion.load_history; 0 for ever.",
        changed_by: ChangedBy::ConfigurationFile,
        value: integer(&HISTORY_RETENTION, 0, i32::MAX, GucFlags::UNIT_MIN),
    },
    Definition {
        name: c"btc_ingest.retention_proof",
        description: c"Whether a chunk is dropped only if each of its ticks is in an object that is still in S3.",
        changed_by: ChangedBy::Superuser,
        value: Value::Bool(&RETENTION_PROOF),
    },
    Definition {
        name: c"btc_ingest.max_open_gaps",
        description: c"With more open gaps in trade ids than this, doctor() has a failed check.",
        changed_by: ChangedBy::AnyRole,
        value: integer(&MAX_OPEN_GAPS, 0, i32::MAX, NO_UNIT),
    },
    Definition {
        name: c"btc_ingest.time_skew_limit",
        description: c"Ticks whose event time and trade time differ by more than this are counted.",
        changed_by: ChangedBy::AnyRole,
        value: integer(&TIME_SKEW_LIMIT, 0, i32::MAX, GucFlags::UNIT_MS),
    },
    Definition {
        name: c"btc_ingest.embed_on_load",
        description: c"Loads make the vector of each slice in signals.btc_embeddings.",
        changed_by: ChangedBy::Superuser,
        value: Value::Bool(&EMBED_ON_LOAD),
    },
    Definition {
        name: c"btc_ingest.embedding_index_upkeep",
        description: c"A worker makes the index on vectors anew when they have outgrown it.",
        changed_by: ChangedBy::ConfigurationFile,
        value: Value::Bool(&EMBEDDING_INDEX_UPKEEP),
    },
];

impl Definition {
    fn register(&'static self) {
        let (name, description) = (self.name, self.description);
        let context = match self.changed_by {
            ChangedBy::AnyRole => GucContext::Userset,
            ChangedBy::Superuser => GucContext::Suset,
            ChangedBy::ConfigurationFile => GucContext::Sighup,
        };
        match self.value {
            Value::Text(setting) => {
                GucRegistry::define_string_guc(name, description, c"", setting, context, NO_UNIT);
            }
            Value::Time(setting) => ffi::define_time(name, description, setting, context),
            Value::Bool(setting) => {
                GucRegistry::define_bool_guc(name, description, c"", setting, context, NO_UNIT);
            }
            Value::Integer { setting, min, max, unit } => {
                GucRegistry::define_int_guc(name, description, c"", setting, min, max, context, unit);
            }
            Value::Fraction(setting) => {
                GucRegistry::define_float_guc(name, description, c"", setting, 0.0, 1.0, context, NO_UNIT);
            }
            Value::Order(setting) => {
                GucRegistry::define_enum_guc(name, description, c"", setting, context, NO_UNIT);
            }
            Value::Level(setting) => {
                GucRegistry::define_enum_guc(name, description, c"", setting, context, NO_UNIT);
            }
            Value::Fill(setting) => {
                GucRegistry::define_enum_guc(name, description, c"", setting, context, NO_UNIT);
            }
        }
    }
}

/// Defines every setting and reserves the prefix `btc_ingest`.
pub fn register() {
    DEFINITIONS.iter().for_each(Definition::register);
    ffi::reserve_prefix(c"btc_ingest");
}
