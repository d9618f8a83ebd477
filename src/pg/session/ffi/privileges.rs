//! Another role's privileges for a piece of work.

use std::ffi::c_int;

use pgrx::prelude::*;

/// Gives this session another role's privileges until the value is dropped. An error that ends the
/// transaction or subtransaction restores the caller's privileges as well.
pub struct RunAs {
    user: pg_sys::Oid,
    context: c_int,
}

impl RunAs {
    /// Takes the privileges of `role` in a security-restricted operation, which allows no SET ROLE and
    /// fires no deferred triggers.
    pub fn restricted(role: pg_sys::Oid) -> Self {
        let mut before = RunAs { user: pg_sys::InvalidOid, context: 0 };
        // SAFETY: both pointers are to fields of `before`, which the call writes.
        unsafe { pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context) };
        let flags = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as c_int;
        // SAFETY: `role` owns a table that the guard has found, so it exists; the flags only restrict the session.
        unsafe { pg_sys::SetUserIdAndSecContext(role, before.context | flags) };
        before
    }
}

impl Drop for RunAs {
    fn drop(&mut self) {
        // SAFETY: both values were current when this one was made, in the same transaction.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}
