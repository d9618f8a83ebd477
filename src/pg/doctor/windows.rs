//! The vectors of slices: whether their index suits their number, and slices of several exchanges.

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint, set};
use crate::error::Result;
use crate::model::window::DIMENSIONS;
use crate::pg::session::target::as_reading_owner;
use crate::pg::session::{guc, spi};

const NAME: &str = "windows";
/// Below it, a search without an index takes milliseconds.
const FEW: i64 = 10_000;

/// What the catalogs say (`doctor_windows.sql`).
#[derive(Deserialize)]
struct Found {
    /// Vectors by the planner's estimate.
    rows: i64,
    /// Numbers of a vector. `None` if the table has no such column.
    #[serde(deserialize_with = "spi::nullable")]
    dimensions: Option<i64>,
    /// `ivfflat` or `hnsw`. `None` without an index.
    #[serde(deserialize_with = "spi::nullable")]
    kind: Option<String>,
    /// Vectors over which `rebuild_embedding_index()` has made the index, if it has.
    #[serde(deserialize_with = "spi::nullable")]
    made_over: Option<i64>,
    /// Version of pgvector as a number: 804 for 0.8.4.
    pgvector: i64,
}

/// What the owner reads of the table.
#[derive(Deserialize)]
struct Rows {
    /// Windows of several exchanges, at most a hundred.
    mixed: i64,
}

/// Checks the index and the exchanges.
pub fn checks() -> Result<Vec<Check>> {
    let found: Found = Spi::connect_mut(|client| spi::fetch(client, statement!("doctor_windows"), &[]))?;
    let mixed = "SELECT json_build_object('mixed', (SELECT count(*) FROM (
                     SELECT FROM signals.btc_embeddings WHERE exchange = 'mixed' LIMIT 100) AS m))::text";
    let Rows { mixed } = as_reading_owner(|client| spi::fetch(client, mixed, &[]))?;
    let mut checks = vec![index(&found)];
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

fn index(found: &Found) -> Check {
    let Found { rows, kind, made_over, .. } = found;
    let Some(kind) = kind else {
        return Check::good(NAME, format!("{rows} vectors without an index"));
    };
    let made_over = made_over.unwrap_or(0);
    let outgrown = kind == "ivfflat" && *rows > FEW && *rows > 2 * made_over.max(1);
    if outgrown {
        let detail = format!("the ivfflat index was made over {made_over} vectors, and there are {rows} now");
        let hint = Hint::run("SELECT btc_ingest.rebuild_embedding_index();")
            .then("Until then similar() finds fewer of the nearest windows.");
        return Check::known(NAME, detail, hint);
    }
    Check::good(NAME, format!("{rows} vectors with an {kind} index"))
}
