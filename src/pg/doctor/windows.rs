//! The vectors of slices: whether their index suits their number, and slices of several exchanges.

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint, set};
use crate::error::Result;
use crate::model::window::DIMENSIONS;
use crate::pg::session::locks::Lock;
use crate::pg::session::target::as_reading_owner;
use crate::pg::session::{guc, spi};
use crate::pg::windows::state::State;

const NAME: &str = "windows";

/// What the owner reads of the table.
#[derive(Deserialize)]
struct Rows {
    /// Windows of several exchanges, at most a hundred.
    mixed: i64,
}

/// Checks the index and the exchanges.
pub fn checks() -> Result<Vec<Check>> {
    let found = Spi::connect_mut(State::read)?;
    let mixed = "SELECT json_build_object('mixed', (SELECT count(*) FROM (
                     SELECT FROM signals.btc_embeddings WHERE exchange = 'mixed' LIMIT 100) AS m))::text";
    let Rows { mixed } = as_reading_owner(|client| spi::fetch(client, mixed, &[]))?;
    let mut checks = vec![index(&found)];
    checks.extend(upkeep(&found));
    if found.kind.as_deref() == Some("hnsw") && found.pgvector < 804 {
        let detail = "pgvector before 0.8.4 has faults in hnsw indexes: in VACUUM, and in parallel builds";
        let hint = Hint::run("ALTER EXTENSION vector UPDATE;").then("First install pgvector 0.8.4 or later.");
        checks.push(Check::known(NAME, detail, hint));
    }
    if let Some(dimensions) = found.dimensions.filter(|found| *found != DIMENSIONS as i64 && guc::embed_on_load()) {
        let detail = format!(
            "btc_ingest.embed_on_load is on, and loads make no vectors: the column takes those of {dimensions} numbers"
        );
        let hint = Hint::run(set("btc_ingest.embed_on_load", "off"))
            .then("Or: SELECT btc_ingest.set_embedding_dimensions(256); other dimensions are for vectors of your own.");
        checks.push(Check::bad(NAME, detail, hint));
    }
    if mixed > 0 {
        let detail = format!("{mixed} windows are of slices whose objects name several exchanges");
        let hint = Hint::run("SELECT bucket, asset FROM signals.btc_embeddings WHERE exchange = 'mixed';")
            .then("Store each market under a symbol of its own: option symbol of the load.");
        checks.push(Check::known(NAME, detail, hint));
    }
    Ok(checks)
}

fn index(found: &State) -> Check {
    let State { rows, kind, made_over, .. } = found;
    let Some(kind) = kind else {
        return Check::good(NAME, format!("{rows} vectors without an index"));
    };
    if found.is_outgrown() {
        let made_over = made_over.unwrap_or(0);
        let detail = format!("the ivfflat index was made over {made_over} vectors, and there are {rows} now");
        let next = if guc::embedding_index_upkeep() && found.due().is_some() {
            "A worker makes it anew within a quarter of an hour, because btc_ingest.embedding_index_upkeep is on."
        } else {
            "Until then similar() finds fewer of the nearest windows."
        };
        return Check::known(NAME, detail, Hint::run("SELECT btc_ingest.rebuild_embedding_index();").then(next));
    }
    Check::good(NAME, format!("{rows} vectors with an {kind} index"))
}

/// Checks that the worker that is to make the index anew can do so, and that nothing is left of an earlier one.
fn upkeep(found: &State) -> Option<Check> {
    if let (true, Some(false), Some(owner)) = (guc::embedding_index_upkeep(), found.may_log_in, &found.owner) {
        let detail =
            format!("btc_ingest.embedding_index_upkeep is on, and the owner of the tables, {owner}, may not log in");
        let hint = Hint::run(format!("ALTER ROLE {owner} LOGIN;")).then("A worker has the session of that role.");
        return Some(Check::bad(NAME, detail, hint));
    }
    // While a worker is at it, these are not left over.
    if found.useless.is_empty() || !Lock::EmbeddingIndex.holders().is_empty() {
        return None;
    }
    let detail = format!(
        "an attempt to make the index anew was ended and has left {}: no search uses it, and every writer fills it",
        found.useless.join(", ")
    );
    let drop: Vec<String> = found.useless.iter().map(|name| format!("DROP INDEX signals.{name};")).collect();
    let remark = "With btc_ingest.embedding_index_upkeep, the next attempt of a worker drops its own.";
    Some(Check::known(NAME, detail, Hint::run(drop.join(" ")).then(remark)))
}
