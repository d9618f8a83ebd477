//! Offsets of the sources (`ingestion.stream_offsets`): the highest trade id that loads have stored of each source.

use std::collections::BTreeMap;

use pgrx::JsonB;
use pgrx::spi::SpiClient;
use serde::Deserialize;
use serde_json::json;

use crate::error::Result;
use crate::pg::session::locks::Lock;
use crate::pg::session::spi;
use crate::pg::session::time::timestamp;

/// Offsets that are to be written, by source.
#[derive(Debug, Clone, Default)]
pub struct Offsets(BTreeMap<String, Offset>);

/// The offset of one source.
#[derive(Debug, Clone)]
pub struct Offset {
    /// The highest trade id.
    pub sequence: i64,
    /// Its event time, microseconds since 1970.
    pub time: i64,
    /// The object that holds it.
    pub uri: String,
    /// The version of that object.
    pub etag: String,
}

/// Whether a source's row can be written without waiting (`offset_state.sql`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RowState {
    /// The source has no row.
    Absent,
    /// The row was free. This transaction has locked it now.
    Free,
    /// Another session has locked the row.
    Locked,
}

impl Offsets {
    /// Adds an offset unless the source has a higher one here.
    pub fn note(&mut self, source: String, offset: Offset) {
        match self.0.get_mut(&source) {
            Some(known) if known.sequence >= offset.sequence => {}
            Some(known) => *known = offset,
            None => drop(self.0.insert(source, offset)),
        }
    }

    /// Adds all offsets of `others`.
    pub fn merge(&mut self, others: Offsets) {
        others.0.into_iter().for_each(|(source, offset)| self.note(source, offset));
    }

    /// Returns each source with its offset alone.
    pub fn each(self) -> impl Iterator<Item = (String, Offsets)> {
        self.0.into_iter().map(|(source, offset)| (source.clone(), Offsets(BTreeMap::from([(source, offset)]))))
    }

    /// Moves each source's stored offset forward and waits for its row. A stored offset that is higher
    /// stays, and its row is not locked.
    pub fn write(&self, client: &mut SpiClient<'_>) -> Result<()> {
        self.0.iter().try_for_each(|(source, offset)| offset.write(client, source))
    }

    /// Does the same as [`Offsets::write`] without waiting for another session. Returns the offsets of
    /// sources that another session has locked.
    pub fn write_if_free(self, client: &mut SpiClient<'_>) -> Result<Offsets> {
        let mut left = BTreeMap::new();
        for (source, offset) in self.0 {
            let free = match row_state(client, &source)? {
                RowState::Absent => Lock::Offset(&source).try_for_transaction(),
                RowState::Free => true,
                RowState::Locked => false,
            };
            if free {
                offset.write(client, &source)?;
            } else {
                left.insert(source, offset);
            }
        }
        Ok(Offsets(left))
    }

    /// Returns whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Offset {
    fn write(&self, client: &mut SpiClient<'_>, source: &str) -> Result<()> {
        let state = json!({ "last_uri": self.uri, "last_etag": self.etag });
        let args = [source.to_owned().into(), self.sequence.into(), timestamp(self.time)?.into(), JsonB(state).into()];
        let moved = spi::execute_kept(client, statement!("move_offset"), &args)?;
        if moved == 0 && !exists(client, source)? {
            // Two sessions that load a source for the first time both come here, and the higher sequence
            // wins. A worker that does not get the lock leaves the offset for later.
            Lock::Offset(source).take_for_transaction();
            spi::execute_kept(client, statement!("new_offset"), &args)?;
        }
        Ok(())
    }
}

fn exists(client: &mut SpiClient<'_>, source: &str) -> Result<bool> {
    let sql = "SELECT (EXISTS (SELECT FROM ingestion.stream_offsets WHERE source = $1))::text";
    spi::fetch_kept(client, sql, &[source.to_owned().into()])
}

fn row_state(client: &mut SpiClient<'_>, source: &str) -> Result<RowState> {
    spi::fetch_kept(client, statement!("offset_state"), &[source.to_owned().into()])
}
