//! What must happen before somebody else's statement runs: DROP DATABASE waits five seconds for other sessions to go, and
//! would then be refused because of ours.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::prelude::*;

static mut BEFORE: pg_sys::ProcessUtility_hook_type = None;
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// From now on this process, and those that it forks, sends btc_ingest's workers away before it drops or renames their
/// database. While shared_preload_libraries is being worked off.
pub fn watch_databases() {
    if !INSTALLED.swap(true, Ordering::Relaxed) {
        // SAFETY: hooks are set by the postmaster alone, before it forks; the former one is called by ours.
        unsafe {
            BEFORE = pg_sys::ProcessUtility_hook;
            pg_sys::ProcessUtility_hook = Some(before_utility);
        }
    }
}

// The plain function: pgrx's face of it would catch every error of every statement, and hand it on without what it does not know.
unsafe extern "C-unwind" {
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        dest: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// Without a guard, for the same reason: an error of the statement passes over this frame, in which nothing needs dropping.
unsafe extern "C-unwind" fn before_utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: a planned utility statement, as PostgreSQL hands it to every hook.
    let database = unsafe { database_to_leave((*statement).utilityStmt) };
    if !database.is_null() {
        // SAFETY: NUL-terminated.
        unsafe { send_workers_away(database) };
    }
    // SAFETY: set once, before any process was forked.
    let next = unsafe { BEFORE }.unwrap_or(standard_ProcessUtility);
    // SAFETY: the hook's own arguments, handed on.
    unsafe { next(statement, text, read_only_tree, context, params, environment, dest, completion) }
}

/// The name of the database that a statement wants nobody to be in; null: none.
unsafe fn database_to_leave(node: *mut pg_sys::Node) -> *const c_char {
    // SAFETY: a node says what it is.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_DropdbStmt => (*node.cast::<pg_sys::DropdbStmt>()).dbname,
            pg_sys::NodeTag::T_RenameStmt
                if (*node.cast::<pg_sys::RenameStmt>()).renameType == pg_sys::ObjectType::OBJECT_DATABASE =>
            {
                (*node.cast::<pg_sys::RenameStmt>()).subname
            }
            _ => std::ptr::null(),
        }
    }
}

/// Ends the workers in a database, if the session's user owns it: the statement of anybody else will be refused.
#[pg_guard]
unsafe extern "C-unwind" fn send_workers_away(database: *const c_char) {
    // SAFETY: inside a transaction; a NUL-terminated name.
    let oid = unsafe { pg_sys::get_database_oid(database, true) };
    // SAFETY: an existing database's oid.
    if oid == pg_sys::InvalidOid || !unsafe { pg_sys::pg_database_ownercheck(oid, pg_sys::GetUserId()) } {
        return;
    }
    // SAFETY: forgets an earlier look at who is there, and looks anew.
    let sessions = unsafe {
        pg_sys::pgstat_clear_snapshot();
        pg_sys::pgstat_fetch_stat_numbackends()
    };
    for number in 1..=sessions {
        // SAFETY: one of the entries that were counted; null where it is gone.
        let Some(entry) = (unsafe { pg_sys::pgstat_fetch_stat_local_beentry(number).as_ref() }) else { continue };
        let session = &entry.backendStatus;
        if session.st_databaseid != oid {
            continue;
        }
        // SAFETY: looks the pid up among the background workers; null if it is none.
        let kind = unsafe { pg_sys::GetBackgroundWorkerTypeByPid(session.st_procpid) };
        // SAFETY: NUL-terminated where it is not null.
        if !kind.is_null() && unsafe { CStr::from_ptr(kind) }.to_bytes().starts_with(b"btc_ingest") {
            // SAFETY: a signal to a worker of this library.
            unsafe { libc::kill(session.st_procpid, libc::SIGTERM) };
        }
    }
    // SAFETY: as above.
    unsafe { pg_sys::pgstat_clear_snapshot() };
}
