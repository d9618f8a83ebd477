//! What stands beside an error's message: its detail, and what the reader can do about it.

use super::Error;

impl Error {
    /// What was found, where the message alone does not say it.
    pub fn detail(&self) -> Option<String> {
        match self {
            Error::UriNotAllowed { allowed } if allowed.trim().is_empty() => {
                Some("btc_ingest.allowed_prefixes is empty, which denies every uri.".into())
            }
            Error::UriNotAllowed { allowed } => Some(format!("Allowed are: {allowed}.")),
            Error::WrongRegion { actual: Some(region), .. } => Some(format!("S3 says that it is in \"{region}\".")),
            Error::ObjectChanged { expected, found } => {
                Some(format!("The load began with etag {expected}; an answer came with {found}."))
            }
            Error::NoCredentials { why } => Some(why.clone()),
            Error::NotParquet { found } => Some(found.clone()),
            Error::Truncated { why } => Some(why.clone()),
            Error::Encrypted { what } => Some(what.clone()),
            Error::SchemaMismatch { found, .. } => Some(format!("The file has: {found}.")),
            Error::ConflictAbort { example, .. } => Some(example.clone()),
            Error::TooManyConflicts { limit, example, .. } => {
                Some(format!("btc_ingest.max_conflict_fraction is {limit}. {example}"))
            }
            _ => None,
        }
    }

    /// What the reader of the message can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Error::InvalidUri { .. } => "Write it as s3://bucket/key, without query string, fragment or \"..\".",
            Error::InvalidPattern { .. } => {
                "Write it as s3://bucket/Binance/{asset}/{yyyy}/{mm}/{dd}/, or without placeholders."
            }
            Error::UriNotAllowed { .. } => {
                "A superuser allows it with: ALTER SYSTEM SET btc_ingest.allowed_prefixes = 's3://bucket/prefix'; SELECT pg_reload_conf();"
            }
            Error::NoSuchBucket { .. } => "Check the bucket's name and btc_ingest.s3_endpoint.",
            Error::NoSuchKey { .. } => "Check the key, or wait until its producer has uploaded it.",
            Error::AccessDenied { .. } => {
                "The server's role needs s3:GetObject on the key and s3:ListBucket on the bucket; the VPC endpoint's policy must allow both. SELECT * FROM btc_ingest.doctor() shows which credentials are used."
            }
            Error::WrongRegion { .. } => "Set btc_ingest.s3_region to the bucket's region.",
            Error::Unreachable { .. } => {
                "Check btc_ingest.s3_endpoint, the VPC's gateway endpoint and its route table, and btc_ingest.s3_ca_file for a private CA."
            }
            Error::S3Timeout { .. } => {
                "Try again; raise btc_ingest.s3_connect_timeout or btc_ingest.s3_read_timeout if the network is slow."
            }
            Error::S3Unavailable { .. } => {
                "Try again later; btc_ingest.s3_max_attempts sets how often one request is tried."
            }
            Error::S3Refused { .. } => "The code in brackets is S3's own; its documentation explains it.",
            Error::ObjectChanged { .. } => {
                "Load it again; producers should write new keys rather than replace objects in use."
            }
            Error::BodyBroken { .. } => {
                "Try again; btc_ingest.s3_max_attempts sets how often a broken body is resumed."
            }
            Error::NoCredentials { .. } => {
                "Attach an instance role to the host, or give the server's environment AWS credentials, or set btc_ingest.aws_profile."
            }
            Error::BadS3Setting { .. } => "Mend the setting that is named and call again.",
            Error::EmptyObject => "The producer uploaded nothing; upload the object again.",
            Error::NotParquet { .. } => {
                "Only Parquet objects can be loaded; SELECT * FROM btc_ingest.inspect_s3(uri) looks at one."
            }
            Error::Truncated { .. } => "Upload the object again.",
            Error::Encrypted { .. } => {
                "Write the file without Parquet encryption; encrypt the bucket instead (SSE-S3 or SSE-KMS)."
            }
            Error::Damaged { .. } => "Write and upload the object again.",
            Error::Unsupported { .. } => {
                "Write it with codec none, snappy, gzip, zstd, lz4 or brotli and a standard encoding."
            }
            Error::TooLarge { .. } => "Raise btc_ingest.memory_limit, or write the file with smaller pages.",
            Error::ObjectTooLarge { .. } => "Split the object, or raise btc_ingest.max_object_size.",
            Error::SchemaMismatch { .. } => {
                "Map columns with options, e.g. '{\"columns\": {\"price\": \"px\"}}', and give '{\"time_unit\": \"ms\"}' for times that are bare integers."
            }
            Error::BadRow { .. } => {
                "Mend the file, or load it with on_bad_row => 'reject' to keep bad rows in landing.rejected_ticks."
            }
            Error::InvalidOption { .. } => "The README lists every option and its values.",
            Error::MetadataMismatch { .. } => {
                "Upload the object that was registered, or register this one with its own metadata."
            }
            Error::ConflictAbort { .. } => {
                "Use options '{\"on_conflict\": \"keep\"}' or '{\"on_conflict\": \"replace\"}'."
            }
            Error::TooManyConflicts { .. } => {
                "Two markets under one symbol? Store this one under its own with options '{\"symbol\": \"BTCUSDT-PERP\"}'. If the object really corrects what is stored, raise btc_ingest.max_conflict_fraction."
            }
            Error::TooManySymbols { .. } => {
                "Is the column that is mapped to symbol really the symbol? options '{\"symbol\": …}' stores one symbol for all rows."
            }
            Error::Restoring => "Finish the restore with SELECT timescaledb_post_restore(); then load again.",
            Error::TimescaleNotLoaded => "Put timescaledb into shared_preload_libraries and restart the server.",
            Error::BadTarget { .. } => {
                "SELECT btc_ingest.migrate() creates what is missing; SELECT * FROM btc_ingest.doctor() shows the rest."
            }
            Error::UntrustedTarget { .. } => {
                "Give all tables of btc_ingest one owner, and let functions on them belong to that owner."
            }
            Error::ReadOnly => "Load on the primary, in a read-write transaction.",
            Error::RowSecurity { .. } => {
                "Disable row-level security on the table; grant btc_ingest_reader or a view instead."
            }
            Error::SchemaVersion { .. } => "Run: SELECT btc_ingest.migrate();  (or ALTER EXTENSION btc_ingest UPDATE;)",
            Error::RootGrew => {
                "Nothing was kept. Check that timescaledb is preloaded and its version fits: SELECT * FROM btc_ingest.doctor();"
            }
            Error::InvalidBackfill { .. } => {
                "CALL btc_ingest.backfill(ARRAY['s3://bucket/prefix/'], '2024-01-01', '2024-02-01', parallel => 2, mode => 'slice');"
            }
            Error::InTransaction => "CALL it by itself, outside BEGIN … COMMIT and outside functions.",
            Error::NeedsCommunity { .. } => {
                "Use mode => 'slice', or set timescaledb.license = 'timescale' on a server that has that edition."
            }
            Error::NoWorker => "Raise max_worker_processes and restart the server.",
            Error::Internal { .. } => "This is a bug: please report it with the server log.",
            Error::Cancelled | Error::StatementCancelled { .. } => return None,
        })
    }
}
