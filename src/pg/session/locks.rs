//! All advisory locks of the extension. `docs/design/locks.md` has the table of what each lock protects and
//! of the order in which locks are taken. No other file and no SQL takes, releases or looks up an advisory lock.

use std::collections::HashSet;

use super::ffi::{self, LockLevel, LockTag};

/// One advisory lock, by what it protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock<'a> {
    /// The load of one object, by its uri. A load holds it until its transaction ends.
    Object(&'a str),
    /// The claim on an object of the queue, by its uri.
    Claim(&'a str),
    /// The first rows of sources in `ingestion.stream_offsets`, by [`offset_part`].
    Offset(u8),
    /// A load, or a transaction of loads, that takes more locks than its share ([`super::lock_room`]).
    WideLoad,
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
    /// The proofs and drops of retention.
    Retention,
    /// The index on vectors, while it is made anew.
    EmbeddingIndex,
    /// The vectors of an asset's day, by a transaction that makes them from the stored ticks.
    Windows {
        /// The asset.
        asset: &'a str,
        /// Days since 1970.
        day: i64,
    },
}

impl Lock<'_> {
    /// Waits for the lock and holds it until the transaction ends.
    pub fn take_for_transaction(self) {
        ffi::acquire_lock(self.tag(), LockLevel::Transaction, true);
    }

    /// Takes the lock until the transaction ends. Returns `false` if another session holds it.
    pub fn try_for_transaction(self) -> bool {
        ffi::acquire_lock(self.tag(), LockLevel::Transaction, false)
    }

    /// Takes the lock until it is released or the process ends. Returns `false` if another session holds
    /// it. A session that takes a lock twice must release it twice.
    pub fn try_for_session(self) -> bool {
        ffi::acquire_lock(self.tag(), LockLevel::Session, false)
    }

    /// Returns whether this session holds the lock. A statement may have released a lock of the session: DISCARD ALL
    /// and `pg_advisory_unlock_all()` release all of them. Callable outside a transaction.
    pub fn is_held(self) -> bool {
        ffi::holds_lock(self.tag())
    }

    /// Returns whether this session holds the lock of the session, or has taken it again. Returns `false` if another
    /// session holds it. Inside a transaction.
    pub fn keep(self) -> bool {
        self.is_held() || self.try_for_session()
    }

    /// Releases a lock of the session, inside or outside a transaction.
    pub fn release(self) {
        ffi::release_session_lock(self.tag());
    }

    /// Releases a lock of the session after the transaction's commit, so that no other session finds the
    /// lock free before it can see what the transaction did.
    pub fn release_at_commit(self) {
        ffi::release_session_lock_at_commit(self.tag());
    }

    /// Releases a lock that the caller has just taken by [`Lock::try_for_transaction`], before the transaction ends.
    pub fn release_in_transaction(self) {
        ffi::release_transaction_lock(self.tag());
    }

    /// Returns the pids of the sessions that hold the lock.
    pub fn holders(self) -> Vec<i32> {
        let tag = self.tag();
        ffi::held_locks().into_iter().filter(|(held, _)| *held == tag).map(|(_, pid)| pid).collect()
    }

    fn tag(self) -> LockTag {
        let (kind, key) = match self {
            Lock::Object(uri) => (0, ffi::lock_key(uri)),
            Lock::Claim(uri) => (1, ffi::lock_key(uri)),
            Lock::Offset(part) => (2, i64::from(part)),
            Lock::Loader(slot) => (3, i64::from(slot)),
            Lock::BackfillWorker { backfill, slot } => (4, ffi::lock_key(&format!("{backfill}:{slot}"))),
            Lock::Preparation(backfill) => (5, backfill),
            Lock::StartBackfill => (6, 0),
            Lock::Unit(from) => (7, from),
            Lock::AttachChunk => (8, 0),
            Lock::Refresh => (9, 0),
            Lock::Compression => (10, 0),
            Lock::Migration => (11, 0),
            Lock::Outage(prefix) => (12, ffi::lock_key(prefix)),
            Lock::WideLoad => (13, 0),
            Lock::Windows { asset, day } => (14, ffi::lock_key(&format!("{day}:{asset}"))),
            Lock::Retention => (15, 0),
            Lock::EmbeddingIndex => (16, 0),
        };
        LockTag { kind, key }
    }
}

/// A lock of the extension that a session holds.
pub struct Held {
    /// The session's process.
    pub pid: i32,
    tag: LockTag,
}

impl Held {
    /// Returns what the lock protects, as the object of "holds".
    pub fn what(&self) -> &'static str {
        match self.tag.kind {
            0 => "the load of an object",
            1 => "the claim on an object",
            2 => "the first offset of a source",
            3 => "the place of a loader",
            4 => "the place of a backfill's worker",
            5 => "the preparation of a backfill",
            6 => "the start of backfills",
            7 => "a chunk that a backfill builds",
            8 => "the attachment of chunks",
            9 => "the refresh of continuous aggregates",
            10 => "the compression of chunks",
            11 => "the migration",
            12 => "an outage of S3",
            13 => "the room for loads that take many locks",
            14 => "the vectors of a day",
            15 => "the drop of chunks",
            16 => "the index on vectors",
            _ => "a lock of another version of btc_ingest",
        }
    }

    /// Returns whether it is the load of this object or the claim on it.
    pub fn is_of(&self, uri: &str) -> bool {
        [Lock::Object(uri), Lock::Claim(uri)].iter().any(|lock| lock.tag() == self.tag)
    }
}

/// Returns all locks of the extension that sessions of this database hold.
pub fn held() -> Vec<Held> {
    ffi::held_locks().into_iter().map(|(tag, pid)| Held { pid, tag }).collect()
}

/// Sources share this many locks, so that an object of many sources takes no more.
const OFFSET_PARTS: i64 = 32;

/// Returns which of the locks `Offset` a source belongs to. A session that takes several takes them in their order.
pub fn offset_part(source: &str) -> u8 {
    ffi::lock_key(source).rem_euclid(OFFSET_PARTS) as u8
}

/// Releases all session-level advisory locks of this session.
pub fn release_all() {
    ffi::release_all_session_locks();
}

/// Returns whether a load of one of these objects is running in any session.
pub fn any_is_loading(uris: &[String]) -> bool {
    let held: HashSet<LockTag> = ffi::held_locks().into_iter().map(|(tag, _)| tag).collect();
    uris.iter().any(|uri| held.contains(&Lock::Object(uri).tag()))
}
