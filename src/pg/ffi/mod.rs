//! The one room with `unsafe` in it: PostgreSQL's C API where pgrx has no safe face for it, and the signal mask.
//!
//! Everything here may only be called on the backend's own thread, inside a transaction unless said otherwise; pgrx
//! checks the thread in every call that reaches PostgreSQL.

#![allow(unsafe_code)]

mod append;
mod locks;
mod shared;
mod subtransaction;
mod utility;
mod worker;

use std::collections::HashSet;
use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::load::background::{Background, Events, Stopper};
use crate::s3::object::Reads;
use crate::tuple::{COLUMNS, Tuples};

pub use append::{Appended, append};
pub use locks::{
    at_abort, lock_for_writing, lock_in_transaction, lock_key, release_session_lock, release_session_lock_at_commit,
    try_lock_in_transaction,
};
pub use shared::{is_alive, my_pid, request_shared_memory, set_latch, shared, shared_mut};
pub use subtransaction::{Failure, attempt, unless_unique_violation};
pub use utility::watch_databases;
pub use worker::{
    Database, at_exit, become_worker, call, current_database, end_if_asked, end_in_order, idle, is_ending,
    is_preloading, is_upgrading, reload_settings, settled_database, show_activity, survive, transaction,
};

// `tuple` writes MinimalTuples by hand: its layout must be this PostgreSQL's, or the crate must not build.
const _: () = {
    assert!(cfg!(target_endian = "little") && size_of::<usize>() == 8);
    assert!(std::mem::offset_of!(pg_sys::MinimalTupleData, t_infomask2) == 10);
    assert!(std::mem::offset_of!(pg_sys::MinimalTupleData, t_infomask) == 12);
    assert!(std::mem::offset_of!(pg_sys::MinimalTupleData, t_hoff) == 14);
    assert!(std::mem::offset_of!(pg_sys::MinimalTupleData, t_bits) == 15);
};

/// Keeps others from defining settings under our prefix, and drops misspelt ones.
pub fn reserve_prefix(prefix: &'static CStr) {
    // SAFETY: a valid C string; called from _PG_init.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) }
}

// ── Threads and waits ───────────────────────────────────────────────────────────────────────────────────────────────

/// The threads that run, for the exit callback: a FATAL error does not unwind, so no destructor would stop them. More than
/// one where an owner's trigger loads within a load.
static RUNNING: Mutex<Vec<Stopper>> = Mutex::new(Vec::new());
static REGISTER: Once = Once::new();
/// Bytes from which an allocation is given back to the system when it is freed: the value that glibc itself starts with.
const MAPPED_FROM: c_int = 128 << 10;

/// A [`Background`] thread that also ends when the backend exits.
pub struct Thread<E> {
    background: Background<E>,
    stopper: Stopper,
}

impl<E: Send + 'static> Thread<E> {
    /// Starts `work` with every signal blocked, as PostgreSQL's handlers must run on its own thread only.
    pub fn start(depth: usize, work: impl FnOnce(&Reads, &Events<E>) -> Result<()> + Send + 'static) -> Result<Self> {
        REGISTER.call_once(|| {
            // glibc raises the size from which it maps memory separately whenever a large piece is freed; after that
            // freed windows and batches stay in the heap, half a memory limit of them. A fixed size gives them back.
            // SAFETY: sets one parameter of the allocator.
            unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM) };
            // SAFETY: the callback is a guarded C function that lives as long as the process.
            unsafe { pg_sys::before_shmem_exit(Some(stop_at_exit), pg_sys::Datum::from(0)) }
        });
        let background = with_signals_blocked(|| Background::start(depth, work))?;
        let stopper = background.stopper();
        running().push(stopper.clone());
        Ok(Thread { background, stopper })
    }

    /// Waits for the next event; answers cancel, timeout and shutdown meanwhile. `None`: the thread has ended.
    pub fn next(&mut self) -> Result<Option<E>> {
        loop {
            if let Some(event) = self.background.poll() {
                return event;
            }
            wait_readable(self.background.wake_fd(), None);
        }
    }

    /// The same, but waits at most until then; `None`: nothing has come.
    pub fn next_until(&mut self, end: Instant) -> Option<Result<Option<E>>> {
        loop {
            if let Some(event) = self.background.poll() {
                return Some(event);
            }
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            wait_readable(self.background.wake_fd(), Some(left));
        }
    }
}

