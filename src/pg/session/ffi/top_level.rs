//! A statement at the top level, in a worker: one that commits while it runs.

use std::ffi::{CStr, CString, c_long};

use pgrx::prelude::*;

use super::caught::restore_memory;
use super::sqlstates::with_sqlstates;

/// Runs a statement that commits while it runs: CALL of a procedure, CREATE INDEX CONCURRENTLY, DROP INDEX
/// CONCURRENTLY. It runs at the top level in a portal, as a client's statement does, because such a statement needs
/// that. The caller is a worker outside a transaction, and the text is one such statement. It runs with the privileges
/// of the session's role. An error unwinds to [`survive`](super::survive).
pub fn run_at_top_level(sql: &str) {
    let sql = CString::new(sql).unwrap_or_default();
    // SAFETY: the call only sets a variable of this process.
    unsafe { pg_sys::SetCurrentStatementStartTimestamp() };
    // SAFETY: the caller is outside a transaction, so one may begin.
    unsafe { pg_sys::StartTransactionCommand() };
    // What is parsed and planned must outlive the transactions of the statement, so it has a memory context
    // of its own.
    // SAFETY: TopMemoryContext lives as long as the process, and the name is a static string.
    let memory = unsafe {
        pg_sys::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"btc_ingest statement".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    };
    restore_memory(memory);
    let statement = plan(&sql);
    with_sqlstates(|| run(&sql, statement));
    // SAFETY: a transaction is open: that which the statement has begun after its last commit, or the first one.
    unsafe { pg_sys::CommitTransactionCommand() };
    // SAFETY: the portal, which used it, is dropped, and the context is not current: the commit has made
    // TopMemoryContext current.
    unsafe { pg_sys::MemoryContextDelete(memory) };
}

/// A planned statement, in the memory context that was current when it was planned.
struct Statement {
    plans: *mut pg_sys::List,
    tag: pg_sys::CommandTag::Type,
}

fn plan(sql: &CStr) -> Statement {
    // SAFETY: inside a transaction, in which a snapshot may be taken. Parse analysis needs it.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    // SAFETY: the text is NUL-terminated and outlives the plan.
    let parsed = unsafe { pg_sys::pg_parse_query(sql.as_ptr()) };
    // SAFETY: the text holds one statement, so the list has a first element, which is a RawStmt.
    let raw = unsafe { (*(*parsed).elements).ptr_value.cast::<pg_sys::RawStmt>() };
    // SAFETY: `raw` is a parsed statement, which is only read.
    let tag = unsafe { pg_sys::CreateCommandTag((*raw).stmt) };
    let none = std::ptr::null_mut();
    // SAFETY: `raw` was parsed from this text, there are no parameters, and a snapshot is active.
    let queries = unsafe { pg_sys::pg_analyze_and_rewrite_fixedparams(raw, sql.as_ptr(), std::ptr::null(), 0, none) };
    // SAFETY: the queries were analysed from this text, there are no parameters, and a snapshot is active.
    let plans = unsafe { pg_sys::pg_plan_queries(queries, sql.as_ptr(), 0, std::ptr::null_mut()) };
    // The statement runs without a snapshot of ours, or it could not commit.
    // SAFETY: the snapshot on top is the one that was pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    Statement { plans, tag }
}

fn run(sql: &CStr, statement: Statement) {
    let Statement { plans, tag } = statement;
    // SAFETY: the calls of exec_simple_query for one statement, in its order. Text and plans outlive the
    // portal, which is dropped at the end; an error drops it with the transaction.
    unsafe {
        let portal = pg_sys::CreatePortal(c"".as_ptr(), true, true);
        (*portal).visible = false;
        pg_sys::PortalDefineQuery(portal, std::ptr::null(), sql.as_ptr(), tag, plans, std::ptr::null_mut());
        pg_sys::PortalStart(portal, std::ptr::null_mut(), 0, std::ptr::null_mut());
        let nowhere = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone);
        pg_sys::PortalRun(portal, c_long::MAX, true, true, nowhere, nowhere, std::ptr::null_mut());
        pg_sys::PortalDrop(portal, false);
    }
}
