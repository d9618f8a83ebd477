//! The index on the vectors made anew while readers and writers go on, in a process whose session has the role of the
//! tables' owner: a build that does so commits while it runs.

use super::catalog::Catalog;
use super::index::{Kind, count, design};
use super::state::{NEW, OLD, State};
use crate::error::Result;
use crate::pg::session::ffi;
use crate::pg::session::locks::Lock;
use crate::pg::session::tx::tx;
use crate::pg::session::{report, shared, spi};

/// Drops what an earlier process has left, and makes the index anew if it is due, unless another process does.
pub fn run() {
    ffi::show_activity(Some("making the index on vectors anew"));
    match ffi::survive(run_alone) {
        Ok(Some(made)) => report::log(&format!("btc_ingest: the index on vectors was made anew: {made}")),
        Ok(None) => {}
        Err(failure) => {
            let (sqlstate, message) = failure.sqlstate_and_message();
            report::log(&format!("btc_ingest: the index on vectors was not made anew: {message} ({sqlstate})"));
            shared::note_error(&sqlstate, &message);
        }
    }
}

fn run_alone() -> Result<Option<String>> {
    if !tx(|_| Ok(Lock::EmbeddingIndex.try_for_session()))? {
        return Ok(None);
    }
    for name in tx(State::read)?.left {
        drop_index(&name);
    }
    let state = tx(State::read)?;
    let made = state.due().map(replace).transpose()?;
    Lock::EmbeddingIndex.release();
    Ok(made)
}

/// Builds an index and puts it in the place of this one. Returns what it has made.
fn replace(index: &str) -> Result<String> {
    let (catalog, rows) = tx(|client| Ok((Catalog::read(client)?, count(client)?)))?;
    let design = design(&catalog, Kind::Ivfflat, rows);
    ffi::run_at_top_level(&format!("CREATE INDEX CONCURRENTLY {NEW} {}", design.definition));
    tx(|client| {
        for sql in [
            format!("COMMENT ON INDEX signals.{NEW} IS 'made by embedding_index_upkeep over {rows} vectors'"),
            format!("ALTER INDEX signals.{index} RENAME TO {OLD}"),
            format!("ALTER INDEX signals.{NEW} RENAME TO {index}"),
        ] {
            spi::execute(client, &sql, &[])?;
        }
        Ok(())
    })?;
    drop_index(OLD);
    tx(|client| spi::execute(client, "ANALYZE signals.btc_embeddings", &[]))?;
    Ok(design.made)
}

fn drop_index(name: &str) {
    ffi::run_at_top_level(&format!("DROP INDEX CONCURRENTLY IF EXISTS signals.{name}"));
}
