//! Offsets of the sources (`ingestion.stream_offsets`): the highest trade id that loads have stored of each source.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use pgrx::JsonB;
use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiClient;
use serde::Deserialize;
use serde_json::json;

use crate::error::Result;
use crate::pg::session::locks::{Lock, offset_part};
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
        let mut absent = Vec::new();
        for (source, offset) in &self.0 {
            if !offset.move_stored(client, source)? {
                absent.push((source, offset));
            }
        }
        // Two sessions that load a source for the first time both come here, and the higher sequence wins.
        for part in parts(absent.iter().map(|(source, _)| *source)) {
            Lock::Offset(part).take_for_transaction();
        }
        absent.into_iter().try_for_each(|(source, offset)| offset.insert(client, source))
    }

    /// Does the same as [`Offsets::write`] without waiting for another session. Returns the offsets of
    /// sources that another session has locked.
    pub fn write_if_free(self, client: &mut SpiClient<'_>) -> Result<Offsets> {
        let (mut absent, mut left) = (BTreeMap::new(), BTreeMap::new());
        for (source, offset) in self.0 {
            match row_state(client, &source)? {
                RowState::Absent => drop(absent.insert(source, offset)),
                RowState::Free => drop(offset.move_stored(client, &source)?),
                RowState::Locked => drop(left.insert(source, offset)),
            }
        }
        let parts = parts(absent.keys());
        let free: HashSet<u8> = parts.into_iter().filter(|part| Lock::Offset(*part).try_for_transaction()).collect();
        for (source, offset) in absent {
            if free.contains(&offset_part(&source)) {
                offset.insert(client, &source)?;
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
    /// Moves the stored offset forward. Returns `false` if the source has no row.
    fn move_stored(&self, client: &mut SpiClient<'_>, source: &str) -> Result<bool> {
        let moved = spi::execute_kept(client, statement!("move_offset"), &self.args(source)?)?;
        Ok(moved > 0 || exists(client, source)?)
    }

    /// Writes the first offset of a source. The caller holds the lock of its part.
    fn insert(&self, client: &mut SpiClient<'_>, source: &str) -> Result<()> {
        // A statement after the lock sees what its last holder has committed.
        spi::execute_kept(client, statement!("new_offset"), &self.args(source)?).map(drop)
    }

    fn args(&self, source: &str) -> Result<[DatumWithOid<'static>; 4]> {
        let state = json!({ "last_uri": self.uri, "last_etag": self.etag });
        Ok([source.to_owned().into(), self.sequence.into(), timestamp(self.time)?.into(), JsonB(state).into()])
    }
}

/// Returns the parts of the sources in the order in which their locks are taken.
fn parts<'a>(sources: impl Iterator<Item = &'a String>) -> BTreeSet<u8> {
    sources.map(|source| offset_part(source)).collect()
}

fn exists(client: &mut SpiClient<'_>, source: &str) -> Result<bool> {
    let sql = "SELECT (EXISTS (SELECT FROM ingestion.stream_offsets WHERE source = $1))::text";
    spi::fetch_kept(client, sql, &[source.to_owned().into()])
}

fn row_state(client: &mut SpiClient<'_>, source: &str) -> Result<RowState> {
    spi::fetch_kept(client, statement!("offset_state"), &[source.to_owned().into()])
}
