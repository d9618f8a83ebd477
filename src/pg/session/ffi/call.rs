//! CALL of a procedure that commits, from a worker.

use std::ffi::{CString, c_long};

use pgrx::prelude::*;

use super::caught::restore_memory;

/// CALLs a procedure that commits as it goes: as a client's statement, in a portal, because whatever commits needs one.
/// Outside a transaction, in a worker; the text is ours. An error unwinds to [`survive`].
pub fn call(sql: &str) {
    let sql = CString::new(sql).unwrap_or_default();
    // SAFETY: outside a transaction; begins one.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
    }
    // SAFETY: parsed and planned text must outlive the transactions of the procedure, so it has a context of its own.
    let memory = unsafe {
        pg_sys::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"btc_ingest call".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    };
    restore_memory(memory);
    // SAFETY: a snapshot for parse analysis, gone before the procedure runs.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    // SAFETY: one statement, so that the list has one element; all of it in `memory`.
    let (plans, tag) = unsafe {
        let parsed = pg_sys::pg_parse_query(sql.as_ptr());
        let statement = (*(*parsed).elements).ptr_value.cast::<pg_sys::RawStmt>();
        let tag = pg_sys::CreateCommandTag((*statement).stmt);
        let queries = pg_sys::pg_analyze_and_rewrite_fixedparams(
            statement,
            sql.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        );
        (pg_sys::pg_plan_queries(queries, sql.as_ptr(), 0, std::ptr::null_mut()), tag)
    };
    // SAFETY: pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    // SAFETY: a portal as for a simple query; its statement outlives it.
    unsafe {
        let portal = pg_sys::CreatePortal(c"".as_ptr(), true, true);
        (*portal).visible = false;
        pg_sys::PortalDefineQuery(portal, std::ptr::null(), sql.as_ptr(), tag, plans, std::ptr::null_mut());
        pg_sys::PortalStart(portal, std::ptr::null_mut(), 0, std::ptr::null_mut());
        let nowhere = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone);
        pg_sys::PortalRun(portal, c_long::MAX, true, true, nowhere, nowhere, std::ptr::null_mut());
        pg_sys::PortalDrop(portal, false);
    }
    // SAFETY: the transaction that the procedure's last COMMIT has begun.
    unsafe { pg_sys::CommitTransactionCommand() };
    // SAFETY: nothing of it is in use any more, and it is not current: the commit has left TopMemoryContext.
    unsafe { pg_sys::MemoryContextDelete(memory) };
}