impl<E> Drop for Thread<E> {
    fn drop(&mut self) {
        running().retain(|stopper| !stopper.is(&self.stopper));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn stop_at_exit(_code: c_int, _arg: pg_sys::Datum) {
    for stopper in running().drain(..) {
        stopper.stop();
    }
}

fn running() -> MutexGuard<'static, Vec<Stopper>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises the set it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was initialised above, `before` is written by the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let result = work();
    // SAFETY: `before` was written by the call above, on this same thread.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    result
}

/// Returns when `fd` may be readable, or so much time has passed; raises PostgreSQL's own error on an interrupt.
fn wait_readable(fd: RawFd, limit: Option<Duration>) {
    let mut events = (pg_sys::WL_LATCH_SET | pg_sys::WL_SOCKET_READABLE | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int;
    let mut ms = -1;
    if let Some(limit) = limit {
        events |= pg_sys::WL_TIMEOUT as c_int;
        // Rounded up, or the last millisecond would be spent turning.
        ms = limit.as_millis() as c_long + 1;
    }
    // SAFETY: MyLatch is this backend's latch; the descriptor belongs to a live `Background`.
    let happened = unsafe { pg_sys::WaitLatchOrSocket(pg_sys::MyLatch, events, fd, ms, pg_sys::PG_WAIT_EXTENSION) };
    if happened & pg_sys::WL_LATCH_SET as c_int != 0 {
        // SAFETY: as above.
        unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    }
    pgrx::check_for_interrupts!();
}

/// Does something that PostgreSQL would end if an interrupt were pending, and leaves that to whoever looks next. Reports of
/// less than an error look for interrupts, and pgrx makes them without a guard: the error would pass over all frames of
/// ours, and over a subtransaction that one of them ends.
pub fn uninterrupted(work: impl FnOnce()) {
    // SAFETY: a counter of this process. An error, which may leave `work`, sets it to zero.
    unsafe { pg_sys::InterruptHoldoffCount += 1 };
    work();
    // SAFETY: as above.
    unsafe { pg_sys::InterruptHoldoffCount -= 1 };
}

// ── The session ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// Whether the session is inside BEGIN … COMMIT.
pub fn in_transaction_block() -> bool {
    // SAFETY: reads the state of the current transaction.
    unsafe { pg_sys::IsTransactionBlock() }
}

/// Whether the transaction may write nothing.
pub fn is_read_only() -> bool {
    // SAFETY: reads the state of the current transaction.
    unsafe { pg_sys::XactReadOnly }
}

/// A setting as SHOW gives it; `None`: there is none of this name.
pub fn setting(name: &CStr) -> Option<String> {
    // SAFETY: a NUL-terminated name; the answer is PostgreSQL's and copied at once.
    let value = unsafe { pg_sys::GetConfigOption(name.as_ptr(), true, false) };
    // SAFETY: not null, and NUL-terminated.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
}

/// SET LOCAL of a setting that everybody may change.
pub fn set_local(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_LOCAL);
}

/// SET of a setting that everybody may change. Outside a transaction as well.
pub fn set_for_session(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_SET);
}

fn set(name: &CStr, value: &CStr, action: pg_sys::GucAction::Type) {
    let (who, whence) = (pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_SESSION);
    // SAFETY: NUL-terminated texts, which are copied.
    unsafe { pg_sys::set_config_option(name.as_ptr(), value.as_ptr(), who, whence, action, true, 0, false) };
}

/// Bytes of a table's main fork.
pub fn table_size(table: pg_sys::Oid) -> u64 {
    // SAFETY: an existing table's oid; closed and unlocked at once.
    let blocks = unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        blocks
    };
    u64::from(blocks) * u64::from(pg_sys::BLCKSZ)
}

