//! What can go wrong, as values. Nothing here knows PostgreSQL: `pg::report` raises these.
//!
//! Every variant has its own SQLSTATE, in three classes of our own (the standard leaves classes that begin with I–Z to
//! implementations): `S3…` the object store, `PQ…` the Parquet file, `TK…` the ticks and the database they go to.
//! No variant ever holds a credential.

mod advice;
pub mod verdict;

use std::fmt;

/// One column of a file that is not what a tick needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The tick column that was looked for, e.g. `price`.
    pub column: &'static str,
    /// What is wrong with it, e.g. `is BOOLEAN, expected a decimal, string, integer or floating-point column`.
    pub problem: String,
}

/// Where a row stands in its object; all numbers count from 0, as Parquet tools do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPosition {
    /// The row group.
    pub row_group: u32,
    /// The row, counted from the start of the object.
    pub row: u64,
}

impl fmt::Display for RowPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} (row group {})", self.row, self.row_group)
    }
}

/// Everything that can go wrong outside PostgreSQL, and the refusals that the loader itself decides on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    // ── S3: the uri and the object store ────────────────────────────────────────────────────────────────────────
    /// The text is not an S3 uri that we accept.
    #[error("\"{text}\" is not a usable S3 uri: {why}")]
    InvalidUri {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A prefix with placeholders that cannot be meant.
    #[error("\"{text}\" is not a usable prefix: {why}")]
    InvalidPattern {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The uri lies outside `btc_ingest.allowed_prefixes`.
    #[error("the uri is not under any prefix of btc_ingest.allowed_prefixes")]
    UriNotAllowed {
        /// The prefixes in force.
        allowed: String,
    },
    /// The bucket does not exist.
    #[error("bucket \"{bucket}\" does not exist")]
    NoSuchBucket {
        /// The bucket's name.
        bucket: String,
    },
    /// The key does not exist in the bucket.
    #[error("no such object in bucket \"{bucket}\"")]
    NoSuchKey {
        /// The bucket's name.
        bucket: String,
    },
    /// The store refused the request (403).
    #[error("S3 denied access (HTTP 403, {code})")]
    AccessDenied {
        /// S3's own error code.
        code: String,
    },
    /// The bucket lives in another region (301, 307 or 400 with a region).
    #[error("the bucket is not in region \"{asked}\"")]
    WrongRegion {
        /// The region we signed for.
        asked: String,
        /// The region that S3 named, if it did.
        actual: Option<String>,
    },
    /// Nobody answered at the endpoint, or TLS failed.
    #[error("could not connect to S3: {why}")]
    Unreachable {
        /// The connector's own words.
        why: String,
    },
    /// A connection or a read took longer than its setting allows.
    #[error("S3 did not answer within {limit_ms} ms while {doing}")]
    S3Timeout {
        /// The limit that was exceeded.
        limit_ms: u64,
        /// What was being done.
        doing: &'static str,
    },
    /// 503, SlowDown or another 5xx that outlived the retries.
    #[error("S3 is overloaded or failing (HTTP {status}, {code})")]
    S3Unavailable {
        /// The HTTP status.
        status: u16,
        /// S3's own error code.
        code: String,
    },
    /// Any other answer of the store.
    #[error("S3 answered HTTP {status} ({code})")]
    S3Refused {
        /// The HTTP status.
        status: u16,
        /// S3's own error code or message.
        code: String,
    },
    /// The object changed between two requests of one load.
    #[error("the object changed while it was read")]
    ObjectChanged {
        /// The etag that the load started with.
        expected: String,
        /// The etag that came with a later answer.
        found: String,
    },
    /// The body ended early, again and again.
    #[error("the object's body broke off: {why}")]
    BodyBroken {
        /// What was seen.
        why: String,
    },
    /// No credentials were found in the chain.
    #[error("no AWS credentials were found")]
    NoCredentials {
        /// The chain's own words.
        why: String,
    },
    /// The client could not be set up (CA file, endpoint, region).
    #[error("the S3 client could not be set up: {why}")]
    BadS3Setting {
        /// What is wrong and with which setting.
        why: String,
    },

    // ── PQ: the file ────────────────────────────────────────────────────────────────────────────────────────────
    /// The object has no bytes at all.
    #[error("the object is empty (0 bytes)")]
    EmptyObject,
    /// The magic bytes are not there.
    #[error("the object is not a Parquet file")]
    NotParquet {
        /// What was found in their place.
        found: String,
    },
    /// The start is Parquet but the end is not: an upload that broke off.
    #[error("the Parquet file is truncated")]
    Truncated {
        /// What is missing.
        why: String,
    },
    /// The footer or a column is encrypted.
    #[error("the Parquet file is encrypted")]
    Encrypted {
        /// What exactly is encrypted.
        what: String,
    },
    /// The bytes contradict themselves.
    #[error("the Parquet file is damaged: {why}")]
    Damaged {
        /// What was found.
        why: String,
    },
    /// A codec, encoding or page type that no reader here knows.
    #[error("the Parquet file uses {what}, which is not supported")]
    Unsupported {
        /// The feature.
        what: String,
    },
    /// One piece is larger than `btc_ingest.memory_limit` allows.
    #[error("{what} needs {needed} bytes, more than this load may use ({limit})")]
    TooLarge {
        /// The piece, e.g. `a page of column "price"`.
        what: String,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// The object is larger than `btc_ingest.max_object_size`.
    #[error("the object has {size} bytes, more than btc_ingest.max_object_size ({limit})")]
    ObjectTooLarge {
        /// The object's size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Columns are missing or have types that cannot hold what a tick needs.
    #[error("the file's columns do not make ticks: {}", join(.mismatches))]
    SchemaMismatch {
        /// All of them, in the order of the tick's columns.
        mismatches: Vec<Mismatch>,
        /// The columns that the file has, with their types.
        found: String,
    },

    // ── TK: ticks, options and the database ─────────────────────────────────────────────────────────────────────
    /// A row is not a tick and `on_bad_row` says abort.
    #[error("{position} is not a tick: {reason}")]
    BadRow {
        /// Where it stands.
        position: RowPosition,
        /// Why it was refused.
        reason: String,
    },
    /// An option or a metadata key has a value that it cannot have.
    #[error("option \"{key}\": {why}")]
    InvalidOption {
        /// The key.
        key: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// What the producer registered is not what the object is.
    #[error("the object differs from its registered metadata: {what} is {found}, registered as {registered}")]
    MetadataMismatch {
        /// `sha256`, `rows` or `object_size_bytes`.
        what: &'static str,
        /// The object's.
        found: String,
        /// The producer's.
        registered: String,
    },
    /// A conflict was found and `on_conflict` says abort.
    #[error("{count} ticks conflict with what is stored")]
    ConflictAbort {
        /// How many in the batch that stopped the load.
        count: u64,
        /// One of them, with both values.
        example: String,
    },
    /// More conflicts than `btc_ingest.max_conflict_fraction`.
    #[error("{conflicting} of {rows} ticks conflict with what is stored")]
    TooManyConflicts {
        /// Conflicting ticks so far.
        conflicting: u64,
        /// Rows of the object.
        rows: u64,
        /// The setting.
        limit: f64,
        /// One of them, with both values.
        example: String,
    },
    /// More different symbols than one object can sensibly hold.
    #[error("the object holds more than {limit} different symbols")]
    TooManySymbols {
        /// The limit.
        limit: usize,
    },
    /// `timescaledb.restoring` is on: rows would go where no query sees them.
    #[error("timescaledb.restoring is on")]
    Restoring,
    /// TimescaleDB's hooks are not active in this backend.
    #[error("TimescaleDB is not loaded in this session")]
    TimescaleNotLoaded,
    /// A table of the contract is missing or is not what it should be.
    #[error("{what}")]
    BadTarget {
        /// Which, and what it is instead.
        what: String,
    },
    /// Tables of the contract have different owners, or a foreign function hangs on one.
    #[error("{what}")]
    UntrustedTarget {
        /// Which, and whose.
        what: String,
    },
    /// The transaction or the server is read-only.
    #[error("cannot load in a read-only transaction")]
    ReadOnly,
    /// Row-level security is on for a table that a load writes.
    #[error("row-level security is enabled on {table}")]
    RowSecurity {
        /// The table.
        table: String,
    },
    /// The tables have another schema version than the library.
    #[error("the tables have schema version {tables}, the library needs {library}")]
    SchemaVersion {
        /// The version of the tables; 0 when there is none.
        tables: i32,
        /// The library's.
        library: i32,
    },
    /// An argument of a backfill has a value that it cannot have.
    #[error("{what}")]
    InvalidBackfill {
        /// Which, and what would be right.
        what: String,
    },
    /// A procedure that commits was called inside a transaction.
    #[error("a backfill commits as it goes and cannot run inside a transaction block")]
    InTransaction,
    /// Something needs TimescaleDB's Community edition.
    #[error("{what} needs TimescaleDB's Community edition")]
    NeedsCommunity {
        /// What was asked for.
        what: String,
    },
    /// No background worker can be started.
    #[error("no background worker could be started")]
    NoWorker,
    /// The hypertable's root grew: rows were about to be lost.
    #[error("rows reached the root of the hypertable instead of its chunks")]
    RootGrew,
    /// The call was cancelled; PostgreSQL's own interrupt says why.
    #[error("the load was cancelled")]
    Cancelled,
    /// The statement was cancelled, by a user or by its time limit.
    #[error("{message}")]
    StatementCancelled {
        /// PostgreSQL's own message.
        message: String,
    },
    /// A thread of ours died; a bug.
    #[error("an internal thread of the load failed: {why}")]
    Internal {
        /// What it said.
        why: String,
    },
}

fn join(mismatches: &[Mismatch]) -> String {
    let parts: Vec<String> = mismatches.iter().map(|m| format!("{} {}", m.column, m.problem)).collect();
    parts.join("; ")
}

/// Shorthand for this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The five characters that a client matches on.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::InvalidUri { .. } => "S3001",
            Error::UriNotAllowed { .. } => "S3002",
            Error::NoSuchBucket { .. } => "S3003",
            Error::NoSuchKey { .. } => "S3004",
            Error::AccessDenied { .. } => "S3005",
            Error::WrongRegion { .. } => "S3006",
            Error::Unreachable { .. } => "S3007",
            Error::S3Timeout { .. } => "S3008",
            Error::S3Unavailable { .. } => "S3009",
            Error::S3Refused { .. } => "S3010",
            Error::ObjectChanged { .. } => "S3011",
            Error::BodyBroken { .. } => "S3012",
            Error::NoCredentials { .. } => "S3013",
            Error::BadS3Setting { .. } => "S3014",
            Error::InvalidPattern { .. } => "S3015",
            Error::EmptyObject => "PQ001",
            Error::NotParquet { .. } => "PQ002",
            Error::Truncated { .. } => "PQ003",
            Error::Encrypted { .. } => "PQ004",
            Error::Damaged { .. } => "PQ005",
            Error::Unsupported { .. } => "PQ006",
            Error::TooLarge { .. } => "PQ007",
            Error::ObjectTooLarge { .. } => "PQ008",
            Error::SchemaMismatch { .. } => "PQ009",
            Error::BadRow { .. } => "TK001",
            Error::InvalidOption { .. } => "TK002",
            Error::MetadataMismatch { .. } => "TK003",
            Error::ConflictAbort { .. } => "TK004",
            Error::TooManyConflicts { .. } => "TK005",
            Error::TooManySymbols { .. } => "TK006",
            Error::Restoring => "TK007",
            Error::TimescaleNotLoaded => "TK008",
            Error::BadTarget { .. } => "TK009",
            Error::UntrustedTarget { .. } => "42501",
            Error::ReadOnly => "25006",
            Error::RowSecurity { .. } => "TK010",
            Error::SchemaVersion { .. } => "TK011",
            Error::RootGrew => "TK012",
            Error::InvalidBackfill { .. } => "TK013",
            Error::InTransaction => "25001",
            Error::NeedsCommunity { .. } => "TK014",
            Error::NoWorker => "TK015",
            Error::Cancelled | Error::StatementCancelled { .. } => "57014",
            Error::Internal { .. } => "XX000",
        }
    }

    /// Whether the same load may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. }
                | Error::S3Timeout { .. }
                | Error::S3Unavailable { .. }
                | Error::ObjectChanged { .. }
                | Error::BodyBroken { .. }
                | Error::NoCredentials { .. }
                | Error::Restoring
                | Error::NoWorker
                | Error::ReadOnly
                | Error::Cancelled
                | Error::StatementCancelled { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_schema_mismatch_names_every_column() {
        let error = Error::SchemaMismatch {
            mismatches: vec![
                Mismatch { column: "price", problem: "is missing".into() },
                Mismatch { column: "trade_id", problem: "is BOOLEAN".into() },
            ],
            found: "a INT32".into(),
        };
        assert_eq!(error.to_string(), "the file's columns do not make ticks: price is missing; trade_id is BOOLEAN");
    }

    #[test]
    fn a_missing_bucket_is_permanent_and_a_slow_one_is_not() {
        assert!(!Error::NoSuchBucket { bucket: "b".into() }.is_transient());
        assert!(Error::S3Unavailable { status: 503, code: "SlowDown".into() }.is_transient());
    }
}
