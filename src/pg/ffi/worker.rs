//! A background worker's process: how it becomes one, its transactions, its waits.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_int, c_long, c_void};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::set_for_session;
use super::subtransaction::{Failure, failure, restore_memory};

// pgrx wraps these into functions that no signal may call.
unsafe extern "C-unwind" {
    fn die(signal: c_int);
    fn StatementCancelHandler(signal: c_int);
    fn SignalHandlerForConfigReload(signal: c_int);
}

/// Whether shared_preload_libraries is being worked off: only then may a worker be registered for good.
pub fn is_preloading() -> bool {
    // SAFETY: a flag of the postmaster.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Whether pg_upgrade has started this server: nothing may happen in it that pg_upgrade does not do.
pub fn is_upgrading() -> bool {
    // SAFETY: a flag of the postmaster's command line.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Which database a worker is to work in.
#[derive(Debug, Clone, Copy)]
pub enum Database {
    /// None: it sees the catalogs that all databases share, and keeps nobody from dropping any.
    None,
    /// By its oid, which survives a renaming.
    Oid(pg_sys::Oid),
}

/// The database of this session.
pub fn current_database() -> pg_sys::Oid {
    // SAFETY: set when the session began.
    unsafe { pg_sys::MyDatabaseId }
}

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

/// Has `work` run when this process ends in whatever orderly way; the last one first. It may not run statements: FATAL errors
/// leave other extensions' hooks as they were, and the next statement that TimescaleDB plans after one in a planner crashes.
pub fn at_exit(work: fn()) {
    EXIT.with_borrow_mut(|works| works.push(work));
    // SAFETY: the callback is a guarded C function that lives as long as the process.
    unsafe { pg_sys::before_shmem_exit(Some(run_at_exit), pg_sys::Datum::from(0)) }
}

thread_local! {
    static EXIT: RefCell<Vec<fn()>> = const { RefCell::new(Vec::new()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn run_at_exit(_code: c_int, _arg: pg_sys::Datum) {
    if let Some(work) = EXIT.with_borrow_mut(Vec::pop) {
        // SAFETY: no transaction survives the process; PostgreSQL's own exit callbacks do the same.
        unsafe { pg_sys::AbortOutOfAnyTransaction() };
        work();
    }
}

/// Makes this process a worker in `database` with the rights of the cluster's owner. SIGTERM ends it wherever it answers
/// interrupts, as it ends a client's backend; pgrx's own handlers set a flag that no wait of PostgreSQL looks at.
pub fn become_worker(database: Database) {
    let handlers: [(c_int, unsafe extern "C-unwind" fn(c_int)); 3] =
        [(libc::SIGTERM, die), (libc::SIGINT, StatementCancelHandler), (libc::SIGHUP, SignalHandlerForConfigReload)];
    for (signal, handler) in handlers {
        // SAFETY: PostgreSQL's own handler for this signal.
        unsafe { pg_sys::pqsignal(signal, Some(handler)) };
    }
    // SAFETY: in a background worker's main function, before anything else.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() };
    match database {
        // SAFETY: as above; no user means the bootstrap superuser.
        Database::Oid(oid) => unsafe { pg_sys::BackgroundWorkerInitializeConnectionByOid(oid, pg_sys::InvalidOid, 0) },
        Database::None => {
            // SAFETY: as above.
            unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) }
            return;
        }
    }
    set_for_session(c"search_path", c"pg_catalog, pg_temp");
    set_for_session(c"jit", c"off");
}

/// SIGTERM has come to a process that called [`end_in_order`].
static ENDING: AtomicBool = AtomicBool::new(false);
/// It knows, and is at its last work.
static NOTICED: AtomicBool = AtomicBool::new(false);

/// From now on SIGTERM ends the running statement with an error, not the process in the middle of it: whoever calls this looks
/// at [`is_ending`] wherever it catches errors or waits, does its last work, and calls [`end_if_asked`].
pub fn end_in_order() {
    // SAFETY: a handler that does what PostgreSQL's own does, and sets a flag.
    unsafe { pg_sys::pqsignal(libc::SIGTERM, Some(cancel_to_end)) };
    // SAFETY: the callback is a guarded C function that lives as long as the process.
    unsafe { pg_sys::RegisterXactCallback(Some(cancel_again), std::ptr::null_mut()) };
}

/// A commit that waits for a standby answers a cancel by not waiting any more, and goes on: the next one would wait again.
#[pg_guard]
unsafe extern "C-unwind" fn cancel_again(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    if event == pg_sys::XactEvent::XACT_EVENT_COMMIT && ENDING.load(Ordering::SeqCst) && !NOTICED.load(Ordering::SeqCst)
    {
        // SAFETY: flags of this process, as the signal's handler sets them; they are answered after the commit.
        unsafe {
            pg_sys::QueryCancelPending = 1;
            pg_sys::InterruptPending = 1;
        }
    }
}

// Not guarded: a signal's handler may neither allocate nor unwind.
unsafe extern "C-unwind" fn cancel_to_end(signal: c_int) {
    ENDING.store(true, Ordering::SeqCst);
    if !NOTICED.load(Ordering::SeqCst) {
        // SAFETY: PostgreSQL's own handler of SIGINT.
        unsafe { StatementCancelHandler(signal) };
    }
}

/// Whether this process is to end. What it does from now on is not interrupted.
pub fn is_ending() -> bool {
    let ending = ENDING.load(Ordering::SeqCst);
    if ending {
        NOTICED.store(true, Ordering::SeqCst);
        // SAFETY: a flag of this process, whose handler sets it no more.
        unsafe { pg_sys::QueryCancelPending = 0 };
    }
    ending
}

/// Ends the process as SIGTERM asked for, with PostgreSQL's own words; the last call of a worker.
pub fn end_if_asked() {
    if is_ending() {
        // SAFETY: flags of this process, which the next line answers.
        unsafe {
            pg_sys::ProcDiePending = 1;
            pg_sys::InterruptPending = 1;
        }
        pgrx::check_for_interrupts!();
    }
}

/// Runs `work` in a transaction of its own; an error ends the worker, and the postmaster starts it again.
pub fn transaction<T>(work: impl FnOnce() -> T) -> T {
    let result = BackgroundWorker::transaction(AssertUnwindSafe(work));
    // SAFETY: outside a transaction; sends this worker's counters, which autovacuum goes by.
    unsafe { pg_sys::pgstat_report_stat(false) };
    result
}

/// Runs a part of a worker's loop. An error ends its transaction and comes back as a value; the worker goes on.
pub fn survive<T>(work: impl FnOnce() -> T) -> std::result::Result<T, Failure> {
    // SAFETY: reads a global of this process.
    let memory = unsafe { pg_sys::CurrentMemoryContext };
    let abort = move |error: CaughtError| {
        // SAFETY: outside of any other error; ends whatever transaction there is, and with it all that it holds.
        unsafe { pg_sys::AbortCurrentTransaction() };
        restore_memory(memory);
        Err(failure(error))
    };
    PgTryBuilder::new(AssertUnwindSafe(|| Ok(work()))).catch_others(abort).catch_rust_panic(abort).execute()
}

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

/// What pg_stat_activity shows as this worker's query; nothing: it is idle.
pub fn show_activity(text: Option<&str>) {
    let state = match text {
        Some(_) => pg_sys::BackendState::STATE_RUNNING,
        None => pg_sys::BackendState::STATE_IDLE,
    };
    let text = text.and_then(|text| CString::new(text).ok()).unwrap_or_default();
    // SAFETY: copies a NUL-terminated string.
    unsafe { pg_sys::pgstat_report_activity(state, text.as_ptr()) };
}

/// Waits at most so long, or until the latch is set or the process is to end; answers interrupts and reads changed settings.
pub fn idle(limit: std::time::Duration) {
    let events = (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int;
    if is_ending() {
        return;
    }
    // SAFETY: MyLatch is this process's latch.
    unsafe { pg_sys::WaitLatch(pg_sys::MyLatch, events, limit.as_millis() as _, pg_sys::PG_WAIT_EXTENSION) };
    // SAFETY: as above.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    if !is_ending() {
        pgrx::check_for_interrupts!();
        reload_settings();
    }
}

/// Reads the configuration anew if the postmaster was told to. Outside a transaction.
pub fn reload_settings() {
    // SAFETY: a flag that only the signal's handler sets.
    if unsafe { pg_sys::ConfigReloadPending } != 0 {
        // SAFETY: as above.
        unsafe { pg_sys::ConfigReloadPending = 0 };
        // SAFETY: outside a transaction, as PostgreSQL's own workers do.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
    }
}
