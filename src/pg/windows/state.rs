//! What the catalogs say about the vectors and their index, and the rule by which the index is due to be made anew.

use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::Result;
use crate::pg::session::spi;

/// Below it, a search without an index takes milliseconds.
const FEW: i64 = 10_000;

/// The name of an index that a worker builds, until the index takes the place of the earlier one.
pub const NEW: &str = "btc_embeddings_upkeep_new";
/// The name of the earlier one from then on, until it is dropped.
pub const OLD: &str = "btc_embeddings_upkeep_old";

/// The row of `windows_state.sql`.
#[derive(Deserialize)]
pub struct State {
    /// Vectors by the planner's estimate.
    pub rows: i64,
    /// Numbers of a vector. `None` if the table has no such column.
    #[serde(deserialize_with = "spi::nullable")]
    pub dimensions: Option<i64>,
    /// `ivfflat` or `hnsw`. `None` without a valid index.
    #[serde(deserialize_with = "spi::nullable")]
    pub kind: Option<String>,
    /// Vectors over which the library has made the index, if it has.
    #[serde(deserialize_with = "spi::nullable")]
    pub made_over: Option<i64>,
    /// The ivfflat index that a worker may replace, quoted. `None` if another program has made the index in its own
    /// way.
    #[serde(deserialize_with = "spi::nullable")]
    pub replaceable: Option<String>,
    /// What a worker has left that was ended, quoted. While one works, also what it works on.
    pub left: Vec<String>,
    /// That, and indexes that are not valid, without those that are being built.
    pub useless: Vec<String>,
    /// The owner of the table, quoted.
    #[serde(deserialize_with = "spi::nullable")]
    pub owner: Option<String>,
    /// Whether the owner may log in, as a worker with its role must.
    #[serde(deserialize_with = "spi::nullable")]
    pub may_log_in: Option<bool>,
    /// Version of pgvector as a number: 804 for 0.8.4.
    pub pgvector: i64,
}

impl State {
    pub fn read(client: &mut SpiClient<'_>) -> Result<Self> {
        let names: Vec<String> = [NEW, OLD].map(str::to_owned).into();
        spi::fetch(client, statement!("windows_state"), &[names.into()])
    }

    /// Returns whether there are so many more vectors than the ivfflat index was made over that it finds fewer of the
    /// nearest ones.
    pub fn is_outgrown(&self) -> bool {
        let made_over = self.made_over.unwrap_or(0);
        self.kind.as_deref() == Some("ivfflat") && self.rows > FEW && self.rows > 2 * made_over.max(1)
    }

    /// Returns the index that a worker is to make anew, if it is due.
    pub fn due(&self) -> Option<&str> {
        self.replaceable.as_deref().filter(|_| self.is_outgrown())
    }

    /// Returns whether a worker has something to do.
    pub fn needs_upkeep(&self) -> bool {
        self.due().is_some() || !self.left.is_empty()
    }
}
