//! What a client and a reader need besides the message: each variant's SQLSTATE, whether a retry may help, and a hint.
//!
//! docs/use/errors.md lists the same SQLSTATEs; a test here compares the two.

use std::borrow::Cow;

use super::{Error, WindowError};

/// The row of one variant in the table below.
pub(super) struct Facts {
    pub sqlstate: &'static str,
    pub retry: Retry,
    pub hint: Option<&'static str>,
}

/// Whether the same load may succeed later although nothing is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    MayHelp,
    Useless,
}

use Retry::{MayHelp, Useless};

/// Makes of one table both the exhaustive match over the variants and, for the test, the list of all rows.
macro_rules! facts {
    ($($variant:pat => $sqlstate:literal, $retry:ident, $hint:expr;)*) => {
        fn facts(error: &Error) -> Facts {
            match error {
                $($variant => Facts { sqlstate: $sqlstate, retry: $retry, hint: $hint },)*
            }
        }

        #[cfg(test)]
        const ALL: &[Facts] = &[$(Facts { sqlstate: $sqlstate, retry: $retry, hint: $hint }),*];
    };
}

facts! {
    Error::InvalidUri { .. } => "S3001", Useless,
        Some("Write it as s3://bucket/key, without query string, fragment or \"..\".");
    Error::UriNotAllowed { .. } => "S3002", Useless,
        Some("A superuser adds the prefix to btc_ingest.allowed_prefixes.");
    Error::NoSuchBucket { .. } => "S3003", Useless,
        Some("Check the bucket's name and btc_ingest.s3_endpoint.");
    Error::NoSuchKey { .. } => "S3004", Useless,
        Some("Check the key, or wait until its producer has uploaded it.");
    Error::AccessDenied { .. } => "S3005", Useless,
        Some("The server's role needs s3:GetObject on the key and s3:ListBucket on the bucket; the VPC endpoint's \
              policy must allow both. SELECT * FROM btc_ingest.doctor() shows which credentials are used. For \
              SignatureDoesNotMatch and InvalidAccessKeyId, correct the keys in the server's environment, and restart \
              the server.");
    Error::WrongRegion { .. } => "S3006", Useless,
        Some("Set btc_ingest.s3_region to the bucket's region.");
    Error::Unreachable { .. } => "S3007", MayHelp,
        Some("Check btc_ingest.s3_endpoint, the VPC's gateway endpoint and its route table, and \
              btc_ingest.s3_ca_file for a private CA.");
    Error::S3Timeout { .. } => "S3008", MayHelp,
        Some("Try again; raise btc_ingest.s3_connect_timeout or btc_ingest.s3_read_timeout if the network is slow.");
    Error::S3Unavailable { .. } => "S3009", MayHelp,
        Some("Try again later; btc_ingest.s3_max_attempts sets how often one request is tried.");
    Error::S3Refused { .. } => "S3010", Useless,
        Some("The code in brackets is S3's own; its documentation explains it.");
    Error::ObjectChanged { .. } => "S3011", MayHelp,
        Some("Load it again; producers should write new keys rather than replace objects in use.");
    Error::BodyBroken { .. } => "S3012", MayHelp,
        Some("Try again; btc_ingest.s3_max_attempts sets how often a broken body is resumed.");
    Error::NoCredentials { .. } => "S3013", MayHelp,
        Some("Attach an instance role to the host, or give the server's environment AWS credentials, or set \
              btc_ingest.aws_profile.");
    Error::BadS3Setting { .. } => "S3014", Useless,
        Some("Correct the setting that the message names and call again.");
    Error::InvalidPattern { .. } => "S3015", Useless,
        Some("Write it as s3://bucket/Binance/{asset}/{yyyy}/{mm}/{dd}/, or without placeholders.");
    Error::BadListing { .. } => "S3016", Useless,
        Some("The object store does not follow S3's protocol for listings (ListObjectsV2); report it to its maker.");
    Error::CredentialsRefused { .. } => "S3017", MayHelp,
        Some("They were fetched again and are still refused. SELECT * FROM btc_ingest.doctor() shows where they come \
              from; renew them there.");
    Error::ClockOff { .. } => "S3018", MayHelp,
        Some("Set the server's clock, e.g. with chrony; S3 accepts a difference of 15 minutes.");
    Error::Archived { .. } => "S3019", Useless,
        Some("Restore it, e.g. aws s3api restore-object --bucket B --key K --restore-request '{\"Days\": 7}', wait \
              until that is done, and load it again or call btc_ingest.retry().");
    Error::NoVersion { .. } => "S3020", Useless,
        Some("Without them a replaced object is not noticed. Switch on the bucket's versioning, or let the store or \
              the proxy before it send strong ETags.");
    Error::BadAnswer { .. } => "S3021", MayHelp,
        Some("The object store, or a proxy before it, does not follow S3's protocol; try again, then look there.");
    Error::ChecksumMismatch => "S3022", MayHelp,
        Some("Try again; if it stays so, the object is damaged in the store: upload it again.");
    Error::BodySlow { .. } => "S3023", MayHelp,
        Some("Try again; lower btc_ingest.s3_min_speed if the network really is that slow.");

    Error::EmptyObject => "PQ001", Useless,
        Some("The producer uploaded nothing; upload the object again.");
    Error::NotParquet { .. } => "PQ002", Useless,
        Some("Only Parquet objects can be loaded; SELECT * FROM btc_ingest.inspect_s3(uri) looks at one.");
    Error::Truncated { .. } => "PQ003", Useless,
        Some("Upload the object again.");
    Error::Encrypted { .. } => "PQ004", Useless,
        Some("Write the file without Parquet encryption; encrypt the bucket instead (SSE-S3 or SSE-KMS).");
    Error::Damaged { .. } => "PQ005", Useless,
        Some("Write and upload the object again.");
    Error::Unsupported { .. } => "PQ006", Useless,
        Some("Write it with codec none, snappy, gzip, zstd, lz4 or brotli and a standard encoding.");
    Error::TooLarge { .. } => "PQ007", Useless,
        Some("ALTER SYSTEM SET btc_ingest.memory_limit = '…'; SELECT pg_reload_conf(); or write the file with \
              smaller pages or row groups.");
    Error::ObjectTooLarge { .. } => "PQ008", Useless,
        Some("Split the object, or raise btc_ingest.max_object_size.");
    Error::SchemaMismatch { .. } => "PQ009", Useless,
        Some("Map columns with options, e.g. '{\"columns\": {\"price\": \"px\"}}', and give \
              '{\"time_unit\": \"ms\"}' for times that are bare integers.");
    Error::AggregateTrades { .. } => "PQ010", Useless,
        Some("Load the file of single trades. To store each row as one tick with the aggregate's id, under a symbol \
              that holds nothing else: options '{\"aggregate_trades\": true, \"symbol\": \"BTCUSDT-AGG\"}'.");

    Error::BadRow { .. } => "TK001", Useless,
        Some("Correct the file, or load it with on_bad_row => 'reject' to keep bad rows in landing.rejected_ticks. \
              For times in another unit than options.time_unit says: options '{\"time_unit\": \"us\"}'.");
    Error::InvalidOption { .. } => "TK002", Useless,
        Some("Options of a load: symbol, exchange, source (texts), time_unit (\"s\", \"ms\", \"us\" or \"ns\"), \
              columns (tick column to column of the file), aggregate_trades (true or false), on_conflict (\"keep\", \
              \"replace\" or \"abort\"). A watch has interval and full_interval (\"5 minutes\") and enabled (true or \
              false) as well.");
    Error::MetadataMismatch { .. } => "TK003", Useless,
        Some("Upload the object that was registered, or register this one with its own metadata.");
    Error::ConflictAbort { .. } => "TK004", Useless,
        Some("Use options '{\"on_conflict\": \"keep\"}' or '{\"on_conflict\": \"replace\"}'.");
    Error::TooManyConflicts { .. } => "TK005", Useless,
        Some("Two markets under one symbol? Store this one under its own with options '{\"symbol\": \
              \"BTCUSDT-PERP\"}'. If the object really corrects what is stored, raise \
              btc_ingest.max_conflict_fraction.");
    Error::TooManySymbols { .. } => "TK006", Useless,
        Some("Is the column that is mapped to symbol really the symbol? options '{\"symbol\": …}' stores one symbol \
              for all rows.");
    Error::Restoring => "TK007", MayHelp,
        Some("Finish the restore with SELECT timescaledb_post_restore(); then load again.");
    Error::TimescaleNotLoaded => "TK008", Useless,
        Some("Put timescaledb into shared_preload_libraries and restart the server.");
    Error::BadTarget { .. } => "TK009", Useless,
        Some("SELECT btc_ingest.migrate() creates what is missing; SELECT * FROM btc_ingest.doctor() shows the rest.");
    Error::RowSecurity { .. } => "TK010", Useless,
        Some("Disable row-level security on the table; grant btc_ingest_reader or a view instead.");
    Error::SchemaVersion { .. } => "TK011", Useless,
        Some("Run: SELECT btc_ingest.migrate();  (or ALTER EXTENSION btc_ingest UPDATE;)");
    Error::RootGrew => "TK012", Useless,
        Some("Nothing was kept. Check that timescaledb is preloaded and its version fits: \
              SELECT * FROM btc_ingest.doctor();");
    Error::InvalidBackfill { .. } => "TK013", Useless,
        Some("CALL btc_ingest.backfill(ARRAY['s3://bucket/prefix/'], '2024-01-01', '2024-02-01', parallel => 2, \
              mode => 'object');");
    Error::NeedsCommunity { .. } => "TK014", Useless,
        Some("Use mode => 'object', or set timescaledb.license = 'timescale' on a server that has that edition.");
    Error::NoWorker => "TK015", MayHelp,
        Some("Raise max_worker_processes and restart the server.");

    Error::TemporaryObjects { .. } => "TK017", Useless,
        Some("Let each function set its path: ALTER FUNCTION … SET search_path = pg_catalog, public, pg_temp; or \
              repeat the call in a session without temporary objects.");
    Error::TargetChanged => "TK018", MayHelp,
        Some("Nothing was kept; repeat the call.");
    Error::OwnerMayNotCreate => "TK019", Useless,
        Some("mode => 'chunk' builds tables there with the owner's privileges: GRANT CREATE ON SCHEMA ingestion TO \
              the owner; or use mode => 'object'.");
    Error::OthersBackfill { .. } => "TK020", Useless,
        Some("Only that role and members of btc_ingest_admin may cancel it.");
    Error::NotUtf8 { .. } => "TK021", Useless,
        Some("Use a database that was created with ENCODING 'UTF8', for example: CREATE DATABASE ticks ENCODING 'UTF8' \
              TEMPLATE template0;");
    Error::BadRegistration { .. } => "TK022", Useless,
        Some("Correct the row in landing.raw_blobs_5m and register the object again by an upsert that sets s3_uri.");

    Error::NoKey { .. } => "TK024", Useless,
        Some("REINDEX an index that is not valid. If it is gone: ALTER TABLE market_data.btc_ticks ADD PRIMARY KEY \
              (bucket_5m, symbol, trade_id); or, for one chunk, CREATE UNIQUE INDEX on it.");

    Error::UnknownSymbol { .. } => "TK030", Useless,
        Some("Name a symbol as it is stored: SELECT DISTINCT asset FROM ingestion.object_slices;");
    Error::InvalidArgument { .. } => "TK031", Useless,
        Some("The message says which values are right; docs/use/reference.md describes every argument.");
    Error::TooManyChunks { .. } => "TK033", Useless,
        Some("Are the times right? options '{\"time_unit\": …}' says in which unit they are. If they are, split the \
              object, or raise max_locks_per_transaction and restart the server.");
    Error::TooManyLocks { .. } => "TK034", MayHelp,
        Some("Load fewer objects in one transaction: COMMIT between the calls, or CALL btc_ingest.run_sweep(), which \
              commits after each object. Or raise max_locks_per_transaction and restart the server.");

    Error::BadPolicy { .. } => "TK040", Useless,
        Some("Correct the row in ops.retention_jobs. Keys are compress_after, drop_after, segment_by, order_by, \
              schedule_interval and max_runtime.");
    Error::PolicyNotApplied { .. } => "TK041", Useless,
        Some("Mend what the message says, then: SELECT btc_ingest.apply_retention(); or disable the row.");
    Error::DroppedRange { .. } => "TK042", Useless,
        Some("CALL btc_ingest.restore_range(…) brings a range back; load_s3_slice(…, force => true) loads the \
              object all the same.");
    Error::NotDropped { .. } => "TK043", Useless,
        Some("SELECT * FROM btc_ingest.retention WHERE state = 'dropped' shows what was dropped.");
    Error::NothingGone { .. } => "TK044", Useless,
        Some("SELECT * FROM btc_ingest.gone shows slices whose chunk does not exist.");
    Error::Window(WindowError::Unknown { .. }) => "TK050", Useless,
        Some("SELECT btc_ingest.embed(from, to, asset) makes the vectors of a range; a bucket begins at a multiple of \
              five minutes.");
    Error::Window(WindowError::WrongDimensions { .. }) => "TK051", Useless,
        Some("Pass a vector that was made like the stored ones: SELECT feature_vector FROM signals.btc_embeddings;");
    Error::Window(WindowError::UnknownVersion { .. }) => "TK052", Useless,
        Some("SELECT DISTINCT feature_version FROM signals.btc_embeddings; shows those that are stored. \
              SELECT btc_ingest.embed(from, to, asset) makes vectors of the library's own version.");
    Error::Window(WindowError::Reference { .. }) => "TK053", Useless,
        Some("For example: SELECT btc_ingest.reference_embeddings('market_data.btc_ohlcv_5m', 'bucket_5m', 'symbol');");
    Error::Window(WindowError::MissingRow { .. }) => "TK054", Useless,
        Some("Fill the table or aggregate first, or delete these vectors from signals.btc_embeddings.");
    Error::Window(WindowError::OtherDimensions { .. }) => "TK055", Useless,
        Some("Other dimensions are for vectors of your own. SELECT btc_ingest.set_embedding_dimensions(256); changes \
              the column back.");
    Error::Window(WindowError::Stored { .. }) => "TK056", Useless,
        Some("SELECT btc_ingest.set_embedding_dimensions(n, discard => true); removes them. Their rows and labels \
              stay.");
    Error::Window(WindowError::NotOwnOffset { .. }) => "TK057", Useless,
        Some("Use a source of your own, such as embed:NAME. SELECT source, state ->> 'role' FROM \
              ingestion.stream_offsets; shows whose they are.");
    Error::Window(WindowError::IndexInWork) => "TK058", MayHelp,
        Some("Call it again when the worker has finished: SELECT * FROM pg_stat_progress_create_index;");
    Error::NoLease(_) => "TK060", Useless,
        Some("The unit was taken over after its lease, given back or forgotten, and nothing was published. Call \
              btc_ingest.work_units() again.");
    Error::NotPublishable(_) => "TK061", Useless,
        Some("Stage each slice of the unit once under its token, and name in parts the attempts that count.");

    Error::InTransaction => "25001", Useless,
        Some("CALL it by itself, outside BEGIN … COMMIT and outside functions.");
    Error::ReadOnly => "25006", MayHelp,
        Some("Load on the primary, in a read-write transaction.");
    Error::UntrustedTarget { .. } => "42501", Useless,
        Some("Give all tables of btc_ingest one owner, and let functions and types on them belong to that owner.");
    Error::Cancelled | Error::StatementCancelled { .. } => "57014", MayHelp, None;
    Error::Internal { .. } => "XX000", Useless,
        Some("This is a bug: please report it with the server log.");
}

