//! Another role's privileges for a piece of work.

use std::ffi::{CStr, c_int};

use pgrx::prelude::*;

use super::session::setting;

/// The search path of everything that the extension runs. `pg_temp` comes last: where it is not named, the
/// session's temporary tables and types come first.
pub const SEARCH_PATH: &CStr = c"pg_catalog, pg_temp";

/// Gives this session another role's privileges and a fixed search path until the value is dropped. Settings
/// that are changed meanwhile, also by a trigger's SET, get their former values then. An error that ends the
/// transaction or subtransaction restores privileges and settings as well.
pub struct RunAs {
    user: pg_sys::Oid,
    context: c_int,
    /// The level of settings that ends with this value.
    settings: c_int,
}

impl RunAs {
    /// Takes the privileges of `role` in a security-restricted operation, which allows no SET ROLE and no
    /// temporary object, and fires no deferred triggers.
    pub fn restricted(role: pg_sys::Oid) -> Self {
        let before = Self::same_role();
        let flags = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as c_int;
        // SAFETY: `role` owns a table that the guard has found, so it exists; the flags only restrict the session.
        unsafe { pg_sys::SetUserIdAndSecContext(role, before.context | flags) };
        before
    }

    /// Keeps the privileges of the session and fixes only the search path.
    pub fn same_role() -> Self {
        // SAFETY: inside a transaction; the level is ended by `drop` or with the (sub)transaction.
        let settings = unsafe { pg_sys::NewGUCNestLevel() };
        let mut before = RunAs { user: pg_sys::InvalidOid, context: 0, settings };
        // SAFETY: both pointers are to fields of `before`, which the call writes.
        unsafe { pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context) };
        if setting(c"search_path").as_deref().map(str::as_bytes) != Some(SEARCH_PATH.to_bytes()) {
            pin_search_path();
        }
        before
    }
}

/// Sets the search path until the current level of settings ends.
fn pin_search_path() {
    let (context, source) = (pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_SESSION);
    let action = pg_sys::GucAction::GUC_ACTION_SAVE;
    let (name, value) = (c"search_path".as_ptr(), SEARCH_PATH.as_ptr());
    // SAFETY: both texts are NUL-terminated, and PostgreSQL copies them.
    unsafe { pg_sys::set_config_option(name, value, context, source, action, true, 0, false) };
}

impl Drop for RunAs {
    fn drop(&mut self) {
        // SAFETY: the level was begun in the same transaction. Levels above it, which an error has left, end with it.
        unsafe { pg_sys::AtEOXact_GUC(false, self.settings) };
        // SAFETY: both values were current when this one was made, in the same transaction.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}
