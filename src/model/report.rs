//! The report of one load.

use std::fmt;

/// How a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// The object was read and its ticks are stored.
    #[default]
    Loaded,
    /// The same etag had been loaded before; no data was read.
    AlreadyLoaded,
    /// A sweep could not load it; `ingestion.objects` says why.
    Failed,
}

impl Outcome {
    /// Returns the text of `load_report.outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Loaded => "loaded",
            Outcome::AlreadyLoaded => "already loaded",
            Outcome::Failed => "failed",
        }
    }
}

/// Counts and times of one load: the SQL type `btc_ingest.load_report`.
///
/// `read = inserted + duplicate + conflicting + replaced + rejected` always holds. A conflict whose stored tick was
/// replaced counts as replaced only.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadReport {
    /// The object.
    pub uri: String,
    /// Its etag, without quotes.
    pub etag: String,
    /// Slices, that is (bucket, asset) pairs, that its ticks belong to.
    pub slices: i32,
    /// Rows in the file.
    pub read: i64,
    /// Ticks that were not there before.
    pub inserted: i64,
    /// Ticks that were there with the same values.
    pub duplicate: i64,
    /// Ticks that were there with other values, which were kept.
    pub conflicting: i64,
    /// Ticks that were there with other values, which were overwritten.
    pub replaced: i64,
    /// Rows that are no ticks.
    pub rejected: i64,
    /// Bytes fetched from S3.
    pub bytes: i64,
    /// Milliseconds that decoding waited for S3.
    pub fetch_ms: f64,
    /// Milliseconds spent in decoding and encoding, without the fetch.
    pub decode_ms: f64,
    /// Milliseconds spent in PostgreSQL.
    pub insert_ms: f64,
    /// Milliseconds from call to return.
    pub elapsed_ms: f64,
    /// How it ended.
    pub outcome: Outcome,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoadReport { uri, read, inserted, duplicate, bytes, elapsed_ms, outcome, .. } = self;
        write!(f, "{uri} {}: {read} rows, {inserted} inserted, {duplicate} duplicate", outcome.as_str())?;
        for (count, what) in
            [(self.conflicting, "conflicting"), (self.replaced, "replaced"), (self.rejected, "rejected")]
        {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        write!(f, "; {bytes} bytes in {elapsed_ms:.1} ms")
    }
}
