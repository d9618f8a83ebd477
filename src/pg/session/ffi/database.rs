//! Databases by name, for a process that may be connected to none.

use std::ffi::CStr;

use pgrx::prelude::*;

/// Returns the oid of a database, after waiting for sessions that drop or rename it. Returns `None` if
/// there is none of this name.
pub fn settled_database(name: &str) -> Option<pg_sys::Oid> {
    let oid = find_database(name)?;
    // The lock that every session takes when it connects. DROP DATABASE holds a lock that excludes it.
    // SAFETY: inside a transaction, which releases the lock; an oid of a dropped database may be locked, too.
    unsafe {
        pg_sys::LockSharedObject(pg_sys::DatabaseRelationId, oid, 0, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
    }
    // SAFETY: inside a transaction, as the call needs one to rebuild what it invalidates.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    find_database(name).filter(|again| *again == oid)
}

/// Returns the oid of a database. Scans pg_database, because a process that is connected to no database
/// cannot always use its indexes.
fn find_database(name: &str) -> Option<pg_sys::Oid> {
    // SAFETY: inside a transaction; pg_database is a shared catalog, which every process may open.
    let table = unsafe { pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    // SAFETY: `table` is open. A null snapshot stands for the newest one, and there are no keys.
    let scan = unsafe {
        pg_sys::systable_beginscan(table, pg_sys::InvalidOid, false, std::ptr::null_mut(), 0, std::ptr::null_mut())
    };
    let mut found = None;
    loop {
        // SAFETY: the scan was begun above and has not ended.
        let tuple = unsafe { pg_sys::systable_getnext(scan) };
        if tuple.is_null() {
            break;
        }
        // SAFETY: the tuple is one of pg_database, whose fixed part is this structure, and stays valid
        // until the next call.
        let database = unsafe { &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>() };
        // SAFETY: PostgreSQL ends a value of type name with a NUL.
        if unsafe { CStr::from_ptr(database.datname.data.as_ptr()) }.to_bytes() == name.as_bytes() {
            found = Some(database.oid);
        }
    }
    // SAFETY: the scan was begun above and is not used again.
    unsafe { pg_sys::systable_endscan(scan) };
    // SAFETY: the table was opened above with the same lock and is not used again.
    unsafe { pg_sys::table_close(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    found
}
