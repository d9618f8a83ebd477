//! Another role's privileges for a piece of work.

use std::ffi::c_int;

use pgrx::prelude::*;

use super::fixed::{SEARCH_PATH, fire_triggers};
use super::session::{set, setting};

/// Gives this session another role's privileges and a fixed search path, and lets triggers fire, until the value is
/// dropped. Settings that are changed meanwhile, also by a trigger's SET, get their former values then. An error that
/// ends the transaction or subtransaction restores privileges and settings as well.
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

    /// Keeps the privileges of the session, fixes the search path, and lets triggers fire.
    pub fn same_role() -> Self {
        // SAFETY: inside a transaction; the level is ended by `drop` or with the (sub)transaction.
        let settings = unsafe { pg_sys::NewGUCNestLevel() };
        let mut before = RunAs { user: pg_sys::InvalidOid, context: 0, settings };
        // SAFETY: both pointers are to fields of `before`, which the call writes.
        unsafe { pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context) };
        if setting(c"search_path").as_deref().map(str::as_bytes) != Some(SEARCH_PATH.to_bytes()) {
            let (user, save) = (pg_sys::GucContext::PGC_USERSET, pg_sys::GucAction::GUC_ACTION_SAVE);
            set(c"search_path", SEARCH_PATH, user, save);
        }
        fire_triggers();
        before
    }
}

impl Drop for RunAs {
    fn drop(&mut self) {
        // SAFETY: the level was begun in the same transaction. Levels above it, which an error has left, end with it.
        unsafe { pg_sys::AtEOXact_GUC(false, self.settings) };
        // SAFETY: both values were current when this one was made, in the same transaction.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}
