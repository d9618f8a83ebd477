//! The status of an object in `ingestion.objects` and of its row in `landing.raw_blobs_5m`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where an object stands between its registration and its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for a worker.
    Pending,
    /// Its ticks are stored.
    Loaded,
    /// Its last attempt failed; another attempt follows at `next_attempt_at`.
    Failed,
    /// Its error is permanent, or its attempts are used up. Only `retry`, a new version of the object or a new
    /// registration makes it pending again.
    Quarantined,
    /// It is not loaded: the administrator skipped it, or it is no Parquet file.
    Skipped,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 5] =
        [Status::Pending, Status::Loaded, Status::Failed, Status::Quarantined, Status::Skipped];

    /// Returns the text that the tables hold.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Loaded => "loaded",
            Status::Failed => "failed",
            Status::Quarantined => "quarantined",
            Status::Skipped => "skipped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_written_as_the_tables_hold_it() {
        for status in Status::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
            assert_eq!(serde_json::from_value::<Status>(status.as_str().into()).unwrap(), status);
            assert_eq!(status.to_string(), status.as_str());
        }
        assert!(serde_json::from_value::<Status>("done".into()).is_err());
    }
}
