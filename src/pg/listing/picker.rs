//! Which listed keys are taken as objects.

use crate::error::Result;
use crate::load::listing::{self, Page};
use crate::model::format::is_aside;
use crate::model::pattern::{KeyFacts, KeyPattern};
use crate::model::uri::{AllowedPrefixes, S3Uri};
use crate::pg::session::{ffi, guc};

/// The endings of the names that a backfill takes.
const ENDINGS: [&str; 3] = [".parquet", ".parq", ".pq"];

/// Decides which listed keys are taken. A key must match the pattern and have a suitable name, its object
/// must be allowed to be read, and the object must be able to hold ticks of the wanted time.
pub struct Picker {
    pattern: KeyPattern,
    allowed: AllowedPrefixes,
    names: Names,
    /// The first wanted time, in microseconds since 1970.
    from: Option<i64>,
    /// The end of the wanted time, in microseconds since 1970.
    to: Option<i64>,
}

/// Which names are suitable. None of them is hidden, says another format, or is that of a leftover.
#[derive(PartialEq, Eq)]
enum Names {
    /// Names with an ending for Parquet files.
    Parquet,
    /// All names.
    NotAside,
}

impl Picker {
    /// Takes Parquet files that can hold ticks from `from` on and before `to`. Uses the current settings.
    pub fn for_backfill(pattern: &KeyPattern, from: Option<i64>, to: Option<i64>) -> Result<Self> {
        Ok(Picker { pattern: pattern.clone(), allowed: guc::allowed_prefixes()?, names: Names::Parquet, from, to })
    }

    /// Takes every file that may be an object. Uses the current settings.
    pub fn for_watch(pattern: &KeyPattern) -> Result<Self> {
        let (pattern, allowed) = (pattern.clone(), guc::allowed_prefixes()?);
        Ok(Picker { pattern, allowed, names: Names::NotAside, from: None, to: None })
    }

    /// Starts a thread that lists the pattern's prefix, from the first key after `after`. See
    /// [`listing::run`] for `skip`.
    pub fn list(
        &self,
        after: Option<String>,
        skip: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> Result<ffi::Thread<Page>> {
        let (s3, bucket, prefix) = (guc::s3(), self.pattern.bucket().to_owned(), self.pattern.prefix().to_owned());
        ffi::Thread::start(1, move |io, events| listing::run(&s3, &bucket, &prefix, after, skip, io, events))
    }

    /// Returns the object's uri and what its key tells, or `None` if the key is not taken.
    pub fn pick(&self, key: &str) -> Option<(S3Uri, KeyFacts)> {
        let facts = self.pattern.read(key).filter(|_| self.has_suitable_name(key))?;
        let uri: S3Uri = format!("s3://{}/{key}", self.pattern.bucket()).parse().ok()?;
        let wanted = facts.span.as_ref().is_none_or(|span| within(self.from, self.to, span.start, span.end));
        (wanted && self.allowed.allow(&uri)).then_some((uri, facts))
    }

    fn has_suitable_name(&self, key: &str) -> bool {
        let name = key.to_ascii_lowercase();
        let has_ending = self.names == Names::NotAside || ENDINGS.iter().any(|ending| name.ends_with(ending));
        has_ending && !is_aside(key, self.pattern.prefix().len())
    }
}

/// Returns whether an object that can hold the times from `first` on and before `end` can hold a time from
/// `from` on and before `to`.
pub fn within(from: Option<i64>, to: Option<i64>, first: i64, end: i64) -> bool {
    to.is_none_or(|to| first < to) && from.is_none_or(|from| end > from)
}
