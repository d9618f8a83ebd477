//! How long this process waits for a lock of another session.

use std::ffi::CStr;

use super::ffi;

/// The longest wait of a load, or of what records its result. A load that would wait longer is put off.
const LOAD: &CStr = c"1s";
/// The longest wait of any other work of a backfill, which is costly to repeat.
const UNIT: &CStr = c"30s";

/// Limits the waits of a load until the transaction, or the part of it that has the owner's privileges, ends.
pub fn limit_in_transaction() {
    ffi::set_local(c"lock_timeout", LOAD);
}

/// Limits the waits of a unit's build until the transaction, or the part of it that has the owner's privileges, ends.
/// Every insert that needs a new chunk waits behind the request of `create_chunk` for its lock, and every load of a
/// source waits for its offset until the unit is committed.
pub fn limit_unit_in_transaction() {
    ffi::set_local(c"lock_timeout", UNIT);
}

/// Limits all waits of a process that loads.
pub fn limit_in_process() {
    ffi::set_for_session(c"lock_timeout", LOAD);
}

/// Limits all waits of a process that also builds chunks.
pub fn limit_in_unit_process() {
    ffi::set_for_session(c"lock_timeout", UNIT);
}
