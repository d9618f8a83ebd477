//! The index on the vectors.

use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::catalog::Catalog;
use crate::error::{Error, Result, WindowError};
use crate::pg::session::locks::Lock;
use crate::pg::session::spi;
use crate::pg::session::target::as_owner;

/// The name of the index.
const NAME: &str = "btc_embeddings_feature_vector_idx";

/// The kinds of index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ivfflat,
    Hnsw,
}

impl Kind {
    /// Reads the argument `kind`.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "ivfflat" => Ok(Kind::Ivfflat),
            "hnsw" => Ok(Kind::Hnsw),
            _ => Err(Error::InvalidArgument { what: format!("kind must be \"ivfflat\" or \"hnsw\", not \"{text}\"") }),
        }
    }
}

#[derive(Deserialize)]
struct Count {
    rows: i64,
}

/// Makes the index anew over the vectors that are stored, and gathers the statistics of the planner. Returns what it
/// has made.
pub fn rebuild(kind: Kind) -> Result<String> {
    as_owner(|client, target| {
        must_be_alone()?;
        // What is stored from here on waits, so that it is in the index.
        spi::execute(client, "LOCK TABLE ONLY signals.btc_embeddings IN SHARE ROW EXCLUSIVE MODE", &[])?;
        target.must_still_hold(client)?;
        let catalog = Catalog::read(client)?;
        let rows = count(client)?;
        for index in &catalog.indexes {
            spi::execute(client, &format!("DROP INDEX {index}"), &[])?;
        }
        create(client, &catalog, kind, rows)
    })
}

/// The most numbers of a vector that pgvector's indexes can hold.
const MOST_DIMENSIONS: i32 = 2_000;

/// Changes how many numbers a vector of the column has, and makes the index anew. Vectors of another length are
/// removed if `discard` says so; their rows and labels stay. Returns what it has made.
pub fn set_dimensions(dimensions: i32, discard: bool) -> Result<String> {
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        let what = format!("dimensions must be 1 to {MOST_DIMENSIONS}, which an index can hold, not {dimensions}");
        return Err(Error::InvalidArgument { what });
    }
    as_owner(|client, target| {
        must_be_alone()?;
        spi::execute(client, "LOCK TABLE ONLY signals.btc_embeddings IN ACCESS EXCLUSIVE MODE", &[])?;
        target.must_still_hold(client)?;
        let catalog = Catalog::read(client)?;
        let old = catalog.dimensions.unwrap_or_default();
        if old == i64::from(dimensions) {
            return Ok(format!("vectors of {dimensions} numbers, as before"));
        }
        let sql = "SELECT json_build_object('rows', count(feature_vector))::text FROM signals.btc_embeddings";
        let Count { rows } = spi::fetch(client, sql, &[])?;
        if rows > 0 && !discard {
            return Err(Error::Window(WindowError::Stored { count: rows, dimensions: old }));
        }
        for index in &catalog.indexes {
            spi::execute(client, &format!("DROP INDEX {index}"), &[])?;
        }
        let alter = format!(
            "ALTER TABLE signals.btc_embeddings
               ALTER COLUMN feature_vector TYPE {{vector}}.vector({dimensions}) USING NULL"
        );
        spi::execute(client, &catalog.name_vector(&alter), &[])?;
        let kind = catalog.kind.as_deref().map_or(Ok(Kind::Ivfflat), Kind::parse)?;
        let index = create(client, &catalog, kind, 0)?;
        Ok(format!("vectors of {dimensions} numbers, {rows} of {old} numbers removed; {index}"))
    })
}

/// Refuses to go on while a worker makes the index anew. It waits for the snapshots of all other sessions, so that a
/// session that waited for it would be a deadlock.
fn must_be_alone() -> Result<()> {
    if Lock::EmbeddingIndex.try_for_transaction() { Ok(()) } else { Err(Error::Window(WindowError::IndexInWork)) }
}

/// Counts the rows over which an index is made.
pub(super) fn count(client: &mut SpiClient<'_>) -> Result<i64> {
    let sql = "SELECT json_build_object('rows', count(*))::text FROM signals.btc_embeddings";
    spi::fetch(client, sql, &[]).map(|Count { rows }| rows)
}

/// How an index is made.
pub(super) struct Design {
    /// What follows its name in CREATE INDEX.
    pub definition: String,
    /// What it is, for the user.
    pub made: String,
}

/// Returns how an index is made over so many vectors.
pub(super) fn design(catalog: &Catalog, kind: Kind, rows: i64) -> Design {
    let (method, with, made) = match kind {
        Kind::Ivfflat => {
            let lists = lists_for(rows);
            ("ivfflat", format!(" WITH (lists = {lists})"), format!("ivfflat with {lists} lists over {rows} vectors"))
        }
        Kind::Hnsw => ("hnsw", String::new(), format!("hnsw over {rows} vectors")),
    };
    let class = catalog.name_vector("{vector}.vector_l2_ops");
    Design { definition: format!("ON signals.btc_embeddings USING {method} (feature_vector {class}){with}"), made }
}

fn create(client: &mut SpiClient<'_>, catalog: &Catalog, kind: Kind, rows: i64) -> Result<String> {
    let Design { definition, made } = design(catalog, kind, rows);
    for sql in [
        format!("CREATE INDEX {NAME} {definition}"),
        // doctor() compares it with the rows of today.
        format!("COMMENT ON INDEX signals.{NAME} IS 'made by rebuild_embedding_index() over {rows} vectors'"),
        "ANALYZE signals.btc_embeddings".to_owned(),
    ] {
        spi::execute(client, &sql, &[])?;
    }
    Ok(made)
}

/// Returns how many lists an ivfflat index has over so many rows: one per 500, and beyond half a million the root,
/// which keeps the search through the middles of the lists as long as that through the lists.
pub fn lists_for(rows: i64) -> i64 {
    let linear = rows / 500;
    let root = (rows.max(0) as f64).sqrt() as i64;
    linear.min(root.max(1_000)).clamp(10, 32_768)
}

#[cfg(test)]
mod tests {
    use super::lists_for;

    #[test]
    fn lists_grow_with_the_rows() {
        let lists = [0, 4_999, 100_000, 500_000, 1_000_000, 4_000_000].map(lists_for);
        assert_eq!(lists, [10, 10, 200, 1_000, 1_000, 2_000]);
    }
}
