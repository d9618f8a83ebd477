//! The first phase: every key under the prefixes into `ingestion.objects`, in batches, taken up where the last one ended.

use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use serde_json::{Value, json};

use super::Backfill;
use crate::error::{Error, Result};
use crate::load::listing::{self, Page};
use crate::model::pattern::{KeyFacts, KeyPattern};
use crate::model::uri::{AllowedPrefixes, S3Uri};
use crate::pg::registry::timestamp;
use crate::pg::worker::tx;
use crate::pg::{ffi, guc, spi};
use crate::s3::listing::ListedObject;

/// Keys that are registered by one transaction.
const BATCH: usize = 5_000;
/// Names that are no Parquet files are passed over, and counted.
const ENDINGS: [&str; 3] = [".parquet", ".parq", ".pq"];

/// Objects on their way into the table, as columns.
#[derive(Default)]
struct Batch {
    uris: Vec<String>,
    etags: Vec<String>,
    sizes: Vec<i64>,
    from: Vec<TimestampWithTimeZone>,
    to: Vec<TimestampWithTimeZone>,
    facts: Vec<JsonB>,
    /// Keys that are no Parquet files, not of the pattern, or outside the time range.
    passed_over: i64,
}

/// Lists what is not listed yet. `false`: the backfill was paused, stopped or cancelled meanwhile.
pub fn list(backfill: &Backfill) -> Result<bool> {
    let begin = backfill.state["prefix"].as_u64().unwrap_or(0) as usize;
    let mut after = backfill.state["after"].as_str().map(str::to_owned);
    for (number, pattern) in backfill.prefixes.iter().enumerate().skip(begin) {
        ffi::show_activity(Some(&format!("listing s3://{}/{}", pattern.bucket(), pattern.prefix())));
        if !list_prefix(backfill, number, pattern, after.take())? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `false`: the backfill was paused, stopped or cancelled meanwhile.
fn list_prefix(backfill: &Backfill, number: usize, pattern: &KeyPattern, after: Option<String>) -> Result<bool> {
    let picker = Picker::new(pattern, backfill.from, backfill.to)?;
    let mut thread = picker.list(after)?;
    let mut batch = Batch::default();
    loop {
        let Some(Page { objects, more }) = thread.next()? else {
            return Err(Error::Internal { why: "the listing ended without its last page".into() });
        };
        let last = objects.last().map(|object| object.key.clone());
        for object in objects {
            batch.add(&picker, object)?;
        }
        if batch.uris.len() >= BATCH || !more {
            let state = if more {
                json!({ "prefix": number, "after": last })
            } else {
                json!({ "prefix": number + 1, "after": null })
            };
            if !register(backfill.id, std::mem::take(&mut batch), state) {
                return Ok(false);
            }
        }
        if !more {
            return Ok(true);
        }
    }
}

/// Which listed keys a backfill takes: Parquet files of the pattern, that may be read, and that can hold the times asked for.
pub struct Picker {
    pattern: KeyPattern,
    allowed: AllowedPrefixes,
    /// Microseconds since 1970.
    from: Option<i64>,
    to: Option<i64>,
}

impl Picker {
    /// By the settings of this moment.
    pub fn new(pattern: &KeyPattern, from: Option<i64>, to: Option<i64>) -> Result<Self> {
        Ok(Picker { pattern: pattern.clone(), allowed: guc::allowed_prefixes()?, from, to })
    }

    /// Starts to list the pattern's prefix, behind a key.
    pub fn list(&self, after: Option<String>) -> Result<ffi::Thread<Page>> {
        let (s3, bucket, prefix) = (guc::s3(), self.pattern.bucket().to_owned(), self.pattern.prefix().to_owned());
        ffi::Thread::start(1, move |reads, events| listing::run(&s3, &bucket, &prefix, after.clone(), reads, events))
    }

    /// The object's uri and what its key says, or `None`: it is passed over.
    pub fn pick(&self, key: &str) -> Option<(S3Uri, KeyFacts)> {
        let name = key.to_ascii_lowercase();
        let facts = self.pattern.read(key).filter(|_| ENDINGS.iter().any(|ending| name.ends_with(ending)))?;
        let uri: S3Uri = format!("s3://{}/{key}", self.pattern.bucket()).parse().ok()?;
        let wanted = facts.span.as_ref().is_none_or(|span| within(self.from, self.to, span.start, span.end));
        (wanted && self.allowed.allow(&uri)).then_some((uri, facts))
    }
}

/// Whether an object that can hold the times from `first` to `end` can hold one that was asked for.
pub fn within(from: Option<i64>, to: Option<i64>, first: i64, end: i64) -> bool {
    to.is_none_or(|to| first < to) && from.is_none_or(|from| end > from)
}

impl Batch {
    fn add(&mut self, picker: &Picker, object: ListedObject) -> Result<()> {
        let Some((uri, facts)) = picker.pick(&object.key) else {
            self.passed_over += 1;
            return Ok(());
        };
        let said = [("exchange", facts.exchange), ("symbol", facts.asset)];
        let said: serde_json::Map<String, Value> =
            said.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))).collect();
        self.uris.push(uri.to_string());
        self.etags.push(object.head.etag);
        self.sizes.push(object.head.size as i64);
        let (from, to) = match facts.span {
            Some(span) => (timestamp(span.start)?, timestamp(span.end)?),
            None => (TimestampWithTimeZone::negative_infinity(), TimestampWithTimeZone::positive_infinity()),
        };
        self.from.push(from);
        self.to.push(to);
        self.facts.push(JsonB(Value::Object(said)));
        Ok(())
    }
}

/// Writes one batch and where the listing stands, together. `false`: the listing is to end.
fn register(id: i64, batch: Batch, state: Value) -> bool {
    // Arguments become PostgreSQL's only inside the transaction whose memory they take.
    tx(|client| {
        let args = [
            id.into(),
            batch.uris.into(),
            batch.etags.into(),
            batch.sizes.into(),
            batch.from.into(),
            batch.to.into(),
            batch.facts.into(),
            JsonB(state).into(),
            batch.passed_over.into(),
        ];
        spi::execute_kept(client, include_str!("../../../sql/queries/backfill_register.sql"), &args)?;
        Ok(Backfill::read(client, id)?.is_some_and(|backfill| backfill.is_at_work()))
    })
}
