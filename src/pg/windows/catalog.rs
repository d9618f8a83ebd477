//! Where pgvector is, and how the column of vectors is declared and indexed.

use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::Result;
use crate::pg::session::spi;

/// The row of `windows_catalog.sql`.
#[derive(Debug, Clone, Deserialize)]
pub struct Catalog {
    /// The schema of pgvector, quoted.
    vector: String,
    /// Numbers of a vector of the column. `None` if the column takes vectors of any length.
    #[serde(deserialize_with = "spi::nullable")]
    pub dimensions: Option<i64>,
    /// About how many rows there are, as of the last ANALYZE. `None` if there was none.
    #[serde(deserialize_with = "spi::nullable")]
    pub rows: Option<f64>,
    /// Lists of the valid ivfflat index, if there is one.
    #[serde(deserialize_with = "spi::nullable")]
    pub lists: Option<i64>,
    /// `ivfflat` or `hnsw`. `None` without a valid index.
    #[serde(deserialize_with = "spi::nullable")]
    pub kind: Option<String>,
    /// The indexes on the vectors, also those that are not valid, as `schema.name`, quoted.
    pub indexes: Vec<String>,
}

impl Catalog {
    pub fn read(client: &mut SpiClient<'_>) -> Result<Self> {
        spi::fetch_kept(client, statement!("windows_catalog"), &[])
    }

    /// Writes the schema of pgvector into a statement, where it has `{vector}`.
    pub fn name_vector(&self, sql: &str) -> String {
        sql.replace("{vector}", &self.vector)
    }
}
