//! State of this session: its transaction, settings, clock and process.

use std::ffi::CStr;

use pgrx::prelude::*;

/// Keeps others from defining settings under our prefix, and drops misspelt ones.
pub fn reserve_prefix(prefix: &'static CStr) {
    // SAFETY: a valid C string; called from _PG_init.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) }
}

/// Whether shared_preload_libraries is being worked off: only then may a worker be registered for good.
pub fn is_preloading() -> bool {
    // SAFETY: a flag of the postmaster.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Whether pg_upgrade has started this server: nothing may happen in it that pg_upgrade does not do.
pub fn is_upgrading() -> bool {
    // SAFETY: a flag of the postmaster's command line.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// This process.
pub fn my_pid() -> i32 {
    // SAFETY: set when the process began.
    unsafe { pg_sys::MyProcPid }
}

/// The database of this session.
pub fn current_database() -> pg_sys::Oid {
    // SAFETY: set when the session began.
    unsafe { pg_sys::MyDatabaseId }
}

/// Whether the session is inside BEGIN … COMMIT.
pub fn in_transaction_block() -> bool {
    // SAFETY: reads the state of the current transaction.
    unsafe { pg_sys::IsTransactionBlock() }
}

/// Whether the transaction may write nothing.
pub fn is_read_only() -> bool {
    // SAFETY: reads the state of the current transaction.
    unsafe { pg_sys::XactReadOnly }
}

/// A setting as SHOW gives it; `None`: there is none of this name.
pub fn setting(name: &CStr) -> Option<String> {
    // SAFETY: a NUL-terminated name; the answer is PostgreSQL's and copied at once.
    let value = unsafe { pg_sys::GetConfigOption(name.as_ptr(), true, false) };
    // SAFETY: not null, and NUL-terminated.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
}

/// SET LOCAL of a setting that everybody may change.
pub fn set_local(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_LOCAL);
}

/// SET of a setting that everybody may change. Outside a transaction as well.
pub fn set_for_session(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_SET);
}

fn set(name: &CStr, value: &CStr, action: pg_sys::GucAction::Type) {
    let (who, whence) = (pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_SESSION);
    // SAFETY: NUL-terminated texts, which are copied.
    unsafe { pg_sys::set_config_option(name.as_ptr(), value.as_ptr(), who, whence, action, true, 0, false) };
}

/// Bytes of a table's main fork.
pub fn table_size(table: pg_sys::Oid) -> u64 {
    // SAFETY: an existing table's oid; closed and unlocked at once.
    let blocks = unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        blocks
    };
    u64::from(blocks) * u64::from(pg_sys::BLCKSZ)
}

/// Whether this server is a standby, or still recovers.
pub fn in_recovery() -> bool {
    // SAFETY: reads a flag in shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// What `now()` is in this transaction: microseconds since 2000.
pub fn transaction_time() -> i64 {
    // SAFETY: reads the state of the current transaction.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// What time it is: microseconds since 2000.
pub fn now() -> i64 {
    // SAFETY: asks the system's clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Does something that PostgreSQL would end if an interrupt were pending, and leaves that to whoever looks next. Reports of
/// less than an error look for interrupts, and pgrx makes them without a guard: the error would pass over all frames of
/// ours, and over a subtransaction that one of them ends.
pub fn uninterrupted(work: impl FnOnce()) {
    // SAFETY: a counter of this process. An error, which may leave `work`, sets it to zero.
    unsafe { pg_sys::InterruptHoldoffCount += 1 };
    work();
    // SAFETY: as above.
    unsafe { pg_sys::InterruptHoldoffCount -= 1 };
}
