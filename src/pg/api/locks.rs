//! Locks for the extension's own SQL, which `sql/locks.sql` declares. No SQL takes or looks up an advisory lock itself.

use pgrx::prelude::*;

use crate::pg::session::locks::Lock;

#[pg_extern(sql = false)]
fn take_migration_lock() {
    Lock::Migration.take_for_transaction();
}

#[pg_extern(sql = false)]
fn backfill_worker_is_alive(backfill: i64, slot: i32, pid: i32) -> bool {
    Lock::BackfillWorker { backfill, slot }.holders().contains(&pid)
}
