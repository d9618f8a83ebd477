//! Databases by name, for a process that may have none of its own.

use std::ffi::CStr;

use pgrx::prelude::*;

/// The oid of a database, once nobody is about to drop or rename it. In a transaction.
pub fn settled_database(name: &str) -> Option<pg_sys::Oid> {
    let oid = find_database(name)?;
    // SAFETY: the lock that every session takes when it begins, until the end of the transaction. DROP DATABASE holds one
    // that excludes it.
    unsafe {
        pg_sys::LockSharedObject(pg_sys::DatabaseRelationId, oid, 0, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        pg_sys::AcceptInvalidationMessages();
    }
    find_database(name).filter(|again| *again == oid)
}

/// The oid of a database. By a scan of the table, because a process without a database cannot always use its indexes.
fn find_database(name: &str) -> Option<pg_sys::Oid> {
    // SAFETY: inside a transaction; closed below.
    let table = unsafe { pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    // SAFETY: an open catalog, the newest snapshot of it, no keys.
    let scan = unsafe {
        pg_sys::systable_beginscan(table, pg_sys::InvalidOid, false, std::ptr::null_mut(), 0, std::ptr::null_mut())
    };
    let mut found = None;
    loop {
        // SAFETY: the scan begun above.
        let tuple = unsafe { pg_sys::systable_getnext(scan) };
        if tuple.is_null() {
            break;
        }
        // SAFETY: a tuple of pg_database, whose fixed part is this structure.
        let database = unsafe { &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>() };
        // SAFETY: a name ends with a NUL.
        if unsafe { CStr::from_ptr(database.datname.data.as_ptr()) }.to_bytes() == name.as_bytes() {
            found = Some(database.oid);
        }
    }
    // SAFETY: opened above.
    unsafe {
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
    }
    found
}
