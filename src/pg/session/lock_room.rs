//! Room in PostgreSQL's table of locks. All sessions share it, and when it is full, each of them fails with SQLSTATE
//! 53200. So a transaction of ours takes its share, or more than that alone, or it is refused.

use std::cell::Cell;
use std::ffi::CStr;

use super::locks::Lock;
use super::{ffi, guc};
use crate::error::{Error, Result};

/// The settings whose sum is the number of transactions for which the table has room.
const TRANSACTIONS: [&CStr; 5] = [
    c"max_connections",
    c"autovacuum_max_workers",
    c"max_worker_processes",
    c"max_wal_senders",
    c"max_prepared_transactions",
];

thread_local! {
    /// When the transaction began, and the locks that it was promised since they were counted last.
    static PROMISED: Cell<(i64, usize)> = const { Cell::new((i64::MIN, 0)) };
}

/// Returns how many locks one transaction may hold: half of those that the table has room for.
pub fn most() -> usize {
    slots() / 2
}

/// Must be called before locks are taken. A transaction that takes more than its share takes the lock `WideLoad`
/// first, so that there is one such transaction at a time, and waits for it. One that would hold far more than
/// [`most`] is refused.
pub fn reserve(locks: usize) -> Result<()> {
    let began = ffi::transaction_time();
    let (since, promised) = PROMISED.get();
    let promised = if since == began { promised + locks } else { locks };
    PROMISED.set((began, promised));
    // Counting takes longer than taking a few locks.
    if promised <= per_transaction() {
        return Ok(());
    }
    let wanted = ffi::count_own_locks() + locks;
    if wanted <= share() {
        PROMISED.set((began, 0));
        return Ok(());
    }
    // One load may take `most`. The rest is room for what its transaction has locked before.
    let limit = most() + slots() / 8;
    if wanted > limit {
        return Err(Error::TooManyLocks { wanted, limit });
    }
    Lock::WideLoad.take_for_transaction();
    Ok(())
}

/// Returns how many locks any load of ours may hold beside others: a part of three eighths of the table. Another half
/// is for the one transaction with the lock `WideLoad`, and what is left is for other sessions.
fn share() -> usize {
    let processes = guc::workers().max(0) + guc::max_backfill_workers().max(0) + 1;
    (slots() * 3 / 8 / processes as usize).max(per_transaction())
}

/// Returns how many locks PostgreSQL's table has room for.
fn slots() -> usize {
    per_transaction() * TRANSACTIONS.into_iter().map(number).sum::<usize>()
}

fn per_transaction() -> usize {
    number(c"max_locks_per_transaction")
}

fn number(setting: &CStr) -> usize {
    ffi::setting(setting).and_then(|value| value.parse().ok()).unwrap_or(0)
}
