//! All advisory locks of the extension. `docs/design/locks.md` has the table of what each lock protects and
//! of the order in which locks are taken. No other file and no SQL takes, releases or looks up an advisory lock.

use std::collections::HashSet;

use super::ffi::{self, LockLevel};

/// One advisory lock, by what it protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock<'a> {
    /// The load of one object, by its uri. A load holds it until its transaction ends.
    Object(&'a str),
    /// The claim on an object of the queue, by its uri.
    Claim(&'a str),
    /// The first row of a source in `ingestion.stream_offsets`.
    Offset(&'a str),
    /// The outage of a prefix, by the prefix: its row, and the look whether S3 answers.
    Outage(&'a str),
    /// The number of a loader in this database.
    Loader(i32),
    /// The slot of a worker in a backfill.
    BackfillWorker {
        /// The backfill's id.
        backfill: i64,
        /// The worker's number, from 0.
        slot: i32,
    },
    /// The preparation of a backfill (listing, footers, plan), by its id.
    Preparation(i64),
    /// The start of backfills: calls at the same time start one.
    StartBackfill,
    /// A chunk that a backfill builds as a whole, by its first bucket in microseconds since 1970.
    Unit(i64),
    /// The attachment of a filled table as a chunk.
    AttachChunk,
    /// The refresh of continuous aggregates by workers.
    Refresh,
    /// The compression of finished chunks by workers.
    Compression,
    /// `migrate()`.
    Migration,
}

impl Lock<'_> {
    /// Waits for the lock and holds it until the transaction ends.
    pub fn take_for_transaction(self) {
        ffi::acquire_lock(self.key(), LockLevel::Transaction, true);
    }

    /// Takes the lock until the transaction ends. Returns `false` if another session holds it.
    pub fn try_for_transaction(self) -> bool {
        ffi::acquire_lock(self.key(), LockLevel::Transaction, false)
    }

    /// Takes the lock until it is released or the process ends. Returns `false` if another session holds
    /// it. A session that takes a lock twice must release it twice.
    pub fn try_for_session(self) -> bool {
        ffi::acquire_lock(self.key(), LockLevel::Session, false)
    }

    /// Releases a lock of the session, inside or outside a transaction.
    pub fn release(self) {
        ffi::release_session_lock(self.key());
    }

    /// Releases a lock of the session after the transaction's commit, so that no other session finds the
    /// lock free before it can see what the transaction did.
    pub fn release_at_commit(self) {
        ffi::release_session_lock_at_commit(self.key());
    }

    /// Returns the pids of the sessions that hold the lock.
    pub fn holders(self) -> Vec<i32> {
        let key = self.key();
        ffi::held_locks().into_iter().filter(|(held, _)| *held == key).map(|(_, pid)| pid).collect()
    }

    fn key(self) -> i64 {
        let name = match self {
            Lock::Object(uri) => format!("btc_ingest.object:{uri}"),
            Lock::Claim(uri) => format!("btc_ingest.claim:{uri}"),
            Lock::Offset(source) => format!("btc_ingest.offset:{source}"),
            Lock::Outage(prefix) => format!("btc_ingest.outage:{prefix}"),
            Lock::Loader(slot) => format!("btc_ingest.loader:{slot}"),
            Lock::BackfillWorker { backfill, slot } => format!("btc_ingest.backfill:{backfill}:{slot}"),
            Lock::Preparation(backfill) => format!("btc_ingest.preparation:{backfill}"),
            Lock::StartBackfill => "btc_ingest.start_backfill".to_owned(),
            Lock::Unit(from) => format!("btc_ingest.unit:{from}"),
            Lock::AttachChunk => "btc_ingest.attach".to_owned(),
            Lock::Refresh => "btc_ingest.refresh".to_owned(),
            Lock::Compression => "btc_ingest.compress".to_owned(),
            Lock::Migration => "btc_ingest.migrate".to_owned(),
        };
        ffi::lock_key(&name)
    }
}

/// Releases all session-level advisory locks of this session.
pub fn release_all() {
    ffi::release_all_session_locks();
}

/// Returns whether a load of one of these objects is running in any session.
pub fn any_is_loading(uris: &[String]) -> bool {
    let held: HashSet<i64> = ffi::held_locks().into_iter().map(|(key, _)| key).collect();
    uris.iter().any(|uri| held.contains(&Lock::Object(uri).key()))
}

#[cfg(any(test, feature = "pg_test"))]
pub mod test_support {
    //! Lets tests compare keys with those that SQL computes.

    /// Returns the key of a lock.
    pub fn key(lock: super::Lock<'_>) -> i64 {
        lock.key()
    }
}
