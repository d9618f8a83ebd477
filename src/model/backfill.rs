//! The status and the mode of a backfill, as `ingestion.backfills` holds them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where a backfill stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillStatus {
    /// No worker has listed its prefixes yet.
    Pending,
    /// A worker lists its prefixes.
    Listing,
    /// Workers load its objects.
    Loading,
    /// Nothing is left to load.
    Done,
    /// An error that concerns no single object ended its work; a new call of `backfill` continues it.
    Stopped,
    /// `cancel_backfill` ended it.
    Cancelled,
}

impl BackfillStatus {
    /// Every status.
    pub const ALL: [BackfillStatus; 6] = [
        BackfillStatus::Pending,
        BackfillStatus::Listing,
        BackfillStatus::Loading,
        BackfillStatus::Done,
        BackfillStatus::Stopped,
        BackfillStatus::Cancelled,
    ];

    /// Returns the text that the table holds.
    pub fn as_str(self) -> &'static str {
        match self {
            BackfillStatus::Pending => "pending",
            BackfillStatus::Listing => "listing",
            BackfillStatus::Loading => "loading",
            BackfillStatus::Done => "done",
            BackfillStatus::Stopped => "stopped",
            BackfillStatus::Cancelled => "cancelled",
        }
    }

    /// Returns whether workers still have something to do for it.
    pub fn is_running(self) -> bool {
        matches!(self, BackfillStatus::Pending | BackfillStatus::Listing | BackfillStatus::Loading)
    }

    /// Returns whether it has ended for good.
    pub fn is_over(self) -> bool {
        matches!(self, BackfillStatus::Done | BackfillStatus::Cancelled)
    }
}

impl fmt::Display for BackfillStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a backfill loads: the argument `mode` of `btc_ingest.backfill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillMode {
    /// One object after another, into chunks that exist or that TimescaleDB creates.
    #[default]
    Object,
    /// A whole chunk at a time: a plain table is filled and then attached. Needs TimescaleDB's Community edition.
    Chunk,
}

impl BackfillMode {
    /// Returns the text that the table holds.
    pub fn as_str(self) -> &'static str {
        match self {
            BackfillMode::Object => "object",
            BackfillMode::Chunk => "chunk",
        }
    }
}

impl fmt::Display for BackfillMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BackfillMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "object" => Ok(BackfillMode::Object),
            "chunk" => Ok(BackfillMode::Chunk),
            _ => Err(Error::InvalidBackfill { what: "mode must be 'object' or 'chunk'".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_written_as_the_table_holds_it() {
        for status in BackfillStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
            assert_eq!(serde_json::from_value::<BackfillStatus>(status.as_str().into()).unwrap(), status);
            assert_eq!(status.to_string(), status.as_str());
        }
        assert!(serde_json::from_value::<BackfillStatus>("loaded".into()).is_err());
    }

    #[test]
    fn a_backfill_runs_until_it_is_done_stopped_or_cancelled() {
        let running: Vec<_> = BackfillStatus::ALL.into_iter().filter(|status| status.is_running()).collect();
        assert_eq!(running, [BackfillStatus::Pending, BackfillStatus::Listing, BackfillStatus::Loading]);
    }

    #[test]
    fn a_mode_is_object_or_chunk_and_nothing_else() {
        for mode in [BackfillMode::Object, BackfillMode::Chunk] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
            assert_eq!(serde_json::from_value::<BackfillMode>(serde_json::to_value(mode).unwrap()).unwrap(), mode);
        }
        for text in ["slice", "Object", ""] {
            let error = text.parse::<BackfillMode>().unwrap_err();
            assert_eq!(error.to_string(), "mode must be 'object' or 'chunk'");
        }
    }
}
