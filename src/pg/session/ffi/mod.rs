//! The only folder with `unsafe`: PostgreSQL's C API where pgrx has no safe wrapper for it, the signal mask
//! and the disk.
//!
//! Functions here run on the backend's own thread only, and inside a transaction unless their comment says
//! otherwise. pgrx checks the thread in every call of its declarations.

#![allow(unsafe_code)]

mod append;
mod catalog;
mod caught;
mod database;
mod disk;
mod ending;
mod fixed;
mod index_fill;
mod jsonb;
mod locks;
mod plan;
mod privileges;
mod raise;
mod results;
mod rows;
mod session;
mod setting;
mod shared;
mod sqlstates;
mod state;
mod subtransaction;
mod thread;
mod top_level;
mod transaction_ends;
mod tuplestore;
mod utility;
mod worker;

pub use append::{Appended, append};
pub use catalog::catalog_version;
pub use caught::Failure;
pub use database::settled_database;
pub use disk::disk;
pub use ending::{at_exit, end_if_asked, end_in_order, is_ending};
#[cfg(any(test, feature = "pg_test"))]
pub use fixed::FIXED;
pub use index_fill::KNOWS_NBTREE;
pub use jsonb::jsonb_text;
pub use locks::{
    LockLevel, LockTag, acquire_lock, at_abort, count_own_locks, held_locks, holds_lock, lock_for_writing, lock_key,
    release_all_session_locks, release_session_lock, release_session_lock_at_commit, release_transaction_lock,
};
pub use plan::Plan;
pub use privileges::RunAs;
pub use raise::{Report, raise};
pub use results::{ResultRows, Value};
pub use rows::{Column, Row, for_each_row, for_each_row_now};
pub use session::{
    current_database, database_encoding, in_recovery, in_transaction_block, is_preloading, is_read_only, is_upgrading,
    my_pid, now, reserve_prefix, set_for_session, set_local, setting, table_size, transaction_time, uninterrupted,
};
pub use setting::define_time;
pub use shared::{has_shared_memory, is_alive, request_shared_memory, set_latch, shared, shared_mut};
pub use sqlstates::with_sqlstates;
pub use state::{LastError, Load, Phase, Role, Text, Worker};
pub use subtransaction::{attempt, unless_unique_violation};
pub use thread::Thread;
pub use top_level::run_at_top_level;
pub use transaction_ends::{SubtransactionEnd, at_subtransaction_ends, at_transaction_ends, current_subtransaction};
pub use tuplestore::TickStore;
#[cfg(any(test, feature = "pg_test"))]
pub use tuplestore::test_support;
pub use utility::watch_databases;
pub use worker::{Database, become_worker, idle, reload_settings, show_activity, survive, transaction};
