//! Memory of PostgreSQL for one run.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use super::calls::MemoryContextReset;

/// A memory context that is emptied after each run. An error frees it with its parent.
pub struct Scratch(pg_sys::MemoryContext);

impl Scratch {
    /// Makes a context below the current one.
    pub fn new() -> Self {
        // SAFETY: called inside a transaction, whose memory context is current; the name is a static string.
        Self(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"btc_ingest index fill".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                256 * 1024,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    /// Runs calls of PostgreSQL with this context as the current one, behind a guard. The closure must own nothing
    /// that needs dropping: PostgreSQL's longjmp may leave it.
    pub fn guarded<T: Copy>(&self, calls: impl FnOnce() -> T) -> T {
        let context = self.0;
        let within = || {
            // SAFETY: `self` keeps the context alive. After an error, PostgreSQL sets another one.
            let before = unsafe { std::ptr::replace(&raw mut pg_sys::CurrentMemoryContext, context) };
            let result = calls();
            // SAFETY: `before` was current when this closure began, and nothing has freed it.
            unsafe { pg_sys::CurrentMemoryContext = before };
            result
        };
        // SAFETY: this closure owns nothing that needs dropping but the calls, which own nothing either.
        unsafe { pg_guard_ffi_boundary(within) }
    }

    /// Frees what was allocated since the last reset.
    pub fn reset(&self) {
        // SAFETY: `self` keeps the context alive, and it is not current outside of `guarded`. Freeing raises no error.
        unsafe { MemoryContextReset(self.0) };
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the context is alive: only an end of the transaction frees it before, and a value of this type does
        // not outlive the call that appends.
        unsafe { pg_sys::MemoryContextDelete(self.0) };
    }
}
