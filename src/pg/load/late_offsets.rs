//! Offsets that loads have left because another session had locked their rows. They are written later, and never
//! by the load of another object: an offset that cannot be written must not fail that load.

use pgrx::spi::SpiClient;

use super::offsets::Offsets;
use crate::error::Result;
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::{report, shared};

/// Offsets that are still to be written.
#[derive(Debug, Clone, Default)]
pub struct LateOffsets {
    waiting: Offsets,
    /// Offsets that PostgreSQL has refused. They are tried once more when the process ends.
    refused: Offsets,
}

impl LateOffsets {
    /// Returns whether there is nothing to write now.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds what a load has left.
    pub fn add(&mut self, left: Offsets) {
        self.waiting.merge(left);
    }

    /// Makes the refused offsets wait again.
    pub fn retry_refused(&mut self) {
        self.waiting.merge(std::mem::take(&mut self.refused));
    }

    /// Writes the waiting offsets in subtransactions. It waits for no other session: offsets that one has locked
    /// stay. An offset that cannot be written is reported and set aside. Only a cancelled statement is an error.
    pub fn write(&mut self, client: &mut SpiClient<'_>) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        match ffi::attempt::<_, Failure>(|| Ok(waiting.clone().write_if_free(client)?)) {
            Ok(left) => self.waiting = left,
            Err(failure) => {
                failure.unless_cancelled()?;
                waiting.each().try_for_each(|(source, offset)| self.write_one(client, &source, offset))?;
            }
        }
        Ok(())
    }

    fn write_one(&mut self, client: &mut SpiClient<'_>, source: &str, offset: Offsets) -> Result<()> {
        let failure = match ffi::attempt::<_, Failure>(|| Ok(offset.clone().write_if_free(client)?)) {
            Ok(left) => {
                self.waiting.merge(left);
                return Ok(());
            }
            Err(failure) => failure.unless_cancelled()?,
        };
        if failure.verdict().is_worth_another_attempt() {
            self.waiting.merge(offset);
            return Ok(());
        }
        let (sqlstate, message) = failure.sqlstate_and_message();
        let message = format!("the offset of {source} cannot be written: {message}");
        report::log(&format!("btc_ingest: {message} ({sqlstate})"));
        shared::note_error(&sqlstate, &message);
        self.refused.merge(offset);
        Ok(())
    }
}
