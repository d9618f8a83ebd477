//! Listed keys on their way into `ingestion.objects`: which of them are taken, and what is written of each.

use pgrx::JsonB;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::load::listing::{self, Page};
use crate::model::format::is_aside;
use crate::model::pattern::{KeyFacts, KeyPattern};
use crate::model::uri::{AllowedPrefixes, S3Uri};
use crate::pg::session::time::timestamp;
use crate::pg::session::{ffi, guc};
use crate::s3::listing::ListedObject;

/// Keys that are registered by one transaction.
pub const BATCH: usize = 5_000;
/// The names that a backfill takes.
const ENDINGS: [&str; 3] = [".parquet", ".parq", ".pq"];

/// Which listed keys are taken: those of the pattern, that may be read, whose names fit, and that can hold the times asked for.
pub struct Picker {
    pattern: KeyPattern,
    allowed: AllowedPrefixes,
    names: Names,
    /// Microseconds since 1970.
    from: Option<i64>,
    to: Option<i64>,
}

/// Which names fit.
enum Names {
    /// Those that say that they are Parquet.
    Parquet,
    /// All but those that say that they are something else.
    NothingElse,
}

impl Picker {
    /// By the settings of this moment; objects that can hold a time from `from` on and before `to`.
    pub fn for_backfill(pattern: &KeyPattern, from: Option<i64>, to: Option<i64>) -> Result<Self> {
        Ok(Picker { pattern: pattern.clone(), allowed: guc::allowed_prefixes()?, names: Names::Parquet, from, to })
    }

    /// By the settings of this moment; whatever may be an object.
    pub fn for_watch(pattern: &KeyPattern) -> Result<Self> {
        let (pattern, allowed) = (pattern.clone(), guc::allowed_prefixes()?);
        Ok(Picker { pattern, allowed, names: Names::NothingElse, from: None, to: None })
    }

    /// Starts to list the pattern's prefix, behind a key. See [`listing::run`] for `skip`.
    pub fn list(
        &self,
        after: Option<String>,
        skip: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> Result<ffi::Thread<Page>> {
        let (s3, bucket, prefix) = (guc::s3(), self.pattern.bucket().to_owned(), self.pattern.prefix().to_owned());
        ffi::Thread::start(1, move |reads, events| listing::run(&s3, &bucket, &prefix, after, skip, reads, events))
    }

    /// The object's uri and what its key says, or `None`: it is passed over.
    pub fn pick(&self, key: &str) -> Option<(S3Uri, KeyFacts)> {
        let facts = self.pattern.read(key).filter(|_| self.fits(key))?;
        let uri: S3Uri = format!("s3://{}/{key}", self.pattern.bucket()).parse().ok()?;
        let wanted = facts.span.as_ref().is_none_or(|span| within(self.from, self.to, span.start, span.end));
        (wanted && self.allowed.allow(&uri)).then_some((uri, facts))
    }

    fn fits(&self, key: &str) -> bool {
        match self.names {
            Names::Parquet => {
                let name = key.to_ascii_lowercase();
                ENDINGS.iter().any(|ending| name.ends_with(ending))
            }
            Names::NothingElse => !is_aside(key, self.pattern.prefix().len()),
        }
    }
}

/// Whether an object that can hold the times from `first` to `end` can hold one that was asked for.
pub fn within(from: Option<i64>, to: Option<i64>, first: i64, end: i64) -> bool {
    to.is_none_or(|to| first < to) && from.is_none_or(|from| end > from)
}

/// Objects on their way into the table, as columns.
#[derive(Default)]
pub struct Batch {
    uris: Vec<String>,
    etags: Vec<String>,
    sizes: Vec<i64>,
    from: Vec<TimestampWithTimeZone>,
    to: Vec<TimestampWithTimeZone>,
    facts: Vec<JsonB>,
    /// Keys that the picker does not take.
    pub passed_over: i64,
}

impl Batch {
    /// How many objects it holds.
    pub fn len(&self) -> usize {
        self.uris.len()
    }

    /// Adds the object if the picker takes it; what its key says then.
    pub fn add(&mut self, picker: &Picker, object: ListedObject) -> Result<Option<KeyFacts>> {
        self.add_saying(picker, object, &Map::new())
    }

    /// The same, with what else is to be said of the object; that counts more than its key.
    pub fn add_saying(
        &mut self,
        picker: &Picker,
        object: ListedObject,
        besides: &Map<String, Value>,
    ) -> Result<Option<KeyFacts>> {
        let Some((uri, facts)) = picker.pick(&object.key) else {
            self.passed_over += 1;
            return Ok(None);
        };
        let said = [("exchange", &facts.exchange), ("symbol", &facts.asset)];
        let mut said: Map<String, Value> =
            said.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?)))).collect();
        said.extend(besides.clone());
        let (from, to) = match &facts.span {
            Some(span) => (timestamp(span.start)?, timestamp(span.end)?),
            None => (TimestampWithTimeZone::negative_infinity(), TimestampWithTimeZone::positive_infinity()),
        };
        self.uris.push(uri.to_string());
        self.etags.push(object.head.etag);
        self.sizes.push(object.head.size as i64);
        self.from.push(from);
        self.to.push(to);
        self.facts.push(JsonB(Value::Object(said)));
        Ok(Some(facts))
    }

    /// Uris, etags, sizes, both ends of the spans, and what is said of each, as arguments of a statement: in the transaction
    /// whose memory they take.
    pub fn columns<'a>(self) -> [DatumWithOid<'a>; 6] {
        [self.uris.into(), self.etags.into(), self.sizes.into(), self.from.into(), self.to.into(), self.facts.into()]
    }
}
