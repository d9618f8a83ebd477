//! Another role's privileges for a piece of work.

use std::ffi::c_int;

use pgrx::prelude::*;

/// Another role's rights, until dropped. An error that leaves the (sub)transaction restores the caller's as well.
pub struct RunAs {
    user: pg_sys::Oid,
    context: c_int,
}

impl RunAs {
    /// Takes the rights of `role`, as a security-restricted operation: no SET ROLE, no deferred triggers.
    pub fn restricted(role: pg_sys::Oid) -> Self {
        let mut before = RunAs { user: pg_sys::InvalidOid, context: 0 };
        // SAFETY: both pointers are to live fields.
        unsafe { pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context) };
        let flags = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as c_int;
        // SAFETY: `role` is an existing role's oid, read from pg_class in this transaction.
        unsafe { pg_sys::SetUserIdAndSecContext(role, before.context | flags) };
        before
    }
}

impl Drop for RunAs {
    fn drop(&mut self) {
        // SAFETY: what GetUserIdAndSecContext returned in this transaction.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}
