//! The SQLSTATEs of errors that pgrx does not know, for example that of a user's trigger. On the way from PostgreSQL
//! through Rust and back, pgrx keeps message, detail and hint of an error, but turns its SQLSTATE into XX000.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, c_int, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::prelude::*;

// Without pgrx's guard: an error in them must leave by PostgreSQL's own longjmp, past the callback below, which holds
// nothing that must be dropped.
unsafe extern "C-unwind" {
    fn geterrcode() -> c_int;
    fn errcode(code: c_int) -> c_int;
    fn CopyErrorData() -> *mut pg_sys::ErrorData;
    fn FreeErrorData(data: *mut pg_sys::ErrorData);
}

thread_local! {
    /// What PostgreSQL calls for each error of the statements that run in [`with_sqlstates`]. There is one of it in the
    /// list of callbacks, however often they are nested.
    static CALLBACK: UnsafeCell<pg_sys::ErrorContextCallback> = const {
        UnsafeCell::new(pg_sys::ErrorContextCallback {
            previous: std::ptr::null_mut(),
            callback: Some(error_raised),
            arg: std::ptr::null_mut(),
        })
    };
    /// SQLSTATE and hash of the message of the last error that pgrx does not know.
    static UNKNOWN: Cell<Option<(c_int, u64)>> = const { Cell::new(None) };
}

/// Runs statements. If one raises an error, its SQLSTATE is that of the failure that catches it, or of the error that
/// the client gets.
///
/// PostgreSQL calls the callback when a statement raises the error, and again when pgrx raises it for the client. So an
/// error that unwinds leaves the callback in the list: the code that catches it sets the list back.
pub fn with_sqlstates<T>(work: impl FnOnce() -> T) -> T {
    let callback = CALLBACK.with(UnsafeCell::get);
    // SAFETY: a variable that only this thread writes.
    let before = unsafe { pg_sys::error_context_stack };
    if is_listed(callback, before) {
        return work();
    }
    // SAFETY: the callback lives as long as the thread, and is in no list.
    unsafe { (*callback).previous = before };
    // SAFETY: as above. What is below the callback belongs to frames that are still there.
    unsafe { pg_sys::error_context_stack = callback };
    let result = work();
    restore_callbacks(before);
    result
}

/// Sets the list of callbacks back, after an error was caught. It must be a list of frames that are still there.
pub fn restore_callbacks(list: *mut pg_sys::ErrorContextCallback) {
    // SAFETY: each caller passes the list that it has found when it began.
    unsafe { pg_sys::error_context_stack = list };
}

/// Returns the list of callbacks, for [`restore_callbacks`].
pub fn callbacks() -> *mut pg_sys::ErrorContextCallback {
    // SAFETY: a variable that only this thread writes.
    unsafe { pg_sys::error_context_stack }
}

/// Returns the SQLSTATE of an error that was caught: the one that pgrx has, unless it does not know the error's own.
pub fn sqlstate_of(code: c_int, message: &str) -> c_int {
    match UNKNOWN.take() {
        Some((unknown, hash)) if code == INTERNAL && hash == hash_of(message.as_bytes()) => unknown,
        _ => code,
    }
}

/// XX000, also for every SQLSTATE that pgrx does not know.
const INTERNAL: c_int = PgSqlErrorCode::ERRCODE_INTERNAL_ERROR as c_int;

fn is_listed(callback: *mut pg_sys::ErrorContextCallback, mut list: *mut pg_sys::ErrorContextCallback) -> bool {
    while !list.is_null() && list != callback {
        // SAFETY: each element belongs to a frame that is still there, as PostgreSQL requires.
        list = unsafe { (*list).previous };
    }
    !list.is_null()
}

/// Remembers the SQLSTATE of an error that pgrx does not know, and gives it back to the error that pgrx raises instead.
unsafe extern "C-unwind" fn error_raised(_arg: *mut c_void) {
    // SAFETY: PostgreSQL calls a callback for an error that is being raised, as the call requires.
    let code = unsafe { geterrcode() };
    if code != INTERNAL && PgSqlErrorCode::from(code) as c_int == code {
        return;
    }
    // The message may be large, and PostgreSQL's memory for errors small.
    // SAFETY: a variable that only this thread writes.
    let memory = unsafe { pg_sys::CurrentMemoryContext };
    // SAFETY: TopMemoryContext lives as long as the process.
    unsafe { pg_sys::CurrentMemoryContext = pg_sys::TopMemoryContext };
    // SAFETY: as for geterrcode; the memory context is not the one for errors.
    let data = unsafe { CopyErrorData() };
    // SAFETY: the call returns a copy of the error. Its message is null or a NUL-terminated text.
    let message = unsafe { (*data).message };
    // As pgrx reads it.
    let hash = if message.is_null() {
        hash_of(b"<null error message>")
    } else {
        // SAFETY: as above.
        hash_of(unsafe { CStr::from_ptr(message) }.to_bytes())
    };
    // SAFETY: the copy was made above, and nothing of it is used any more.
    unsafe { FreeErrorData(data) };
    // SAFETY: the context that was current before.
    unsafe { pg_sys::CurrentMemoryContext = memory };
    if code != INTERNAL {
        UNKNOWN.set(Some((code, hash)));
    } else if let Some((unknown, _)) = UNKNOWN.get().filter(|(_, known)| *known == hash) {
        // SAFETY: as for geterrcode.
        unsafe { errcode(unknown) };
    }
}

fn hash_of(message: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}
