//! Settings that change what a statement means or how a value reads as a text. They have the same values wherever the
//! extension runs statements: in its functions by SET clauses (`sql/settings.sql`), in its workers for the session. A
//! test compares the two lists.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::session::{set, set_for_session, setting};

/// The search path of everything that the extension runs. `pg_temp` comes last: where it is not named, the session's
/// temporary tables and types come first.
pub const SEARCH_PATH: &CStr = c"pg_catalog, pg_temp";

/// Names and values of what functions and workers have in common.
pub const FIXED: [(&CStr, &CStr); 11] = [
    (c"search_path", SEARCH_PATH),
    // Times, intervals, floats and bytes as texts, for example in the statement that makes a chunk, and in messages.
    (c"datestyle", c"ISO, YMD"),
    (c"intervalstyle", c"postgres"),
    (c"timezone", c"UTC"),
    (c"extra_float_digits", c"1"),
    (c"bytea_output", c"hex"),
    // How a statement is read.
    (c"standard_conforming_strings", c"on"),
    (c"transform_null_equals", c"off"),
    (c"array_nulls", c"on"),
    // Definitions of defaults and indexes are compared as texts.
    (c"quote_all_identifiers", c"off"),
    (c"row_security", c"on"),
];

/// What workers need beyond that. A function has the transaction of its caller, who may limit its waits.
/// `default_transaction_read_only` is not among them: an administrator sets it to stop all writers, workers too.
const OF_WORKERS: [(&CStr, &CStr); 4] = [
    (c"jit", c"off"),
    // A statement after a lock must see what the lock's last holder has committed.
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_deferrable", c"off"),
    // `lock_waits` limits the waits of those workers whose waits must be limited.
    (c"lock_timeout", c"0"),
];

/// Triggers fire, as they do not under `session_replication_role = replica`: those that wake workers, and those by
/// which TimescaleDB learns what a continuous aggregate lacks. Only a superuser may change this setting, so no SET
/// clause can do it for every caller.
const TRIGGERS: (&CStr, &CStr) = (c"session_replication_role", c"origin");

/// Gives the settings of this worker their values, until it ends.
pub fn fix_settings_of_worker() {
    for (name, value) in FIXED.into_iter().chain(OF_WORKERS) {
        set_for_session(name, value);
    }
    set(TRIGGERS.0, TRIGGERS.1, pg_sys::GucContext::PGC_SUSET, pg_sys::GucAction::GUC_ACTION_SET);
}

/// Lets the triggers of tables fire until the current level of settings ends.
pub fn fire_triggers() {
    if setting(TRIGGERS.0).as_deref().map(str::as_bytes) != Some(TRIGGERS.1.to_bytes()) {
        set(TRIGGERS.0, TRIGGERS.1, pg_sys::GucContext::PGC_SUSET, pg_sys::GucAction::GUC_ACTION_SAVE);
    }
}