/// Whether this server is a standby, or still recovers.
pub fn in_recovery() -> bool {
    // SAFETY: reads a flag in shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// What `now()` is in this transaction: microseconds since 2000.
pub fn transaction_time() -> i64 {
    // SAFETY: reads the state of the current transaction.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// What time it is: microseconds since 2000.
pub fn now() -> i64 {
    // SAFETY: asks the system's clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Bytes of a disk, without what only root may use.
#[derive(Debug, Clone, Copy)]
pub struct Disk {
    /// To be written.
    pub free: u64,
    /// Written.
    pub used: u64,
}

/// The disk that holds `path`.
pub fn disk(path: &CStr) -> Option<Disk> {
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: a NUL-terminated path; the structure is written by the call.
    let code = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    // SAFETY: written when the call returned zero.
    let found = (code == 0).then(|| unsafe { found.assume_init() })?;
    let bytes = |blocks: u64| blocks * found.f_frsize;
    Some(Disk { free: bytes(found.f_bavail), used: bytes(found.f_blocks - found.f_bfree) })
}

// ── Catalogs ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// How often this process was told of a change.
static CHANGES: AtomicU64 = AtomicU64::new(0);
static WATCH: Once = Once::new();

/// A number that changes whenever PostgreSQL invalidates what this process knows of any relation, function, role, schema, type,
/// operator or constraint: after another session's commit as well as within this transaction. TimescaleDB invalidates a
/// relation when it changes what it knows of a hypertable, a dimension, a continuous aggregate or an existing chunk. Ask before reading what is to be remembered, and again before using it.
pub fn catalog_version() -> u64 {
    WATCH.call_once(|| {
        // SAFETY: the callback lives as long as the process.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0)) };
        for cache in [
            pg_sys::SysCacheIdentifier::PROCOID,
            pg_sys::SysCacheIdentifier::AUTHOID,
            pg_sys::SysCacheIdentifier::NAMESPACEOID,
            pg_sys::SysCacheIdentifier::TYPEOID,
            pg_sys::SysCacheIdentifier::OPEROID,
            pg_sys::SysCacheIdentifier::CONSTROID,
        ] {
            // SAFETY: as above; an existing cache.
            unsafe {
                pg_sys::CacheRegisterSyscacheCallback(cache as c_int, Some(object_changed), pg_sys::Datum::from(0))
            };
        }
    });
    CHANGES.load(Ordering::Relaxed)
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, _relation: pg_sys::Oid) {
    CHANGES.fetch_add(1, Ordering::Relaxed);
}

#[pg_guard]
unsafe extern "C-unwind" fn object_changed(_arg: pg_sys::Datum, _cache: c_int, _hash: u32) {
    CHANGES.fetch_add(1, Ordering::Relaxed);
}

// ── Rights ──────────────────────────────────────────────────────────────────────────────────────────────────────────

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

// ── Batches as a relation ───────────────────────────────────────────────────────────────────────────────────────────

/// The name under which statements read a [`TickStore`].
const RELATION: &CStr = c"incoming_ticks";

/// A batch of encoded ticks that the statements of the current SPI connection read as `incoming_ticks`: an ephemeral named
/// relation, as triggers' transition tables are. It needs no function, no table and no right.
pub struct TickStore {
    store: *mut pg_sys::Tuplestorestate,
}

impl TickStore {
    /// Hands over all tuples but those in `skip`. Inside an SPI connection that outlives the value.
    pub fn register(tuples: &Tuples, skip: &HashSet<usize>, symbol_collation: pg_sys::Oid) -> Result<TickStore> {
        let descriptor = descriptor(symbol_collation)?;
        let kilobytes = (tuples.size() / 512).clamp(1024, i32::MAX as usize) as c_int;
        // SAFETY: memory comes from the current context, which is the SPI connection's; freed in `drop`.
        let store = unsafe { pg_sys::tuplestore_begin_heap(false, false, kilobytes) };
        let this = TickStore { store };
        // SAFETY: the descriptor is complete; the slot is dropped below.
        let slot = unsafe { pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsMinimalTuple) };
        for index in (0..tuples.len()).filter(|index| !skip.contains(index)) {
            let tuple = tuples.words(index).as_ptr() as pg_sys::MinimalTuple;
            // SAFETY: an aligned, complete MinimalTuple of this descriptor (see `tuple`); the slot neither frees nor
            // writes it, and the store copies it before the next one takes its place.
            unsafe { pg_sys::ExecStoreMinimalTuple(tuple, slot, false) };
            // SAFETY: both were made above.
            unsafe { pg_sys::tuplestore_puttupleslot(store, slot) };
        }
        // SAFETY: made above and not used again.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(slot) };

        // SAFETY: palloc0 returns zeroed memory of the size of the struct, in the SPI connection's context.
        let relation = unsafe { pg_sys::palloc0(size_of::<pg_sys::EphemeralNamedRelationData>()) }
            .cast::<pg_sys::EphemeralNamedRelationData>();
        // SAFETY: `relation` is valid and exclusively ours; the name is static, descriptor and store outlive it.
        unsafe {
            (*relation).md.name = RELATION.as_ptr().cast_mut();
            (*relation).md.tupdesc = descriptor;
            (*relation).md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
            (*relation).md.enrtuples = (tuples.len() - skip.len().min(tuples.len())) as f64;
            (*relation).reldata = store.cast();
        }
        // SAFETY: a complete relation, inside an SPI connection.
        let code = unsafe { pg_sys::SPI_register_relation(relation) };
        if code != pg_sys::SPI_OK_REL_REGISTER as c_int {
            return Err(Error::Internal { why: format!("SPI_register_relation returned {code}") });
        }
        Ok(this)
    }
}

impl Drop for TickStore {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // An error is on its way up: the transaction's end frees both, and calling PostgreSQL now could raise again.
            return;
        }
        // SAFETY: registered above in this SPI connection; unknown names are ignored.
        unsafe { pg_sys::SPI_unregister_relation(RELATION.as_ptr()) };
        // SAFETY: made above; nothing reads it any more.
        unsafe { pg_sys::tuplestore_end(self.store) };
    }
}

