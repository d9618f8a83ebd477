//! The first phase of a backfill: the keys under its prefixes are registered in `ingestion.objects`, in
//! batches. A listing that was interrupted continues behind its last batch.

use pgrx::JsonB;

use super::row::{Backfill, ListingPosition};
use crate::error::{Error, Result};
use crate::load::listing::Page;
use crate::model::pattern::KeyPattern;
use crate::pg::listing::listed::{BATCH, Batch};
use crate::pg::listing::picker::Picker;
use crate::pg::session::shared::{Phase, Progress};
use crate::pg::session::tx::tx;
use crate::pg::session::{ffi, spi};

/// Lists the prefixes, or what is left of them. Returns `false` if the backfill was paused, stopped or
/// cancelled meanwhile.
pub fn list(backfill: &Backfill) -> Result<bool> {
    let ListingPosition { prefix: begin, mut after } = backfill.state.listing.clone();
    for (index, pattern) in backfill.prefixes.iter().enumerate().skip(begin) {
        ffi::show_activity(Some(&format!("listing s3://{}/{}", pattern.bucket(), pattern.prefix())));
        if !list_prefix(backfill, index, pattern, after.take())? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lists one prefix behind the key `after`. Returns `false` if the backfill was paused, stopped or cancelled
/// meanwhile.
fn list_prefix(backfill: &Backfill, index: usize, pattern: &KeyPattern, after: Option<String>) -> Result<bool> {
    let picker = Picker::for_backfill(pattern, backfill.from, backfill.to)?;
    let progress = Progress::begin(&format!("s3://{}/{}", pattern.bucket(), pattern.prefix()), Phase::Listing);
    let mut thread = picker.list(after, |_| None)?;
    let mut batch = Batch::default();
    let mut last: Option<String> = None;
    loop {
        let page = match thread.next() {
            Ok(Some(page)) => page,
            Ok(None) => return Err(Error::Internal { why: "the listing ended without its last page".into() }),
            Err(error) => {
                // What was listed is kept, and says that the prefix could be listed (`has_listed`).
                if error.may_be_outage() && last.is_some() {
                    register(backfill.id, batch, &ListingPosition { prefix: index, after: last })?;
                }
                return Err(error);
            }
        };
        let Page { objects, more } = page;
        progress.show(|shown| shown.read += objects.len() as i64);
        last = objects.last().map(|object| object.key.clone()).or(last);
        for object in objects {
            batch.add(&picker, object)?;
        }
        if batch.len() >= BATCH || !more {
            let position = if more {
                ListingPosition { prefix: index, after: last.clone() }
            } else {
                ListingPosition { prefix: index + 1, after: None }
            };
            if !register(backfill.id, std::mem::take(&mut batch), &position)? {
                return Ok(false);
            }
        }
        if !more {
            return Ok(true);
        }
    }
}

/// Registers one batch and notes the position of the listing, in one transaction. Returns `false` if the
/// listing must end.
fn register(id: i64, batch: Batch, position: &ListingPosition) -> Result<bool> {
    let position = serde_json::to_value(position).map_err(|error| Error::Internal { why: error.to_string() })?;
    tx(|client| {
        // The arguments are allocated in the memory of this transaction.
        let passed_over = batch.passed_over.into();
        let [uris, etags, sizes, from, to, facts] = batch.columns();
        let args = [id.into(), uris, etags, sizes, from, to, facts, JsonB(position).into(), passed_over];
        spi::execute_kept(client, statement!("backfill_register"), &args)?;
        Ok(Backfill::read(client, id)?.is_some_and(|backfill| backfill.is_active()))
    })
}
