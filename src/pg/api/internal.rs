//! Functions of the schema `btc_ingest_internal`, which the extension's own SQL calls.

use pgrx::prelude::*;

use crate::pg::queue::sweep;
use crate::pg::session::locks::Lock;
use crate::pg::session::{report, shared};

#[pg_extern(sql = false)]
fn wake_workers() {
    shared::wake_at_commit();
}

#[pg_trigger(sql = false)]
fn registry_wake<'a>(
    _trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, pgrx::AllocatedByPostgres>>, crate::error::Error> {
    shared::wake_at_commit();
    Ok(None)
}

#[pg_extern(sql = false)]
fn sweep_step(assets: Option<Vec<Option<String>>>, newest: Option<bool>, claim_next: Option<bool>) -> bool {
    let assets = assets.map(|assets| assets.into_iter().flatten().collect());
    let result = sweep::step(assets, newest, claim_next.unwrap_or(false));
    report::or_raise(None, result)
}

#[pg_extern(sql = false)]
fn take_migration_lock() {
    Lock::Migration.take_for_transaction();
}

#[pg_extern(sql = false)]
fn try_compression_lock() -> bool {
    Lock::Compression.try_for_transaction()
}

#[pg_extern(sql = false)]
fn backfill_worker_is_alive(backfill: i64, slot: i32, pid: i32) -> bool {
    Lock::BackfillWorker { backfill, slot }.holders().contains(&pid)
}