fn descriptor(symbol_collation: pg_sys::Oid) -> Result<pg_sys::TupleDesc> {
    // SAFETY: allocates in the current memory context.
    let descriptor = unsafe { pg_sys::CreateTemplateTupleDesc(COLUMNS.len() as c_int) };
    for (index, (name, sql_type)) in COLUMNS.iter().enumerate() {
        let number = (index + 1) as pg_sys::AttrNumber;
        let name = CString::new(*name).map_err(|error| Error::Internal { why: error.to_string() })?;
        let (oid, typmod) = type_of(sql_type);
        // SAFETY: the number is within the descriptor; the name is copied.
        unsafe { pg_sys::TupleDescInitEntry(descriptor, number, name.as_ptr(), oid, typmod, 0) };
        if COLUMNS[index].0 == "symbol" {
            // SAFETY: the entry was made above.
            unsafe { pg_sys::TupleDescInitEntryCollation(descriptor, number, symbol_collation) };
        }
    }
    Ok(descriptor)
}

/// Oid and type modifier of the types in [`COLUMNS`]; a numeric's modifier is precision and scale as in `numeric.c`.
fn type_of(sql_type: &str) -> (pg_sys::Oid, i32) {
    let numeric = |precision: i32, scale: i32| (precision << 16 | scale) + pg_sys::VARHDRSZ as i32;
    match sql_type {
        "timestamptz" => (pg_sys::TIMESTAMPTZOID, -1),
        "text" => (pg_sys::TEXTOID, -1),
        "bigint" => (pg_sys::INT8OID, -1),
        "boolean" => (pg_sys::BOOLOID, -1),
        "numeric(18,8)" => (pg_sys::NUMERICOID, numeric(18, 8)),
        _ => (pg_sys::NUMERICOID, numeric(24, 12)),
    }
}

// ── Errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────

// pgrx knows the standard's SQLSTATEs only and turns others into XX000, so ours are raised without it.
unsafe extern "C-unwind" {
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errcode(code: c_int) -> c_int;
    fn errmsg(format: *const c_char, ...) -> c_int;
    fn errdetail(format: *const c_char, ...) -> c_int;
    fn errhint(format: *const c_char, ...) -> c_int;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

/// Raises an ERROR with any SQLSTATE. The caller holds nothing that needs dropping: control leaves by `longjmp`.
pub fn raise(sqlstate: &str, message: &str, detail: Option<&str>, hint: Option<&str>) -> ! {
    // Texts are copied into memory that PostgreSQL frees with the transaction.
    let copy = |text: &str| -> *const c_char {
        let clean: String = text.chars().filter(|c| *c != '\0').collect();
        // SAFETY: pstrdup copies a NUL-terminated string.
        CString::new(clean).map_or(std::ptr::null(), |text| unsafe { pg_sys::pstrdup(text.as_ptr()) }.cast_const())
    };
    let (message, detail, hint) = (copy(message), detail.map(&copy), hint.map(&copy));
    // SAFETY: the protocol of ereport(ERROR, …): errstart, fields, errfinish, which does not return. Every format is
    // "%s" with one NUL-terminated argument.
    unsafe {
        if errstart(PgLogLevel::ERROR as c_int, std::ptr::null()) {
            errcode(packed(sqlstate));
            errmsg(c"%s".as_ptr(), message);
            if let Some(detail) = detail {
                errdetail(c"%s".as_ptr(), detail);
            }
            if let Some(hint) = hint {
                errhint(c"%s".as_ptr(), hint);
            }
            errfinish(c"btc_ingest".as_ptr(), 0, std::ptr::null());
        }
    }
    std::process::abort()
}

/// `MAKE_SQLSTATE`: six bits per character.
fn packed(sqlstate: &str) -> c_int {
    sqlstate.bytes().take(5).enumerate().map(|(place, byte)| ((i32::from(byte) - 0x30) & 0x3f) << (6 * place)).sum()
}

#[cfg(any(test, feature = "pg_test"))]
pub mod test_support {
    //! What PostgreSQL itself makes of a tuple, to compare ours with.

    use super::*;

    /// The bytes that `heap_form_minimal_tuple` makes of one row of a query with the columns of an encoded tuple.
    pub fn formed_by_postgres(datums: &mut [pg_sys::Datum], nulls: &mut [bool]) -> Vec<u8> {
        let descriptor = descriptor(pg_sys::C_COLLATION_OID).unwrap_or(std::ptr::null_mut());
        // SAFETY: as many datums and flags as the descriptor has columns, of its types.
        let tuple = unsafe { pg_sys::heap_form_minimal_tuple(descriptor, datums.as_mut_ptr(), nulls.as_mut_ptr()) };
        // SAFETY: a MinimalTuple begins with its own length in bytes.
        unsafe { std::slice::from_raw_parts(tuple.cast::<u8>(), (*tuple).t_len as usize) }.to_vec()
    }
}