/// What to do about tables that a newer library has migrated. `migrate()` of this library would refuse them as well.
const NEWER_TABLES: &str = "Install the newer btc_ingest that the tables are of, restart the server if btc_ingest is \
     preloaded, then: ALTER EXTENSION btc_ingest UPDATE;";
/// Arguments of functions, which are no options.
const ARGUMENTS: [&str; 3] = ["uri", "asset", "bucket_5m"];

/// Returns the statements that add a prefix to the list of allowed ones. The setting holds the whole list.
fn allowing(allowed: &str, wanted: &str) -> String {
    let others = allowed.split(',').map(str::trim).filter(|prefix| !prefix.is_empty());
    let list: Vec<String> = others.chain([wanted]).map(|prefix| prefix.replace('\'', "''")).collect();
    format!(
        "ALTER SYSTEM SET btc_ingest.allowed_prefixes = '{}'; SELECT pg_reload_conf(); -- as a superuser.",
        list.join(", ")
    )
}

impl Error {
    /// Returns the five characters that a client matches on.
    pub fn sqlstate(&self) -> &'static str {
        facts(self).sqlstate
    }

    /// Returns whether the same load may succeed later although nothing is changed.
    pub fn is_transient(&self) -> bool {
        facts(self).retry == MayHelp
    }

    /// Returns what the reader of the message can do about the error.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Error::UriNotAllowed { allowed, wanted } => Some(Cow::Owned(allowing(allowed, wanted))),
            Error::SchemaVersion { tables, library } if tables > library => Some(Cow::Borrowed(NEWER_TABLES)),
            // The message says what the argument of a function must be.
            Error::InvalidOption { key, .. } if ARGUMENTS.contains(&key.as_str()) => None,
            _ => facts(self).hint.map(Cow::Borrowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The document that lists every SQLSTATE, from the root of the package.
    const DOCUMENT: &str = "docs/use/errors.md";
    /// The extension's SQLSTATEs that only its SQL raises.
    const SQL_ONLY: [&str; 2] = ["TK016", "TK032"];

    /// The cells of each row of the document's tables by SQLSTATE: meaning, transience, what to do.
    fn documented() -> BTreeMap<String, [String; 3]> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut rows = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [code, meaning, transience, fix] = cells[..] else { panic!("not four cells: {line}") };
            let code = code.trim_matches('`').to_owned();
            let previous = rows.insert(code, [meaning, transience, fix].map(str::to_owned));
            assert_eq!(previous, None, "twice in {DOCUMENT}: {line}");
        }
        rows
    }

    #[test]
    fn every_sqlstate_has_one_row_in_the_document_with_the_same_transience() {
        let mut rows = documented();
        for Facts { sqlstate, retry, hint } in ALL {
            let [meaning, transience, fix] =
                rows.remove(*sqlstate).unwrap_or_else(|| panic!("{sqlstate} is raised twice or not in {DOCUMENT}"));
            let expected = if *retry == MayHelp { "transient" } else { "permanent" };
            assert_eq!(transience, expected, "{sqlstate}");
            assert!(!meaning.is_empty(), "{sqlstate}");
            assert_eq!(fix.is_empty(), hint.is_none(), "{sqlstate}: {fix:?}, {hint:?}");
        }
        let left: Vec<&str> = rows.keys().map(String::as_str).collect();
        assert_eq!(left, SQL_ONLY, "in {DOCUMENT}, but nothing raises it");
    }

    #[test]
    fn a_hint_is_one_or_more_whole_sentences() {
        for Facts { sqlstate, hint, .. } in ALL {
            assert!(hint.is_none_or(|hint| hint.ends_with(['.', ';', ')'])), "{sqlstate}: {hint:?}");
        }
    }

    #[test]
    fn the_hint_of_a_uri_that_is_not_allowed_adds_to_the_list() {
        let error = |allowed: &str| Error::UriNotAllowed { allowed: allowed.into(), wanted: "s3://b/it's".into() };
        let hint = |allowed: &str| error(allowed).hint().unwrap().into_owned();
        let set = "ALTER SYSTEM SET btc_ingest.allowed_prefixes = ";
        let reload = "SELECT pg_reload_conf(); -- as a superuser.";
        assert_eq!(hint(" "), format!("{set}'s3://b/it''s'; {reload}"));
        assert_eq!(hint("s3://a ,s3://c/d"), format!("{set}'s3://a, s3://c/d, s3://b/it''s'; {reload}"));
    }

    #[test]
    fn tables_that_are_newer_than_the_library_need_a_newer_library_and_no_migration() {
        let hint = |tables, library| Error::SchemaVersion { tables, library }.hint().unwrap().into_owned();
        assert!(hint(4, 5).contains("migrate()"));
        assert!(hint(6, 5).starts_with("Install the newer btc_ingest") && !hint(6, 5).contains("migrate()"));
    }

    #[test]
    fn a_missing_bucket_is_permanent_and_a_slow_one_is_not() {
        assert!(!Error::NoSuchBucket { bucket: "b".into() }.is_transient());
        assert!(Error::S3Unavailable { status: 503, code: "SlowDown".into() }.is_transient());
    }
}
