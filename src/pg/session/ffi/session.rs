//! State of this session: its transaction, settings, clock and process.

use std::ffi::CStr;

use pgrx::prelude::*;

/// Reserves a prefix of settings: no other library may define settings with it, and misspelt ones are dropped.
pub fn reserve_prefix(prefix: &'static CStr) {
    // SAFETY: the text is static and NUL-terminated, and _PG_init, which calls this, may define settings.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) }
}

/// Returns whether the postmaster is loading shared_preload_libraries. Only then may a static worker be registered.
pub fn is_preloading() -> bool {
    // SAFETY: a flag that only the main thread writes, and this is the main thread.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Returns whether pg_upgrade has started this server. Only pg_upgrade may change anything in it then.
pub fn is_upgrading() -> bool {
    // SAFETY: a flag that is set when the postmaster reads its command line, and not changed afterwards.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Returns the pid of this process.
pub fn my_pid() -> i32 {
    // SAFETY: the variable was set when the process began and does not change.
    unsafe { pg_sys::MyProcPid }
}

/// Returns the oid of this session's database.
pub fn current_database() -> pg_sys::Oid {
    // SAFETY: the variable was set when the session began and does not change.
    unsafe { pg_sys::MyDatabaseId }
}

/// Returns whether the session is inside BEGIN … COMMIT.
pub fn in_transaction_block() -> bool {
    // SAFETY: the call only reads the transaction's state, which exists also outside a transaction.
    unsafe { pg_sys::IsTransactionBlock() }
}

/// Returns whether the transaction is read-only.
pub fn is_read_only() -> bool {
    // SAFETY: a variable that only this thread writes.
    unsafe { pg_sys::XactReadOnly }
}

/// Returns a setting as SHOW displays it. Returns `None` if there is no setting of this name.
pub fn setting(name: &CStr) -> Option<String> {
    // SAFETY: the name is NUL-terminated. The answer stays valid until the setting changes, and is copied
    // before that.
    let value = unsafe { pg_sys::GetConfigOption(name.as_ptr(), true, false) };
    // SAFETY: the pointer is not null, and the text of a setting is NUL-terminated.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
}

/// Changes a setting that any role may change, until the transaction ends.
pub fn set_local(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucContext::PGC_USERSET, pg_sys::GucAction::GUC_ACTION_LOCAL);
}

/// Changes a setting that any role may change, until the session ends. Callable outside a transaction.
pub fn set_for_session(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucContext::PGC_USERSET, pg_sys::GucAction::GUC_ACTION_SET);
}

/// Changes a setting as a role may that has the privileges of `context`. `action` says when the former value comes
/// back.
pub(super) fn set(name: &CStr, value: &CStr, context: pg_sys::GucContext::Type, action: pg_sys::GucAction::Type) {
    let source = pg_sys::GucSource::PGC_S_SESSION;
    // SAFETY: both texts are NUL-terminated, and PostgreSQL copies them.
    unsafe { pg_sys::set_config_option(name.as_ptr(), value.as_ptr(), context, source, action, true, 0, false) };
}

/// Returns the size of a table's main fork in bytes, or `None` if the table was dropped.
pub fn table_size(table: pg_sys::Oid) -> Option<u64> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: inside a transaction; the call returns null for an oid of a dropped table.
    let relation = unsafe { pg_sys::try_table_open(table, lock) };
    if relation.is_null() {
        return None;
    }
    // SAFETY: the relation is open, and every table has a main fork.
    let blocks = unsafe { pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM) };
    // SAFETY: the relation was opened above with the same lock and is not used again.
    unsafe { pg_sys::table_close(relation, lock) };
    Some(u64::from(blocks) * u64::from(pg_sys::BLCKSZ))
}

/// Returns whether this server is a standby or still recovers.
pub fn in_recovery() -> bool {
    // SAFETY: every server process may call this: the flag is in shared memory, to which the process is attached.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Returns what `now()` is in this transaction, in microseconds since 2000.
pub fn transaction_time() -> i64 {
    // SAFETY: the call only reads a variable of this process.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// Returns the name of the current database's encoding.
pub fn database_encoding() -> &'static str {
    // SAFETY: the name is a static text of PostgreSQL, and NUL-terminated.
    let name = unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) };
    name.to_str().unwrap_or_default()
}

/// Returns the current time of the clock in microseconds since 2000.
pub fn now() -> i64 {
    // SAFETY: the call reads the system's clock and nothing else.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Runs `work` without answering interrupts; the next check for interrupts answers them. Reports below
/// ERROR check for interrupts, and pgrx makes these reports without a guard: the error of a cancel would
/// pass over all frames of ours, and over a subtransaction that one of them must end.
pub fn uninterrupted(work: impl FnOnce()) {
    // SAFETY: a counter that only this thread writes. If an error leaves `work`, PostgreSQL sets the
    // counter to zero.
    unsafe { pg_sys::InterruptHoldoffCount += 1 };
    work();
    // SAFETY: `work` has returned, so the counter is what it was after the increment above.
    unsafe { pg_sys::InterruptHoldoffCount -= 1 };
}
