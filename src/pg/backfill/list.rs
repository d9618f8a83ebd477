//! The first phase: every key under the prefixes into `ingestion.objects`, in batches, taken up where the last one ended.

use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use serde_json::{Value, json};

use super::Backfill;
use crate::error::{Error, Result};
use crate::load::listing::{self, Page};
use crate::model::pattern::KeyPattern;
use crate::model::uri::S3Uri;
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
    let (s3, bucket, prefix) = (guc::s3(), pattern.bucket().to_owned(), pattern.prefix().to_owned());
    let mut thread =
        ffi::Thread::start(1, move |reads, events| listing::run(&s3, &bucket, &prefix, after.clone(), reads, events))?;
    let allowed = guc::allowed_prefixes()?;
    let mut batch = Batch::default();
    loop {
        let Some(Page { objects, more }) = thread.next()? else {
            return Err(Error::Internal { why: "the listing ended without its last page".into() });
        };
        let last = objects.last().map(|object| object.key.clone());
        for object in objects {
            batch.add(backfill, pattern, &allowed, object)?;
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

impl Batch {
    fn add(
        &mut self,
        backfill: &Backfill,
        pattern: &KeyPattern,
        allowed: &crate::model::uri::AllowedPrefixes,
        object: ListedObject,
    ) -> Result<()> {
        let facts = pattern.read(&object.key);
        let (true, Some(uri), Some(facts)) = (is_parquet(&object.key), uri_of(pattern, &object.key), facts) else {
            self.passed_over += 1;
            return Ok(());
        };
        let wanted = facts.span.as_ref().is_none_or(|span| backfill.wants(span.start, span.end));
        if !wanted || !allowed.allow(&uri) {
            self.passed_over += 1;
            return Ok(());
        }
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

/// Whether a key is named as Parquet files are.
pub fn is_parquet(key: &str) -> bool {
    let name = key.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The uri of a listed key, if it is one that we accept.
pub fn uri_of(pattern: &KeyPattern, key: &str) -> Option<S3Uri> {
    format!("s3://{}/{key}", pattern.bucket()).parse().ok()
}

/// Writes one batch and where the listing stands, together. `false`: the listing is to end.
fn register(id: i64, batch: Batch, state: Value) -> bool {
    // Arguments become PostgreSQL's only inside the transaction whose memory they take.
    tx(|client| {
        let passed_over = batch.passed_over;
        let args = [
            id.into(),
            batch.uris.into(),
            batch.etags.into(),
            batch.sizes.into(),
            batch.from.into(),
            batch.to.into(),
            batch.facts.into(),
            JsonB(state).into(),
        ];
        spi::json_kept(client, include_str!("../../../sql/queries/backfill_register.sql"), &args)?;
        let sql = "UPDATE ingestion.backfills
                      SET state = state || jsonb_build_object('passed_over', coalesce((state ->> 'passed_over')::bigint, 0) + $2)
                    WHERE id = $1 AND $2 > 0";
        spi::execute_kept(client, sql, &[id.into(), passed_over.into()])?;
        Ok(Backfill::read(client, id)?.is_some_and(|backfill| backfill.is_at_work()))
    })
}
