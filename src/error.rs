//! Errors as values. Nothing here knows PostgreSQL: `pg` raises these errors.
//!
//! Every variant has its own SQLSTATE, in three classes of our own (the standard leaves classes that begin with I–Z to
//! implementations): `S3…` for the object store, `PQ…` for the Parquet file, `TK…` for the ticks and the database.
//! A few variants use a code of PostgreSQL. `facts` lists them all. No variant ever holds a credential.

mod detail;
mod facts;
mod parts;
pub mod verdict;
mod windows;

pub use parts::{Mismatch, RowPosition};
use parts::{class_of, enough, join, quoted};
pub use windows::WindowError;

/// Every error that occurs outside PostgreSQL, and every refusal that the extension itself decides on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    // ── S3: the uri and the object store ────────────────────────────────────────────────────────────────────────
    /// The text is not an S3 uri that a load accepts.
    #[error("\"{text}\" is not a usable S3 uri: {why}")]
    InvalidUri {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The text is not a prefix, or its placeholders are wrong.
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
        /// A prefix that would allow it.
        wanted: String,
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
    /// S3 refused the request (403).
    #[error("S3 denied access (HTTP 403, {code})")]
    AccessDenied {
        /// S3's own error code.
        code: String,
    },
    /// The bucket is in another region (301, 302, 307, 308, or 400 with a region).
    #[error("the bucket is not in region \"{asked}\"")]
    WrongRegion {
        /// The region that the request was signed for.
        asked: String,
        /// The region that S3 named, if it named one.
        actual: Option<String>,
    },
    /// The endpoint did not answer, or TLS failed.
    #[error("could not connect to S3: {why}")]
    Unreachable {
        /// The connector's own message.
        why: String,
    },
    /// A connection or a read took longer than its setting allows.
    #[error("S3 did not answer within {limit_ms} ms while {doing}")]
    S3Timeout {
        /// The limit that was exceeded.
        limit_ms: u64,
        /// The step that took too long, as the end of "while …".
        doing: &'static str,
    },
    /// 503, SlowDown, 429 or another 5xx, still after the last retry.
    #[error("S3 is overloaded or failing (HTTP {status}, {code})")]
    S3Unavailable {
        /// The HTTP status.
        status: u16,
        /// S3's own error code.
        code: String,
    },
    /// Any other answer of S3.
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
    /// The body ended early, in every attempt.
    #[error("the object's body broke off: {why}")]
    BodyBroken {
        /// The last attempt's failure.
        why: String,
    },
    /// The AWS default chain has no credentials.
    #[error("no AWS credentials were found")]
    NoCredentials {
        /// Which kind of failure the chain reported.
        why: String,
    },
    /// A listing contradicts itself or S3's protocol.
    #[error("S3's listing cannot be used: {why}")]
    BadListing {
        /// The contradiction.
        why: String,
    },
    /// S3 refused the credentials, also after they were fetched anew.
    #[error("S3 does not accept the credentials ({code})")]
    CredentialsRefused {
        /// S3's own error code.
        code: String,
    },
    /// S3 refused the request because of its time.
    #[error("S3 refused the request because this server's clock is off")]
    ClockOff {
        /// Seconds by which S3's clock is ahead, if S3 named its time.
        ahead: Option<i64>,
    },
    /// The object is archived and must be restored before it can be read.
    #[error("the object is archived{}", class_of(.class.as_deref()))]
    Archived {
        /// Its storage class, if S3 named it.
        class: Option<String>,
    },
    /// S3 gives nothing by which two versions of an object can be told apart.
    #[error("S3 gives the object neither a strong ETag nor a version id")]
    NoVersion {
        /// The ETag that cannot serve, if there is one.
        etag: Option<String>,
    },
    /// An answer does not fit its request.
    #[error("S3's answer cannot be used: {why}")]
    BadAnswer {
        /// The contradiction.
        why: String,
    },
    /// The bytes of a whole object do not match the checksum that S3 has of it, in every attempt.
    #[error("the object's bytes do not match the checksum that S3 gives")]
    ChecksumMismatch,
    /// A body trickles, in every attempt.
    #[error("S3 sends the object too slowly: {speed} bytes a second over {seconds} s, and {least} are the least")]
    BodySlow {
        /// Bytes per second.
        speed: u64,
        /// `btc_ingest.s3_min_speed`, bytes per second.
        least: u64,
        /// How long it was measured.
        seconds: u64,
    },
    /// The client could not be set up (CA file, endpoint, region).
    #[error("the S3 client could not be set up: {why}")]
    BadS3Setting {
        /// The setting and what is wrong with it.
        why: String,
    },

    // ── PQ: the file ────────────────────────────────────────────────────────────────────────────────────────────
    /// The object has no bytes at all.
    #[error("the object is empty (0 bytes)")]
    EmptyObject,
    /// The object has no Parquet magic bytes.
    #[error("the object is not a Parquet file")]
    NotParquet {
        /// The bytes in their place.
        found: String,
    },
    /// The start is Parquet but the end is not: the upload broke off.
    #[error("the Parquet file is truncated")]
    Truncated {
        /// What is missing.
        why: String,
    },
    /// The footer or a column is encrypted.
    #[error("the Parquet file is encrypted")]
    Encrypted {
        /// The encrypted part.
        what: String,
    },
    /// The bytes contradict themselves.
    #[error("the Parquet file is damaged: {why}")]
    Damaged {
        /// The contradiction.
        why: String,
    },
    /// The file uses a codec, encoding or layout that the decoder does not read.
    #[error("the Parquet file uses {what}, which is not supported")]
    Unsupported {
        /// The feature.
        what: String,
    },
    /// One piece needs more than its share of `btc_ingest.memory_limit`.
    #[error(
        "{what} needs {needed} bytes, more than its share of btc_ingest.memory_limit ({limit}){}",
        enough(*.suffices)
    )]
    TooLarge {
        /// The piece, e.g. `a page of column "price"`.
        what: String,
        /// The bytes that it needs, with those in use.
        needed: u64,
        /// The share in bytes.
        limit: u64,
        /// A value of `btc_ingest.memory_limit` that is enough for the whole file, in bytes, if one is known.
        suffices: Option<u64>,
    },
    /// The object is larger than `btc_ingest.max_object_size`.
    #[error("the object has {size} bytes, more than btc_ingest.max_object_size ({limit})")]
    ObjectTooLarge {
        /// The object's size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Columns are missing or have types that cannot hold a tick's values.
    #[error("the file's columns do not make ticks: {}", join(.mismatches))]
    SchemaMismatch {
        /// Every mismatch, in the order of the tick's columns.
        mismatches: Vec<Mismatch>,
        /// The file's columns with their types.
        found: String,
    },

    /// Each row stands for several trades, and the options do not ask for that.
    #[error("the file holds aggregate trades: {} in it show that a row stands for several trades", quoted(.columns))]
    AggregateTrades {
        /// The columns that show it.
        columns: Vec<String>,
    },

    // ── TK: ticks, options and the database ─────────────────────────────────────────────────────────────────────
    /// A row is not a tick and `on_bad_row` says abort.
    #[error("{position} is not a tick: {reason}")]
    BadRow {
        /// The first such row.
        position: RowPosition,
        /// Why it is no tick.
        reason: String,
    },
    /// A row of `ops.retention_jobs` is wrong.
    #[error("the policy \"{job}\" cannot be applied: {what}")]
    BadPolicy {
        /// The name of the row.
        job: String,
        /// What is wrong with it.
        what: String,
    },
    /// A row of `ops.retention_jobs` is right, and its job cannot be made.
    #[error("the policy \"{job}\" is not applied: {what}")]
    PolicyNotApplied {
        /// The name of the row.
        job: String,
        /// What is in the way.
        what: String,
    },
    /// The ticks belong to a range that retention has dropped.
    #[error("the ticks of {asset} from {from} to {to} were dropped by retention")]
    DroppedRange {
        /// The asset.
        asset: String,
        /// The date of the range's start.
        from: String,
        /// The date of its end.
        to: String,
    },
    /// There is nothing to restore.
    #[error("no ticks of {asset} in this range are recorded as dropped")]
    NotDropped {
        /// The asset.
        asset: String,
    },
    /// There is nothing to record as dropped.
    #[error("each loaded slice of {asset} in this range has its chunk, or is recorded as dropped already")]
    NothingGone {
        /// The asset.
        asset: String,
    },
    /// An option or a metadata key is unknown or has a wrong value.
    #[error("option \"{key}\": {why}")]
    InvalidOption {
        /// The key.
        key: String,
        /// What is wrong, and which values are right.
        why: String,
    },
    /// The object differs from what its producer registered.
    #[error("the object differs from its registered metadata: {what} is {found}, registered as {registered}")]
    MetadataMismatch {
        /// `sha256`, `rows` or `object_size_bytes`.
        what: &'static str,
        /// The object's value.
        found: String,
        /// The registered value.
        registered: String,
    },
    /// A conflict was found and `on_conflict` says abort.
    #[error("{count} ticks conflict with what is stored")]
    ConflictAbort {
        /// The conflicts of the batch that stopped the load.
        count: u64,
        /// One conflict, with both values.
        example: String,
    },
    /// More conflicts than `btc_ingest.max_conflict_fraction`.
    #[error("{conflicting} of {rows} ticks conflict with what is stored")]
    TooManyConflicts {
        /// Conflicting ticks so far.
        conflicting: u64,
        /// Rows of the object.
        rows: u64,
        /// The setting's value.
        limit: f64,
        /// One conflict, with both values.
        example: String,
    },
    /// The object holds more different symbols than a load accepts.
    #[error("the object holds more than {limit} different symbols")]
    TooManySymbols {
        /// The limit.
        limit: usize,
    },
    /// The ticks reach over more chunks than one load may lock.
    #[error("the ticks reach over {chunks} chunks, {span}: {locks} locks, and one load may hold {most}")]
    TooManyChunks {
        /// The chunks of the batches so far.
        chunks: usize,
        /// The dates on which the first and the last one begin, as "from … to …".
        span: String,
        /// The locks of all these chunks and their indexes.
        locks: usize,
        /// The most locks that a load may hold.
        most: usize,
    },
    /// The transaction has taken its locks for loads before this one.
    #[error("the transaction would hold {wanted} locks, and one transaction of btc_ingest may hold {limit}")]
    TooManyLocks {
        /// The locks that it would hold.
        wanted: usize,
        /// The most locks that it may hold.
        limit: usize,
    },
    /// A registry row, or what is registered of an object, is beyond the limits for producers.
    #[error("{why}")]
    BadRegistration {
        /// What is wrong with it.
        why: String,
    },
    /// `timescaledb.restoring` is on: rows would go into the hypertable's root, where no query sees them.
    #[error("timescaledb.restoring is on")]
    Restoring,
    /// TimescaleDB's hooks are not active in this backend.
    #[error("TimescaleDB is not loaded in this session")]
    TimescaleNotLoaded,
    /// A table that the extension works on is missing or is of another kind.
    #[error("{what}")]
    BadTarget {
        /// The table, and what it is instead.
        what: String,
    },
    /// The database does not store text as UTF-8.
    #[error("the database has encoding {encoding}, and btc_ingest needs UTF8")]
    NotUtf8 {
        /// The database's encoding, as PostgreSQL names it.
        encoding: String,
    },
    /// The extension's tables have different owners, or one of them runs a function of another owner.
    #[error("{what}")]
    UntrustedTarget {
        /// The table, and the owner in question.
        what: String,
    },
    /// The transaction or the server is read-only.
    #[error("cannot load in a read-only transaction")]
    ReadOnly,
    /// A function on the tables would find the session's temporary tables and types before those that it names.
    #[error("this session has temporary objects, and functions on the tables would find those first: {functions}")]
    TemporaryObjects {
        /// The functions.
        functions: String,
    },
    /// The tables changed owner, or were replaced, while they were being written.
    #[error("the tables were replaced or given to another role meanwhile")]
    TargetChanged,
    /// The hypertable or a chunk lacks the key that decides what is a duplicate, or its index is not valid.
    #[error("{table} has no valid unique index over (bucket_5m, symbol, trade_id), so ticks could be stored twice")]
    NoKey {
        /// The table.
        table: String,
    },
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
        /// The version that the library needs.
        library: i32,
    },
    /// An argument of a backfill has a wrong value.
    #[error("{what}")]
    InvalidBackfill {
        /// The argument, and which values are right.
        what: String,
    },
    /// A procedure that commits was called inside a transaction.
    #[error("a backfill commits as it goes and cannot run inside a transaction block")]
    InTransaction,
    /// A chunk cannot be built with the privileges of the tables' owner.
    #[error("the owner of the tables may not create tables in the schema ingestion")]
    OwnerMayNotCreate,
    /// A loader may cancel only backfills of its own.
    #[error("backfill {id} was started by \"{requested_by}\"")]
    OthersBackfill {
        /// The backfill.
        id: i64,
        /// The role that has started it.
        requested_by: String,
    },
    /// The call needs TimescaleDB's Community edition.
    #[error("{what} needs TimescaleDB's Community edition")]
    NeedsCommunity {
        /// The argument or function that needs it.
        what: String,
    },
    /// No tick of a symbol is stored.
    #[error("no tick of '{symbol}' is stored")]
    UnknownSymbol {
        /// The symbol as given.
        symbol: String,
    },
    /// An argument of a question about stored ticks, or of candles, has a wrong value.
    #[error("{what}")]
    InvalidArgument {
        /// The argument, and which values are right.
        what: String,
    },
    /// A question about vectors, or a command on them, is refused.
    #[error(transparent)]
    Window(WindowError),
    /// The token leases no unit of work.
    #[error("the token {0} leases no unit")]
    NoLease(String),
    /// What was staged for a unit of work is not what its slices are: which unit, and what is missing or too much.
    #[error("{0}")]
    NotPublishable(String),
    /// No background worker can be started.
    #[error("no background worker could be started")]
    NoWorker,
    /// Rows went into the hypertable's root, where no query sees them.
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
    /// A thread of the load panicked, or another state that must not occur; a bug.
    #[error("an internal thread of the load failed: {why}")]
    Internal {
        /// The panic's message, or the state.
        why: String,
    },
}

/// The result of everything that can fail with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
