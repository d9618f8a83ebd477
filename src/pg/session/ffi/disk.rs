//! Free space of the file system under a path.

use std::ffi::CStr;

/// Bytes of a file system, without those that only root may use.
#[derive(Debug, Clone, Copy)]
pub struct Disk {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that are used.
    pub used: u64,
}

/// Returns the file system that holds `path`. Returns `None` if the path cannot be read.
pub fn disk(path: &CStr) -> Option<Disk> {
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is NUL-terminated, and `found` has room for the structure that the call writes.
    let code = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    // SAFETY: the call has written the whole structure if it has returned zero.
    let found = (code == 0).then(|| unsafe { found.assume_init() })?;
    let bytes = |blocks: u64| blocks * found.f_frsize;
    Some(Disk { free: bytes(found.f_bavail), used: bytes(found.f_blocks - found.f_bfree) })
}
