//! The first phase of a backfill: the keys under its prefixes are registered in `ingestion.objects`, in
//! batches. A listing that was interrupted continues behind its last batch.

use pgrx::JsonB;
use serde_json::{Value, json};

use super::row::Backfill;
use crate::error::{Error, Result};
use crate::load::listing::Page;
use crate::model::pattern::KeyPattern;
use crate::pg::queue::listed::{BATCH, Batch, Picker};
use crate::pg::session::tx::tx;
use crate::pg::session::{ffi, spi};

/// Lists the prefixes, or what is left of them. Returns `false` if the backfill was paused, stopped or
/// cancelled meanwhile.
pub fn list(backfill: &Backfill) -> Result<bool> {
    let begin = backfill.state.prefix;
    let mut after = backfill.state.after.clone();
    for (number, pattern) in backfill.prefixes.iter().enumerate().skip(begin) {
        ffi::show_activity(Some(&format!("listing s3://{}/{}", pattern.bucket(), pattern.prefix())));
        if !list_prefix(backfill, number, pattern, after.take())? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lists one prefix behind the key `after`. Returns `false` if the backfill was paused, stopped or cancelled
/// meanwhile.
fn list_prefix(backfill: &Backfill, number: usize, pattern: &KeyPattern, after: Option<String>) -> Result<bool> {
    let picker = Picker::for_backfill(pattern, backfill.from, backfill.to)?;
    let mut thread = picker.list(after, |_| None)?;
    let mut batch = Batch::default();
    loop {
        let Some(Page { objects, more }) = thread.next()? else {
            return Err(Error::Internal { why: "the listing ended without its last page".into() });
        };
        let last = objects.last().map(|object| object.key.clone());
        for object in objects {
            batch.add(&picker, object)?;
        }
        if batch.len() >= BATCH || !more {
            let state = if more {
                json!({ "prefix": number, "after": last })
            } else {
                json!({ "prefix": number + 1, "after": null })
            };
            if !register(backfill.id, std::mem::take(&mut batch), state)? {
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
fn register(id: i64, batch: Batch, state: Value) -> Result<bool> {
    tx(|client| {
        // The arguments are allocated in the memory of this transaction.
        let passed_over = batch.passed_over.into();
        let [uris, etags, sizes, from, to, facts] = batch.columns();
        let args = [id.into(), uris, etags, sizes, from, to, facts, JsonB(state).into(), passed_over];
        spi::execute_kept(client, statement!("backfill_register"), &args)?;
        Ok(Backfill::read(client, id)?.is_some_and(|backfill| backfill.is_active()))
    })
}
