//! Listed objects as the columns of a statement that writes them into `ingestion.objects`.

use pgrx::JsonB;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use serde_json::Value;

use super::picker::Picker;
use crate::error::Result;
use crate::model::pattern::KeyFacts;
use crate::model::watch::WatchOptions;
use crate::pg::session::time::timestamp;
use crate::s3::listing::ListedObject;

/// Objects that one transaction registers.
pub const BATCH: usize = 5_000;

/// Objects to register, as columns.
#[derive(Default)]
pub struct Batch {
    uris: Vec<String>,
    etags: Vec<String>,
    sizes: Vec<i64>,
    from: Vec<TimestampWithTimeZone>,
    to: Vec<TimestampWithTimeZone>,
    metadata: Vec<JsonB>,
    /// How many keys the picker did not take.
    pub passed_over: i64,
}

impl Batch {
    /// Returns the number of objects.
    pub fn len(&self) -> usize {
        self.uris.len()
    }

    /// Adds the object if the picker takes its key. Returns what the key tells, or `None` if it is not taken.
    pub fn add(&mut self, picker: &Picker, object: ListedObject) -> Result<Option<KeyFacts>> {
        self.add_with_options(picker, object, &WatchOptions::default())
    }

    /// Does the same as [`Batch::add`] with the options of a watch. They take precedence over what the key tells.
    pub fn add_with_options(
        &mut self,
        picker: &Picker,
        object: ListedObject,
        options: &WatchOptions,
    ) -> Result<Option<KeyFacts>> {
        let Some((uri, facts)) = picker.pick(&object.key) else {
            self.passed_over += 1;
            return Ok(None);
        };
        let (from, to) = match &facts.span {
            Some(span) => (timestamp(span.start)?, timestamp(span.end)?),
            None => (TimestampWithTimeZone::negative_infinity(), TimestampWithTimeZone::positive_infinity()),
        };
        self.uris.push(uri.to_string());
        self.etags.push(object.head.etag);
        self.sizes.push(object.head.size as i64);
        self.from.push(from);
        self.to.push(to);
        self.metadata.push(JsonB(Value::Object(options.metadata(&facts))));
        Ok(Some(facts))
    }

    /// Returns uris, etags, sizes, starts and ends of the spans, and metadata as arguments of a statement.
    /// They are allocated in the memory of the current transaction.
    pub fn columns<'a>(self) -> [DatumWithOid<'a>; 6] {
        [self.uris.into(), self.etags.into(), self.sizes.into(), self.from.into(), self.to.into(), self.metadata.into()]
    }
}
