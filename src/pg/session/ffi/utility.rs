//! A hook before utility statements: a statement that drops, renames, copies or moves a database waits five seconds
//! for other sessions in it to end and fails if any is left, so our workers must end first. They come back afterwards:
//! the launcher waits for the statement's lock on the database.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::prelude::*;

static mut BEFORE: pg_sys::ProcessUtility_hook_type = None;
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Installs the hook in this process and in those that it forks: it ends btc_ingest's workers in a database
/// before a statement that needs the database without other sessions. Called while the postmaster loads
/// shared_preload_libraries.
pub fn watch_databases() {
    if !INSTALLED.swap(true, Ordering::Relaxed) {
        // SAFETY: the postmaster alone sets hooks, before it forks, and on one thread. Our hook calls the
        // former one.
        unsafe {
            BEFORE = pg_sys::ProcessUtility_hook;
            pg_sys::ProcessUtility_hook = Some(before_utility);
        }
    }
}

// Without pgrx's guard, which would catch the error of every statement, and raise it again without the
// fields that pgrx does not know.
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

/// Ends the workers if the statement needs it, and runs the statement. It has no guard, for the same
/// reason: an error of the statement passes over this frame, in which no value needs dropping.
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
    // SAFETY: PostgreSQL passes a valid planned statement to every hook, and utilityStmt is not null in it.
    let (database, lock) = unsafe { database_to_leave((*statement).utilityStmt) };
    if !database.is_null() {
        // SAFETY: the name is NUL-terminated and lives as long as the statement.
        unsafe { end_workers(database, lock) };
    }
    // SAFETY: the variable was set once, before this process was forked, and does not change.
    let next = unsafe { BEFORE }.unwrap_or(standard_ProcessUtility);
    // SAFETY: these are the hook's own arguments, which the next hook may rely on as this one does.
    unsafe { next(statement, text, read_only_tree, context, params, environment, dest, completion) }
}

/// Returns the name of the database that a statement drops, renames, copies or moves, and the mode in which it locks
/// the database. Returns null if it does none of these.
unsafe fn database_to_leave(node: *mut pg_sys::Node) -> (*const c_char, pg_sys::LOCKMODE) {
    // SAFETY: the caller passes a valid node, whose tag says which structure it is.
    let (name, lock) = unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_DropdbStmt => {
                ((*node.cast::<pg_sys::DropdbStmt>()).dbname.cast_const(), pg_sys::AccessExclusiveLock)
            }
            pg_sys::NodeTag::T_RenameStmt
                if (*node.cast::<pg_sys::RenameStmt>()).renameType == pg_sys::ObjectType::OBJECT_DATABASE =>
            {
                ((*node.cast::<pg_sys::RenameStmt>()).subname.cast_const(), pg_sys::AccessExclusiveLock)
            }
            pg_sys::NodeTag::T_CreatedbStmt => {
                (text_of((*node.cast::<pg_sys::CreatedbStmt>()).options, c"template"), pg_sys::ShareLock)
            }
            pg_sys::NodeTag::T_AlterDatabaseStmt => {
                let statement = node.cast::<pg_sys::AlterDatabaseStmt>();
                let moves = !text_of((*statement).options, c"tablespace").is_null();
                (if moves { (*statement).dbname.cast_const() } else { std::ptr::null() }, pg_sys::AccessExclusiveLock)
            }
            _ => (std::ptr::null(), pg_sys::NoLock),
        }
    };
    (name, lock as pg_sys::LOCKMODE)
}

/// Returns the text of an option of a statement. Returns null if there is no such option, or if it is no text.
unsafe fn text_of(options: *mut pg_sys::List, name: &CStr) -> *const c_char {
    // SAFETY: the caller passes the options of a valid statement, each of which is a DefElem; a null list has none.
    let count = if options.is_null() { 0 } else { unsafe { (*options).length } };
    for number in 0..count as usize {
        // SAFETY: the number is below the list's length, and every element points to a DefElem.
        let option = unsafe { (*(*options).elements.add(number)).ptr_value.cast::<pg_sys::DefElem>() };
        // SAFETY: the option is valid, and its name is NUL-terminated. A value that is no null pointer is a node.
        let (found, value) = unsafe { (CStr::from_ptr((*option).defname) == name, (*option).arg) };
        // SAFETY: the value is not null, and its tag says that it is a text.
        if found && !value.is_null() && unsafe { (*value).type_ } == pg_sys::NodeTag::T_String {
            // SAFETY: as above.
            return unsafe { (*value.cast::<pg_sys::String>()).sval };
        }
    }
    std::ptr::null()
}

/// Ends the workers in a database, if the session's role owns it: the statement of another role is refused later.
///
/// It takes the statement's own lock first. A process that begins takes a lock on its database that conflicts with it,
/// and keeps it until the statistics show the process. So none is missed, and none begins before the statement ends,
/// also none of TimescaleDB's, whose scheduler is started again at once.
#[pg_guard]
unsafe extern "C-unwind" fn end_workers(database: *const c_char, lock: pg_sys::LOCKMODE) {
    // SAFETY: a utility statement runs inside a transaction, and the caller's name is NUL-terminated.
    let oid = unsafe { pg_sys::get_database_oid(database, true) };
    // SAFETY: GetUserId only reads a variable, and the oid is of a database that exists in this snapshot.
    if oid == pg_sys::InvalidOid || !unsafe { pg_sys::pg_database_ownercheck(oid, pg_sys::GetUserId()) } {
        return;
    }
    // SAFETY: inside a transaction, which holds the lock until it ends.
    unsafe { pg_sys::LockSharedObject(pg_sys::DatabaseRelationId, oid, 0, lock) };
    // SAFETY: the call frees the session's own copy of the statistics, of which no pointer is held here.
    unsafe { pg_sys::pgstat_clear_snapshot() };
    // SAFETY: the call makes a new copy, inside a transaction, and counts its entries.
    let sessions = unsafe { pg_sys::pgstat_fetch_stat_numbackends() };
    for number in 1..=sessions {
        // SAFETY: the number is one of those that were counted. The entry is in the session's own copy,
        // which is kept until it is cleared below.
        let Some(entry) = (unsafe { pg_sys::pgstat_fetch_stat_local_beentry(number).as_ref() }) else { continue };
        let session = &entry.backendStatus;
        if session.st_databaseid != oid {
            continue;
        }
        // SAFETY: this process is attached to shared memory, and the pid may be any number: null if it is
        // no worker's.
        let kind = unsafe { pg_sys::GetBackgroundWorkerTypeByPid(session.st_procpid) };
        // SAFETY: the pointer is not null, and the call returns NUL-terminated text.
        if !kind.is_null() && unsafe { CStr::from_ptr(kind) }.to_bytes().starts_with(b"btc_ingest") {
            // SAFETY: SIGTERM ends one of this library's workers in order; the pid was looked up just before.
            unsafe { libc::kill(session.st_procpid, libc::SIGTERM) };
        }
    }
    // SAFETY: the loop has ended, so no reference into the session's copy is left.
    unsafe { pg_sys::pgstat_clear_snapshot() };
}
